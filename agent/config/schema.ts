// The one description of eniboot's configuration. Types, validation, `config schema` and the reference table in
// docs/configuration.md are all derived from it. The configuration says what should exist, never what to do. Rules about more
// than one value are in crosscheck.ts.
import * as v from 'valibot';
import { whole } from './whole.ts';

const octet = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';
const address = `${octet}(?:\\.${octet}){3}`;
// Only the form of an IPv6 address; crosscheck.ts decides whether it is one.
const address6 = '(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}';
const parameter = 'ssm:/[\\w./-]+';
const filePath = '/(?:[\\w.-]+/)*[\\w.-]+';

/** Text of one form, or `ssm:/path`, which is read from Parameter Store at boot (parameters.ts). */
function textOrParameter(form: string, message: string, example: string) {
  return v.pipe(
    v.string(),
    v.regex(new RegExp(`^(?:${form}|${parameter})$`), message),
    v.examples([example]),
  );
}

const cidr4 = `${address}/(?:3[0-2]|[12]?\\d)`;
const cidr6 = `${address6}/(?:12[0-8]|1[01]\\d|[1-9]?\\d)`;
const cidr = textOrParameter(cidr4, 'is not an IPv4 CIDR', '10.0.0.0/16');
const anyCidr = textOrParameter(`(?:${cidr4}|${cidr6})`, 'is not an IPv4 or IPv6 CIDR', '10.96.0.0/12');
const dnsAddress = textOrParameter(
  `(?:${address}|${address6})`,
  'is not an IPv4 or IPv6 address',
  '10.96.0.10',
);

function resourceId(prefix: string, what: string) {
  return textOrParameter(
    `${prefix}-(?:[0-9a-f]{8}|[0-9a-f]{17})`,
    `is not the ID of a ${what}`,
    `${prefix}-0a1b2c3d4e5f67890`,
  );
}

function seconds(minimum: number, maximum: number, description: string) {
  return whole(minimum, maximum, ' of seconds', description);
}

function count(minimum: number, maximum: number, description: string) {
  return whole(minimum, maximum, '', description);
}

// EC2's restrictions on tags: keys of 1 to 128 characters, values of up to 256, 50 tags on a resource.
const tagKey = v.pipe(
  v.string(),
  v.minLength(1, 'has an empty tag key'),
  v.maxLength(128, 'has a tag key longer than the 128 characters EC2 allows'),
);
const tagValue = v.pipe(
  v.string(),
  v.maxLength(256, 'is longer than the 256 characters EC2 allows in a tag'),
  v.examples(['production']),
);

/** Subnets or security groups, named by ID or found by tags: exactly one of the two. */
function byIdOrTags(prefix: string, what: string, most: number, text: string) {
  return v.pipe(
    v.union([
      v.strictObject({
        ids: v.pipe(
          v.array(resourceId(prefix, what)),
          v.minLength(1, 'is empty'),
          v.maxLength(most, `has more than ${most} entries`),
          v.description(
            `IDs of ${what}s. A parameter may hold several, separated by commas (type StringList).`,
          ),
        ),
      }),
      v.strictObject({
        tags: v.pipe(
          v.record(tagKey, tagValue),
          v.minEntries(1, 'is empty'),
          v.description(`Tags that a ${what} must have, all of them.`),
        ),
      }),
    ]),
    v.description(text),
  );
}

export const configSchema = v.strictObject({
  cluster: v.pipe(
    textOrParameter('[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}', 'is not a cluster name', 'production'),
    v.description(
      'Name of the cluster: 1 to 63 letters, digits, dots, dashes and underscores. A tag on every ENI, and what `eni sweep` is limited to.',
    ),
  ),
  pods: v.pipe(
    v.strictObject({
      subnets: byIdOrTags(
        'subnet',
        'subnet',
        16,
        "Where pod ENIs are created. Only subnets in the node's own zone are used, the one with the most free addresses first.",
      ),
      securityGroups: v.optional(
        byIdOrTags(
          'sg',
          'security group',
          16,
          'Security groups of pod ENIs; without it, those of the boot ENI. EC2 allows 5 on an ENI, up to 16 when the quota is raised.',
        ),
      ),
      addressing: v.optional(
        v.pipe(
          v.picklist(['auto', 'prefixes', 'addresses']),
          v.description(
            '`auto`: /28 prefixes where the instance type allows them, single addresses elsewhere.',
          ),
        ),
        'auto',
      ),
      max: v.optional(
        count(1, 1000, 'Upper bound of pods on the node; its real capacity is used when that is lower.'),
        110,
      ),
      routes: v.optional(
        v.pipe(
          v.array(cidr),
          v.maxLength(256, 'has more than 256 entries'),
          v.description(
            "CIDRs beyond the VPC's own that pods reach without NAT, through their own ENI (peered VPCs, a transit gateway). A `route` entry in `egress.table` does the same; use that for a part of a CIDR that has NAT.",
          ),
        ),
        [],
      ),
      ipFamily: v.optional(
        v.pipe(
          v.picklist(['ipv4', 'dual-stack']),
          v.description(
            '`dual-stack`: each pod has an IPv6 address beside its IPv4 one, from a /80 prefix of its ENI. IPv6 traffic leaves through the ENI without NAT. The pod subnets need an IPv6 CIDR.',
          ),
        ),
        'ipv4',
      ),
      allowImds: v.optional(
        v.pipe(
          v.boolean(),
          v.description(
            "Whether pods may reach the instance metadata service, and with it the node's role. Over IPv4, through the node; IPv6 stays refused. Needs a hop limit of 2 in the instance's metadata options.",
          ),
        ),
        false,
      ),
      bandwidth: v.optional(
        v.pipe(
          v.strictObject({
            from: v.pipe(
              v.picklist(['cpu', 'annotations']),
              v.description(
                "`cpu`: a pod's share of the baseline bandwidth is its CPU limit, or else its CPU request, divided by the node's CPUs. `annotations`: only a pod's own annotations limit it. Either way the annotations `kubernetes.io/ingress-bandwidth` and `kubernetes.io/egress-bandwidth` of a pod apply.",
              ),
            ),
            floorMbps: v.optional(
              count(
                1,
                100_000,
                'With `cpu`: the least that a pod gets, in Mbit/s, even when it requests no CPU.',
              ),
              100,
            ),
            baselineMbps: v.optional(
              count(
                1,
                1_000_000,
                "With `cpu`: the bandwidth that is shared, in Mbit/s; by default the published baseline of the instance type's default network card.",
              ),
            ),
          }),
          v.description(
            'Bandwidth limits of pods, in both directions on both links. Without this section no pod is limited.',
          ),
        ),
      ),
    }),
    v.description('Where pod addresses come from and what they reach.'),
  ),
  pool: v.optional(
    v.pipe(
      v.strictObject({
        target: v.optional(
          count(
            1,
            1000,
            'Addresses in the pool when the node reports READY; by default one for each pod of `pods.max`.',
          ),
        ),
        lowWater: v.optional(
          count(
            0,
            1000,
            'With fewer free addresses than this, and room for more pods, eniboot asks EC2 for more: first on attached ENIs, then with another ENI.',
          ),
          8,
        ),
        surplus: v.optional(
          count(
            32,
            1000,
            'With more free addresses than `lowWater` plus this, idle prefixes and ENIs go back to EC2. The pool never shrinks below `target`.',
          ),
          32,
        ),
        restSeconds: v.optional(
          seconds(0, 3600, 'Seconds an address rests after its pod is gone, before another pod may have it.'),
          60,
        ),
      }),
      v.description('The pool of addresses kept ready on the node.'),
    ),
    {},
  ),
  egress: v.optional(
    v.pipe(
      v.strictObject({
        table: v.optional(
          v.pipe(
            v.array(
              v.strictObject({
                cidr: v.pipe(cidr, v.description('Destination.')),
                action: v.pipe(
                  v.picklist(['route', 'snat', 'snat-keep-port']),
                  v.description(
                    "`route`: unchanged, through the pod's ENI. `snat`: through the boot ENI, from the node's primary address. `snat-keep-port`: the same, and the source port is kept if it is free.",
                  ),
                ),
              }),
            ),
            v.maxLength(256, 'has more than 256 entries'),
            v.description(
              'Destinations with special treatment; the longest prefix wins. Without an entry: `route` inside the VPC and `pods.routes`, `snat` for everything else.',
            ),
          ),
          [],
        ),
        publicAddress: v.optional(
          v.pipe(
            v.picklist(['ignore', 'require', 'request']),
            v.description(
              'A public IPv4 address on the boot ENI. `ignore`: not needed (NAT gateway, private egress). `require`: the boot fails without one. `request`: the boot first asks EC2 for one.',
            ),
          ),
          'ignore',
        ),
      }),
      v.description('How pods leave the VPC.'),
    ),
    {},
  ),
  kubernetes: v.optional(
    v.pipe(
      v.strictObject({
        serviceCidrs: v.optional(
          v.pipe(
            v.array(anyCidr),
            v.maxLength(8, 'has more than 8 entries'),
            v.description(
              'Service CIDRs of the cluster; with `pods.ipFamily: dual-stack`, those of both families. Pods send IPv6 Service traffic to the node and all other IPv6 traffic to their ENI.',
            ),
          ),
          [],
        ),
        clusterDns: v.optional(
          v.pipe(
            v.array(dnsAddress),
            v.maxLength(3, 'has more than the 3 name servers a resolver uses'),
            v.description('Addresses of the cluster DNS, for kubelet.'),
          ),
          [],
        ),
        clusterDomain: v.optional(
          v.pipe(
            v.string(),
            v.regex(
              /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/,
              'is not a DNS domain in lower case',
            ),
            v.examples(['cluster.local']),
            v.description('Domain of the cluster, for kubelet.'),
          ),
          'cluster.local',
        ),
        labels: v.optional(
          v.pipe(
            v.record(
              v.string(),
              v.pipe(
                v.string(),
                v.regex(
                  /^(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$/,
                  'is not a label value (at most 63 letters, digits, dots, dashes and underscores, none of these three at its ends)',
                ),
                v.examples(['batch']),
              ),
            ),
            v.maxEntries(64, 'has more than 64 entries'),
            v.description(
              'Node labels beside those for zone, region and instance type, which are always set.',
            ),
          ),
          {},
        ),
      }),
      v.description('What kubelet is told about the cluster.'),
    ),
    {},
  ),
  apiServer: v.optional(
    v.pipe(
      v.strictObject({
        endpoint: v.pipe(
          textOrParameter(
            'https://(?:[A-Za-z0-9.-]+|\\[[0-9A-Fa-f:]+\\])(?::\\d{1,5})?',
            'is not https://host or https://host:port',
            'https://api.example.com:6443',
          ),
          v.description('https://host[:port] of the API server, tried before READY.'),
        ),
        required: v.optional(
          v.pipe(
            v.boolean(),
            v.description('Fail the boot when it cannot be reached; otherwise it is a warning.'),
          ),
          false,
        ),
      }),
      v.description(
        'The API server, whose reachability is part of the verdict. Without this section it is not tried.',
      ),
    ),
  ),
  boot: v.optional(
    v.pipe(
      v.strictObject({
        deadlineSeconds: v.optional(
          seconds(
            10,
            3600,
            'Seconds for the whole boot, on the boot clock: a restart of the agent does not renew it.',
          ),
          300,
        ),
        throttleExtensionSeconds: v.optional(
          seconds(
            0,
            3600,
            'Seconds that may be added, at most, for time in which EC2 throttled this account.',
          ),
          300,
        ),
        onFailure: v.optional(
          v.pipe(
            v.picklist(['hold', 'reboot-once', 'terminate']),
            v.description(
              'What to do when the boot has failed for good. `hold`: leave the machine up for a look. `reboot-once`: reboot, but not twice in a row. `terminate`: terminate the instance, which the node role must allow.',
            ),
          ),
          'hold',
        ),
      }),
      v.description('Time for a boot, and what follows when it fails.'),
    ),
    {},
  ),
  aws: v.optional(
    v.pipe(
      v.strictObject({
        endpoints: v.optional(
          v.pipe(
            v.strictObject({
              ec2: v.optional(endpointUrl('EC2', 'ec2')),
              ssm: v.optional(endpointUrl('Systems Manager', 'ssm')),
            }),
            v.description('Interface-endpoint addresses; without them the public endpoints of the region.'),
          ),
          {},
        ),
        tags: v.optional(
          v.pipe(
            v.record(tagKey, tagValue),
            v.maxEntries(40, 'has more than 40 entries (EC2 allows 50, eniboot needs up to 10)'),
            v.description('Tags added to every ENI this node creates.'),
          ),
          {},
        ),
      }),
      v.description('How EC2 is reached, and what is written there.'),
    ),
    {},
  ),
  join: v.optional(
    v.pipe(
      v.strictObject({
        token: v.pipe(
          v.string(),
          v.regex(
            new RegExp(`^(?:${parameter}|${filePath})$`),
            'is neither ssm:/path nor the path of a file: a token that stood here would be read by every pod that reaches instance metadata, and by every user who may describe the instance',
          ),
          v.examples(['ssm:/eniboot/production/join-token']),
          v.description(
            'Where the bootstrap token is: a parameter of type SecureString (`ssm:/path`), or a file. Never the token itself. Read at each boot.',
          ),
        ),
        ca: v.pipe(
          textOrParameter(
            `${filePath}|-----BEGIN CERTIFICATE-----[\\s\\S]+`,
            'is neither the path of a file nor a certificate in PEM',
            '/etc/kubernetes/pki/ca.crt',
          ),
          v.description(
            "The cluster's certificate authority: the path of a file in PEM, or the PEM itself, for example from a parameter.",
          ),
        ),
        caCertHashes: v.pipe(
          v.array(
            v.pipe(
              v.string(),
              v.regex(/^sha256:[0-9a-f]{64}$/, 'is not sha256: and 64 hexadecimal digits in lower case'),
              v.examples(['sha256:7c2e69131a36ae2a042a339b33381c6d0d43887e2de83720eff5359e26aec866']),
            ),
          ),
          v.minLength(1, 'is empty'),
          v.maxLength(4, 'has more than 4 entries'),
          v.description(
            "Digests of the public keys that the CA's certificates may have, as `kubeadm token create --print-join-command` prints them. Two while the CA is being changed.",
          ),
        ),
      }),
      v.description(
        'What kubelet joins the cluster with: a bootstrap kubeconfig in /run/eniboot/join for the API server of `apiServer.endpoint` (docs/join.md). Without this section eniboot takes no part in joining.',
      ),
    ),
  ),
  policy: v.optional(
    v.pipe(
      v.strictObject({
        strict: v.optional(
          v.pipe(
            v.boolean(),
            v.description(
              '`true`: each new pod is closed until its rules are known. `false`: only a pod whose namespace has a policy is closed; after a boot each pod is closed until the service has read all policies once.',
            ),
          ),
          false,
        ),
        logDenied: v.optional(
          v.pipe(
            v.boolean(),
            v.description(
              'Denied packets are named in the journal of eniboot-policy.service, at most five a second for each pod and direction. Needs nfnetlink_log in the kernel.',
            ),
          ),
          false,
        ),
        nodeName: v.optional(
          v.pipe(
            v.string(),
            v.regex(
              /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/,
              'is not the name of a node',
            ),
            v.examples(['ip-10-0-0-5.eu-central-1.compute.internal']),
            v.description("The node's name in the cluster; by default the host's name, as kubelet's."),
          ),
        ),
        identity: v.pipe(
          v.strictObject({
            ca: pemFile('Certificate authority of the API server.', '/etc/kubernetes/pki/ca.crt'),
            token: v.optional(
              pemFile(
                'Token of a ServiceAccount; read again for each request, so a renewal replaces the file.',
                '/var/lib/eniboot-policy/token',
              ),
            ),
            certificate: v.optional(
              pemFile('Client certificate, in place of a token.', '/var/lib/eniboot-policy/client.crt'),
            ),
            key: v.optional(pemFile('Its key.', '/var/lib/eniboot-policy/client.key')),
          }),
          v.description(
            "Files with which eniboot-policy.service identifies itself to the API server. Use an identity that has the rights of docs/examples/policy-rbac.yaml; kubelet's identity is not enough, since it may read only the pods of its own node.",
          ),
        ),
      }),
      v.description(
        "Kubernetes' network policies in force for pods, by eniboot-policy.service (docs/network-policy.md). Needs `apiServer.endpoint`. Without this section the service does not run.",
      ),
    ),
  ),
  bundle: v.optional(
    v.pipe(
      v.strictObject({
        parameter: v.optional(
          v.pipe(
            v.string(),
            v.regex(
              /^\/(?:[\w.-]|\/|\{zone-id\})+$/,
              'is not the path of a parameter (a leading slash; letters, digits, dots, dashes, slashes; `{zone-id}`)',
            ),
            v.examples(['/eniboot/bundle/{zone-id}']),
            v.description('Its path; `{zone-id}` is replaced by the zone ID, such as use1-az1.'),
          ),
          '/eniboot/bundle/{zone-id}',
        ),
        keys: v.optional(
          v.pipe(
            v.array(
              v.pipe(
                v.string(),
                v.regex(
                  // 12 bytes say Ed25519, 32 are the key. Source: RFC 8410, section 4.
                  /^MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}=$/,
                  'is not an Ed25519 public key in base64 (60 characters, as `openssl pkey -in FILE -pubout` writes them between its first and last line)',
                ),
                v.examples(['MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=']),
              ),
            ),
            v.maxLength(10, 'has more than 10 entries'),
            v.description(
              'Public keys, one of which must have signed a version before it is taken, by a boot or by `eniboot update`. Empty: none needs a signature.',
            ),
          ),
          [],
        ),
        lowest: v.optional(
          v.pipe(
            v.string(),
            v.regex(/^\d+\.\d+\.\d[\w.-]*$/, 'is not a version, such as 1.4.0'),
            v.examples(['1.4.0']),
            v.description('The lowest version that is taken; the one that ran before is taken all the same.'),
          ),
        ),
      }),
      v.description(
        'The parameter that holds the version of eniboot for this zone, and its digest. Without this section the version in the image is used.',
      ),
    ),
  ),
});

export type Config = v.InferOutput<typeof configSchema>;

function pemFile(description: string, example: string) {
  return v.pipe(
    v.string(),
    v.regex(new RegExp(`^${filePath}$`), 'is not an absolute path of a file'),
    v.examples([example]),
    v.description(description),
  );
}

function endpointUrl(service: string, host: string) {
  return v.pipe(
    v.string(),
    v.regex(
      /^https?:\/\/(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?\/?$/,
      'is not an http:// or https:// address of a host',
    ),
    v.examples([`https://vpce-0a1b2c3d.${host}.eu-central-1.vpce.amazonaws.com`]),
    v.description(`Address of ${service}.`),
  );
}
