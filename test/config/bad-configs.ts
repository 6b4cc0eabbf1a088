// Wrong configurations as operators write them, each with the report that it must get. `value`, `suggestion`: as reported; absent
// means that none may be reported. `remedy`: a distinctive word of the remedy.

interface Said {
  path: string;
  line: number;
  column?: number;
  value?: string;
  problem: RegExp;
  remedy: RegExp;
  suggestion?: string;
}

export interface BadConfig {
  name: string;
  text: string | Uint8Array;
  says: Said[];
  /** `schema`: a JSON Schema validator must refuse it, too. `text`: not even a document. `cross`: only eniboot can tell. */
  kind: 'schema' | 'text' | 'cross';
}

/** A good configuration of five lines. A case adds lines from line 6 on. */
function after(...lines: string[]): string {
  return [
    'cluster: prod',
    'pods:',
    '  subnets:',
    '    ids: [subnet-0a1b2c3d4e5f67890]',
    '  max: 100',
    ...lines,
    '',
  ].join('\n');
}

export const goodText = after();

/** A section `join` in line 7, below an API server. */
const joining = (token: string, ca = '/ca.crt', hash = `sha256:${'0'.repeat(64)}`) =>
  after(
    'apiServer: { endpoint: "https://api.example.com" }',
    `join: { token: ${token}, ca: ${ca}, caCertHashes: ["${hash}"] }`,
  );
/** What is said of a token that stands in the configuration: never the token. */
const literalToken: Said = {
  path: 'join.token',
  line: 7,
  value: '(hidden)',
  problem: /would be read by every pod that reaches instance metadata/,
  remedy: /Write it like ssm:\/eniboot\/production\/join-token\.$/,
};

export const badConfigs: BadConfig[] = [
  {
    name: 'a bootstrap token in the configuration',
    kind: 'schema',
    text: joining('07401b.f395accd246ae52d'),
    says: [literalToken],
  },
  {
    name: 'a bootstrap token with blanks around it: none is suggested without them',
    kind: 'schema',
    text: joining('" 07401b.f395accd246ae52d "'),
    says: [{ ...literalToken, remedy: /Remove them/ }],
  },
  {
    name: 'a bootstrap token that YAML takes for a number: its digits are not said',
    kind: 'schema',
    text: joining('123456.1234567890123456'),
    says: [{ ...literalToken, problem: /must be text/, remedy: /in quotes/ }],
  },
  {
    name: 'a CA that is neither a file nor a certificate',
    kind: 'schema',
    text: joining('/token', 'ca.crt'),
    says: [
      {
        path: 'join.ca',
        line: 7,
        value: '"ca.crt"',
        problem: /neither the path of a file nor a certificate/,
        remedy: /Write it like \//,
      },
    ],
  },
  {
    name: 'a digest of a CA in capitals',
    kind: 'schema',
    text: joining('/token', '/ca.crt', `sha256:${'A'.repeat(64)}`),
    says: [
      {
        path: 'join.caCertHashes[0]',
        line: 7,
        value: `"sha256:${'A'.repeat(64)}"`,
        problem: /is not sha256: and 64 hexadecimal digits/,
        remedy: /Write it in lower case/,
        suggestion: `sha256:${'a'.repeat(64)}`,
      },
    ],
  },
  {
    name: 'joining without an API server',
    kind: 'cross',
    text: after(`join: { token: /token, ca: /ca.crt, caCertHashes: ["sha256:${'0'.repeat(64)}"] }`),
    says: [
      { path: 'join', line: 6, problem: /has no API server to join/, remedy: /Set `apiServer.endpoint`/ },
    ],
  },
  {
    name: 'network policies without an API server to ask',
    kind: 'cross',
    text: after('policy:', '  identity: { ca: /ca.crt, token: /token }'),
    says: [
      {
        path: 'policy',
        line: 6,
        value: '(hidden)',
        problem: /has no API server to ask/,
        remedy: /Set `apiServer.endpoint`/,
      },
    ],
  },
  {
    name: 'a certificate without its key for network policies',
    kind: 'cross',
    text: after(
      'apiServer: { endpoint: "https://api.example.com" }',
      'policy:',
      '  identity: { ca: /ca.crt, certificate: /client.crt }',
    ),
    says: [
      {
        path: 'policy.identity',
        line: 8,
        value: '{"ca":"/ca.crt","certificate":"/client.crt"}',
        problem: /neither a token nor a certificate with its key/,
        remedy: /Give `token`, or/,
      },
    ],
  },
  {
    name: 'a relative path of a certificate',
    kind: 'schema',
    text: after(
      'apiServer: { endpoint: "https://api.example.com" }',
      'policy:',
      '  identity: { ca: ca.crt, token: /token }',
    ),
    says: [
      {
        path: 'policy.identity.ca',
        line: 8,
        value: '"ca.crt"',
        problem: /is not an absolute path of a file/,
        remedy: /Write it like/,
      },
    ],
  },
  {
    name: 'a key of another kind',
    kind: 'schema',
    text: after('bundle:', '  keys: [ssh-ed25519 AAAA]'),
    says: [
      {
        path: 'bundle.keys[0]',
        line: 7,
        value: '"ssh-ed25519 AAAA"',
        problem: /is not an Ed25519 public key in base64/,
        remedy: /Write it like/,
      },
    ],
  },
  {
    name: 'misspelt key at the top',
    kind: 'schema',
    text: after('kubernets:', '  clusterDomain: a.b'),
    says: [
      {
        path: 'kubernets',
        line: 6,
        column: 1,
        value: '{"clusterDomain":"a.b"}',
        problem: /unknown key/,
        remedy: /`kubernetes` instead/,
        suggestion: 'kubernetes',
      },
    ],
  },
  {
    name: 'misspelt required key is reported once, not also as missing',
    kind: 'schema',
    text: 'clustr: prod\npods:\n  subnets:\n    ids: [subnet-0a1b2c3d]\n',
    says: [
      {
        path: 'clustr',
        line: 1,
        value: '"prod"',
        problem: /unknown key/,
        remedy: /`cluster`/,
        suggestion: 'cluster',
      },
    ],
  },
  {
    name: 'key in wrong case',
    kind: 'schema',
    text: after('kubernetes:', '  serviceCIDRs: [10.96.0.0/16]'),
    says: [
      {
        path: 'kubernetes.serviceCIDRs',
        line: 7,
        column: 3,
        value: '["10.96.0.0/16"]',
        problem: /unknown key/,
        remedy: /instead/,
        suggestion: 'kubernetes.serviceCidrs',
      },
    ],
  },
  {
    name: 'key in the wrong place',
    kind: 'schema',
    text: after('serviceCidrs: [10.96.0.0/16]'),
    says: [
      {
        path: 'serviceCidrs',
        line: 6,
        value: '["10.96.0.0/16"]',
        problem: /unknown key/,
        remedy: /Move it to/,
        suggestion: 'kubernetes.serviceCidrs',
      },
    ],
  },
  {
    name: 'key that resembles no known key',
    kind: 'schema',
    text: after('zorp: 1'),
    says: [
      { path: 'zorp', line: 6, value: '1', problem: /unknown key/, remedy: /Known here: cluster, pods/ },
    ],
  },
  ...['pwd', 'pass', 'authorization', 'registryAuth', 'apiKey', 'api_key', 'access-key', 'accessKeyId'].map(
    (key): BadConfig => ({
      name: `the value of ${key} is not printed`,
      kind: 'schema',
      text: after(`registry: { ${key}: hunter2 }`),
      says: [{ path: 'registry', line: 6, value: '(hidden)', problem: /unknown key/, remedy: /Remove it/ }],
    }),
  ),
  {
    name: 'a secret under an unknown key is not printed',
    kind: 'schema',
    text: after('bootstrapToken: abcdef.0123456789abcdef'),
    says: [
      { path: 'bootstrapToken', line: 6, value: '(hidden)', problem: /unknown key/, remedy: /Remove it/ },
    ],
  },
  {
    name: 'cluster missing',
    kind: 'schema',
    text: 'pods:\n  subnets:\n    ids: [subnet-0a1b2c3d]\n',
    says: [{ path: 'cluster', line: 1, problem: /is missing/, remedy: /Add `cluster`/ }],
  },
  {
    name: 'subnets missing',
    kind: 'schema',
    text: 'cluster: prod\npods:\n  max: 20\n',
    says: [{ path: 'pods.subnets', line: 2, problem: /is missing/, remedy: /Add `pods.subnets`/ }],
  },
  {
    name: 'endpoint missing',
    kind: 'schema',
    text: after('apiServer:', '  required: true'),
    says: [{ path: 'apiServer.endpoint', line: 6, problem: /is missing/, remedy: /Add/ }],
  },
  {
    name: 'both IDs and tags',
    kind: 'schema',
    text: 'cluster: prod\npods:\n  subnets:\n    ids: [subnet-0a1b2c3d]\n    tags: {role: pods}\n',
    says: [
      {
        path: 'pods.subnets',
        line: 3,
        value: '{"ids":["subnet-0a1b2c3d"],"tags":{"role":"pods"}}',
        problem: /has both `ids` and `tags`/,
        remedy: /Keep one/,
      },
    ],
  },
  {
    name: 'neither IDs nor tags',
    kind: 'schema',
    text: 'cluster: prod\npods:\n  subnets: {}\n',
    says: [
      {
        path: 'pods.subnets',
        line: 3,
        column: 12,
        value: '{}',
        problem: /neither `ids` nor `tags`/,
        remedy: /Add `ids` or `tags`/,
      },
    ],
  },
  {
    name: 'misspelt alternative',
    kind: 'schema',
    text: 'cluster: prod\npods:\n  subnets:\n    tag: {role: pods}\n',
    says: [
      {
        path: 'pods.subnets.tag',
        line: 4,
        value: '{"role":"pods"}',
        problem: /unknown key/,
        remedy: /`tags` instead/,
        suggestion: 'pods.subnets.tags',
      },
    ],
  },
  {
    name: 'a scalar where a list belongs',
    kind: 'schema',
    text: 'cluster: prod\npods:\n  subnets:\n    ids: subnet-0a1b2c3d\n',
    says: [
      {
        path: 'pods.subnets.ids',
        line: 4,
        column: 10,
        value: '"subnet-0a1b2c3d"',
        problem: /must be a list/,
        remedy: /dash/,
        suggestion: '["subnet-0a1b2c3d"]',
      },
    ],
  },
  {
    name: 'a list where a map belongs',
    kind: 'schema',
    text: after('pool:', '  - target: 10'),
    says: [
      {
        path: 'pool',
        line: 6,
        value: '[{"target":10}]',
        problem: /must be a map/,
        remedy: /target, lowWater, surplus, restSeconds/,
      },
    ],
  },
  {
    name: 'a key without a value: lost indentation',
    kind: 'schema',
    text: 'cluster: prod\npods:\nsubnets:\n  ids: [subnet-0a1b2c3d]\n',
    says: [
      { path: 'pods', line: 2, value: 'null', problem: /has no value/, remedy: /Indent/ },
      {
        path: 'subnets',
        line: 3,
        value: '{"ids":["subnet-0a1b2c3d"]}',
        problem: /unknown key/,
        remedy: /Move it/,
        suggestion: 'pods.subnets',
      },
    ],
  },
  {
    name: 'a value left out',
    kind: 'schema',
    text: after('boot:', '  onFailure:'),
    says: [
      {
        path: 'boot.onFailure',
        line: 7,
        value: 'null',
        problem: /has no value/,
        remedy: /or remove the key/,
      },
    ],
  },
  {
    name: 'the ID of another kind of resource',
    kind: 'schema',
    text: 'cluster: prod\npods:\n  subnets:\n    ids: [vpc-0a1b2c3d4e5f67890]\n',
    says: [
      {
        path: 'pods.subnets.ids[0]',
        line: 4,
        column: 11,
        value: '"vpc-0a1b2c3d4e5f67890"',
        problem: /not the ID of a subnet/,
        remedy: /like subnet-0a1b/,
      },
    ],
  },
  {
    name: 'a placeholder that was not replaced',
    kind: 'schema',
    text: 'cluster: prod\npods:\n  subnets:\n    ids:\n      - subnet-0a1b2c3d\n      - subnet-xxxxxxxx\n',
    says: [
      {
        path: 'pods.subnets.ids[1]',
        line: 6,
        column: 9,
        value: '"subnet-xxxxxxxx"',
        problem: /placeholder/,
        remedy: /Replace it/,
      },
    ],
  },
  {
    name: 'an ID in capitals',
    kind: 'schema',
    text: after('aws: {}').replace('subnet-0a1b2c3d4e5f67890', 'subnet-0A1B2C3D4E5F67890'),
    says: [
      {
        path: 'pods.subnets.ids[0]',
        line: 4,
        value: '"subnet-0A1B2C3D4E5F67890"',
        problem: /not the ID/,
        remedy: /lower case/,
        suggestion: 'subnet-0a1b2c3d4e5f67890',
      },
    ],
  },
  {
    name: 'the same ID twice',
    kind: 'cross',
    text: 'cluster: prod\npods:\n  subnets:\n    ids: [subnet-0a1b2c3d, subnet-0a1b2c3d]\n',
    says: [
      {
        path: 'pods.subnets.ids[1]',
        line: 4,
        value: '"subnet-0a1b2c3d"',
        problem: /twice/,
        remedy: /Keep one/,
      },
    ],
  },
  {
    name: 'an empty list of IDs',
    kind: 'schema',
    text: 'cluster: prod\npods:\n  subnets:\n    ids: []\n',
    says: [{ path: 'pods.subnets.ids', line: 4, value: '[]', problem: /is empty/, remedy: /at least one/ }],
  },
  {
    name: 'a number in quotes',
    kind: 'schema',
    text: after('pool:', '  target: "20"'),
    says: [
      {
        path: 'pool.target',
        line: 7,
        column: 11,
        value: '"20"',
        problem: /whole number from 1 to 1000/,
        remedy: /quotes/,
        suggestion: '20',
      },
    ],
  },
  // The suggestion has the written digits. YAML has made another number of them.
  ...[
    { written: '1.10', name: 'a version that YAML reads as 1.1' },
    { written: '0123', name: 'zeros before a number' },
    { written: '012345678901', name: 'the ID of an account' },
    { written: '12345678901234567890', name: 'more digits than a number holds' },
    { written: '1e3', name: 'an exponent' },
    { written: '0x1F', name: 'hexadecimal' },
    { written: '+5', name: 'a sign' },
    { written: '1.0', name: 'a point and a zero' },
    { written: 'True', name: 'a boolean in capitals' },
  ].map(
    ({ written, name }): BadConfig => ({
      name: `text that YAML reads as another type: ${name}`,
      kind: 'schema',
      text: after('aws:', '  tags:', `    a: ${written}`),
      says: [
        {
          path: 'aws.tags.a',
          line: 8,
          value: written,
          problem: /must be text/,
          remedy: /quotes/,
          suggestion: `"${written}"`,
        },
      ],
    }),
  ),
  {
    name: 'a number for a list of text',
    kind: 'schema',
    text: after('kubernetes:', '  clusterDns: 10.10'),
    says: [
      {
        path: 'kubernetes.clusterDns',
        line: 7,
        value: '10.10',
        problem: /must be a list/,
        remedy: /dash/,
        suggestion: '["10.10"]',
      },
    ],
  },
  {
    name: 'zeros before a number in quotes: it may be octal',
    kind: 'schema',
    text: after('pool:', '  target: "0123"'),
    says: [
      {
        path: 'pool.target',
        line: 7,
        value: '"0123"',
        problem: /whole number from 1 to 1000/,
        remedy: /without zeros before it/,
      },
    ],
  },
  {
    name: 'a duration with a unit',
    kind: 'schema',
    text: after('boot:', '  deadlineSeconds: 5m'),
    says: [
      {
        path: 'boot.deadlineSeconds',
        line: 7,
        value: '"5m"',
        problem: /seconds from 10 to 3600/,
        remedy: /without a unit/,
        suggestion: '300',
      },
    ],
  },
  {
    name: 'a number out of range',
    kind: 'schema',
    text: after('boot:', '  deadlineSeconds: 5'),
    says: [
      {
        path: 'boot.deadlineSeconds',
        line: 7,
        value: '5',
        problem: /from 10 to 3600/,
        remedy: /in that range/,
      },
    ],
  },
  {
    name: 'more pods than a node can have',
    kind: 'schema',
    text: after('').replace('max: 100', 'max: 5000'),
    says: [{ path: 'pods.max', line: 5, value: '5000', problem: /from 1 to 1000/, remedy: /in that range/ }],
  },
  {
    name: 'a fraction',
    kind: 'schema',
    text: after('pool: {target: 1.5}'),
    says: [
      { path: 'pool.target', line: 6, column: 16, value: '1.5', problem: /whole number/, remedy: /range/ },
    ],
  },
  {
    name: 'a malformed number',
    kind: 'schema',
    text: after('pool: {restSeconds: .inf}'),
    says: [
      { path: 'pool.restSeconds', line: 6, value: 'Infinity', problem: /whole number/, remedy: /range/ },
    ],
  },
  {
    name: 'yes for true',
    kind: 'schema',
    text: after('  allowImds: yes'),
    says: [
      {
        path: 'pods.allowImds',
        line: 6,
        value: '"yes"',
        problem: /true or false/,
        remedy: /YAML 1.2/,
        suggestion: 'true',
      },
    ],
  },
  {
    name: 'a choice misspelt',
    kind: 'schema',
    text: after('  addressing: prefix'),
    says: [
      {
        path: 'pods.addressing',
        line: 6,
        value: '"prefix"',
        problem: /one of auto, prefixes, addresses/,
        remedy: /Write prefixes/,
        suggestion: 'prefixes',
      },
    ],
  },
  {
    name: 'a choice that does not exist',
    kind: 'schema',
    text: after('boot: {onFailure: explode}'),
    says: [
      {
        path: 'boot.onFailure',
        line: 6,
        value: '"explode"',
        problem: /one of hold, reboot-once, terminate/,
        remedy: /one of/,
      },
    ],
  },
  {
    name: 'a tag value that YAML takes for a number',
    kind: 'schema',
    text: after('aws:', '  tags: {cost-center: 4711}'),
    says: [
      {
        path: 'aws.tags.cost-center',
        line: 7,
        value: '4711',
        problem: /must be text/,
        remedy: /in quotes/,
        suggestion: '"4711"',
      },
    ],
  },
  {
    name: "a tag in AWS's own name space",
    kind: 'cross',
    text: after('aws:', '  tags:', '    aws:team: net'),
    says: [
      {
        path: 'aws.tags["aws:team"]',
        line: 8,
        value: '"net"',
        problem: /reserved for AWS/,
        remedy: /another prefix/,
      },
    ],
  },
  {
    name: 'a tag value longer than EC2 allows',
    kind: 'schema',
    text: after(`aws: {tags: {note: ${'n'.repeat(257)}}}`),
    says: [
      {
        path: 'aws.tags.note',
        line: 6,
        value: `"${'n'.repeat(78)}…`,
        problem: /256 characters/,
        remedy: /like production/,
      },
    ],
  },
  {
    name: 'a malformed CIDR',
    kind: 'schema',
    text: after('  routes: [10.300.0.0/16]'),
    says: [
      {
        path: 'pods.routes[0]',
        line: 6,
        column: 12,
        value: '"10.300.0.0/16"',
        problem: /not an IPv4 CIDR/,
        remedy: /like 10.0.0.0\/16/,
      },
    ],
  },
  {
    name: 'an address where a CIDR belongs',
    kind: 'schema',
    text: after('  routes:', '    - 10.1.2.3'),
    says: [
      {
        path: 'pods.routes[0]',
        line: 7,
        value: '"10.1.2.3"',
        problem: /lacks the prefix length/,
        remedy: /like/,
        suggestion: '10.1.2.3/32',
      },
    ],
  },
  {
    name: 'IPv6 in a key for IPv4',
    kind: 'schema',
    text: after('  routes: ["fd00::/8"]'),
    says: [
      { path: 'pods.routes[0]', line: 6, value: '"fd00::/8"', problem: /but IPv6/, remedy: /IPv6 cannot/ },
    ],
  },
  {
    name: 'pods with IPv6 only',
    kind: 'schema',
    text: after('  ipFamily: ipv6'),
    says: [
      {
        path: 'pods.ipFamily',
        line: 6,
        value: '"ipv6"',
        problem: /cannot be IPv6 alone.* always has an IPv4 address/,
        remedy: /Write dual-stack/,
        suggestion: 'dual-stack',
      },
    ],
  },
  {
    name: 'an address family that does not exist',
    kind: 'schema',
    text: after('  ipFamily: dualstack'),
    says: [
      {
        path: 'pods.ipFamily',
        line: 6,
        value: '"dualstack"',
        problem: /one of ipv4, dual-stack/,
        remedy: /Write dual-stack/,
        suggestion: 'dual-stack',
      },
    ],
  },
  {
    name: 'IPv6 Services and DNS without IPv6 pods',
    kind: 'cross',
    text: after('kubernetes:', '  serviceCidrs: ["fd00:10:96::/108"]', '  clusterDns: ["fd00:10:96::a"]'),
    says: [
      {
        path: 'kubernetes.serviceCidrs[0]',
        line: 7,
        value: '"fd00:10:96::/108"',
        problem: /pods have IPv4 alone/,
        remedy: /`pods.ipFamily: dual-stack`/,
      },
      {
        path: 'kubernetes.clusterDns[0]',
        line: 8,
        value: '"fd00:10:96::a"',
        problem: /pods have IPv4 alone/,
        remedy: /`pods.ipFamily: dual-stack`/,
      },
    ],
  },
  {
    name: 'IPv6 Service CIDRs that no API server has',
    kind: 'cross',
    text: after(
      '  ipFamily: dual-stack',
      'kubernetes:',
      '  serviceCidrs:',
      '    - "fd00:10:96::1/108"',
      '    - "fe80::/64"',
      '    - "fd00:ec2::/64"',
      '    - "fd00::/32"',
      '    - "1:2:3/64"',
      '    - "fd00:1::/108"',
      '    - "fd00:0001:0::/108"',
    ),
    says: [
      {
        path: 'kubernetes.serviceCidrs[0]',
        line: 9,
        value: '"fd00:10:96::1/108"',
        problem: /host bits/,
        remedy: /network address/,
        suggestion: 'fd00:10:96::/108',
      },
      {
        path: 'kubernetes.serviceCidrs[1]',
        line: 10,
        value: '"fe80::/64"',
        problem: /is linkLocal/,
        remedy: /--service-cluster-ip-range/,
      },
      {
        path: 'kubernetes.serviceCidrs[2]',
        line: 11,
        value: '"fd00:ec2::/64"',
        problem: /where EC2 answers metadata/,
        remedy: /another range/,
      },
      {
        path: 'kubernetes.serviceCidrs[3]',
        line: 12,
        value: '"fd00::/32"',
        problem: /wider than the \/64/,
        remedy: /--service-cluster-ip-range/,
      },
      {
        path: 'kubernetes.serviceCidrs[4]',
        line: 13,
        value: '"1:2:3/64"',
        problem: /is not an IPv6 CIDR/,
        remedy: /like fd00/,
      },
      {
        path: 'kubernetes.serviceCidrs[6]',
        line: 15,
        value: '"fd00:0001:0::/108"',
        problem: /names a CIDR twice/,
        remedy: /one of the two/,
      },
    ],
  },
  {
    name: 'an IPv6 Service CIDR without its length',
    kind: 'schema',
    text: after('  ipFamily: dual-stack', 'kubernetes:', '  serviceCidrs: ["fd00:10:96::"]'),
    says: [
      {
        path: 'kubernetes.serviceCidrs[0]',
        line: 8,
        value: '"fd00:10:96::"',
        problem: /lacks the prefix length/,
        remedy: /like/,
        suggestion: 'fd00:10:96::/128',
      },
    ],
  },
  {
    name: 'a DNS server with too many colons',
    kind: 'cross',
    text: after(
      '  ipFamily: dual-stack',
      'kubernetes:',
      '  serviceCidrs: ["fd00::/108"]',
      '  clusterDns: ["1:2:3"]',
    ),
    says: [
      {
        path: 'kubernetes.clusterDns[0]',
        line: 9,
        value: '"1:2:3"',
        problem: /is not an IPv6 address/,
        remedy: /like fd00/,
      },
    ],
  },
  {
    name: 'host bits set',
    kind: 'cross',
    text: after('kubernetes: {serviceCidrs: [10.96.0.1/16]}'),
    says: [
      {
        path: 'kubernetes.serviceCidrs[0]',
        line: 6,
        column: 29,
        value: '"10.96.0.1/16"',
        problem: /host bits/,
        remedy: /network address/,
        suggestion: '10.96.0.0/16',
      },
    ],
  },
  {
    name: 'Service CIDRs that overlap',
    kind: 'cross',
    text: after('kubernetes:', '  serviceCidrs:', '    - 10.96.0.0/12', '    - 10.100.0.0/16'),
    says: [
      {
        path: 'kubernetes.serviceCidrs[1]',
        line: 9,
        value: '"10.100.0.0/16"',
        problem: /overlaps 10.96.0.0\/12/,
        remedy: /service-cluster-ip-range/,
      },
    ],
  },
  {
    name: 'a Service CIDR wider than kube-apiserver takes',
    kind: 'cross',
    text: after('kubernetes: {serviceCidrs: [10.0.0.0/8]}'),
    says: [
      {
        path: 'kubernetes.serviceCidrs[0]',
        line: 6,
        value: '"10.0.0.0/8"',
        problem: /wider than the \/12/,
        remedy: /service-cluster-ip-range/,
      },
    ],
  },
  {
    name: 'the same CIDR twice',
    kind: 'cross',
    text: after('  routes: [10.8.0.0/16, 10.9.0.0/16, 10.8.0.0/16]'),
    says: [{ path: 'pods.routes[2]', line: 6, value: '"10.8.0.0/16"', problem: /twice/, remedy: /Keep one/ }],
  },
  {
    name: 'a route to the metadata service',
    kind: 'cross',
    text: after('  routes: [169.254.169.254/32]'),
    says: [
      {
        path: 'pods.routes[0]',
        line: 6,
        value: '"169.254.169.254/32"',
        problem: /link-local/,
        remedy: /pods.allowImds/,
      },
    ],
  },
  {
    name: 'a route inside the Service CIDR',
    kind: 'cross',
    text: after('  routes: [10.96.4.0/24]', 'kubernetes: {serviceCidrs: [10.96.0.0/16]}'),
    says: [
      {
        path: 'pods.routes[0]',
        line: 6,
        value: '"10.96.4.0/24"',
        problem: /a Service CIDR/,
        remedy: /Remove it/,
      },
    ],
  },
  {
    name: 'routed and translated at once',
    kind: 'cross',
    text: after(
      '  routes: [10.8.0.0/16]',
      'egress:',
      '  table:',
      '    - cidr: 10.8.0.0/16',
      '      action: snat',
    ),
    says: [
      {
        path: 'egress.table[0].action',
        line: 10,
        value: '"snat"',
        problem: /contradicts `pods.routes`/,
        remedy: /one of the two/,
      },
    ],
  },
  {
    name: 'an egress row without its action',
    kind: 'schema',
    text: after('egress:', '  table:', '    - cidr: 10.8.0.0/16'),
    says: [{ path: 'egress.table[0].action', line: 8, problem: /is missing/, remedy: /Add/ }],
  },
  {
    name: 'one CIDR in two egress rows',
    kind: 'cross',
    text: after(
      'egress:',
      '  table:',
      '    - {cidr: 10.8.0.0/16, action: snat}',
      '    - {cidr: 10.8.0.0/16, action: route}',
    ),
    says: [
      { path: 'egress.table[1].cidr', line: 9, value: '"10.8.0.0/16"', problem: /twice/, remedy: /Keep one/ },
    ],
  },
  {
    name: 'more addresses than pods',
    kind: 'cross',
    text: after('pool: {target: 101}'),
    says: [
      {
        path: 'pool.target',
        line: 6,
        value: '101',
        problem: /larger than pods.max \(100\)/,
        remedy: /raise `pods.max`/,
      },
    ],
  },
  {
    name: 'a cluster DNS that is not an address',
    kind: 'schema',
    text: after('kubernetes: {clusterDns: [kube-dns]}'),
    says: [
      {
        path: 'kubernetes.clusterDns[0]',
        line: 6,
        value: '"kube-dns"',
        problem: /not an IPv4 or IPv6 address/,
        remedy: /like 10.96.0.10/,
      },
    ],
  },
  {
    name: 'a label kubelet refuses to start with',
    kind: 'cross',
    text: after('kubernetes:', '  labels:', '    node-role.kubernetes.io/worker: ""'),
    says: [
      {
        path: 'kubernetes.labels["node-role.kubernetes.io/worker"]',
        line: 8,
        value: '""',
        problem: /may not give its own node/,
        remedy: /kubectl label node/,
      },
    ],
  },
  {
    name: 'a label value with a blank',
    kind: 'schema',
    text: after('kubernetes: {labels: {team: data science}}'),
    says: [
      {
        path: 'kubernetes.labels.team',
        line: 6,
        value: '"data science"',
        problem: /not a label value/,
        remedy: /like batch/,
      },
    ],
  },
  {
    name: 'an endpoint without a scheme',
    kind: 'schema',
    text: after('apiServer: {endpoint: "api.example.com:6443"}'),
    says: [
      {
        path: 'apiServer.endpoint',
        line: 6,
        value: '"api.example.com:6443"',
        problem: /not https:\/\/host/,
        remedy: /like https:/,
      },
    ],
  },
  {
    name: 'an endpoint with a slash at its end',
    kind: 'schema',
    text: after('apiServer:', '  endpoint: https://api.example.com/'),
    says: [
      {
        path: 'apiServer.endpoint',
        line: 7,
        value: '"https://api.example.com/"',
        problem: /not https:\/\/host/,
        remedy: /slash/,
        suggestion: 'https://api.example.com',
      },
    ],
  },
  {
    name: 'an endpoint that works only after kubelet',
    kind: 'cross',
    text: after('apiServer: {endpoint: "https://10.96.0.1"}', 'kubernetes: {serviceCidrs: [10.96.0.0/16]}'),
    says: [
      {
        path: 'apiServer.endpoint',
        line: 6,
        value: '"https://10.96.0.1"',
        problem: /Service address/,
        remedy: /load balancer/,
      },
    ],
  },
  {
    name: 'a port that does not exist',
    kind: 'cross',
    text: after('apiServer: {endpoint: "https://api.example.com:66666"}'),
    says: [
      {
        path: 'apiServer.endpoint',
        line: 6,
        value: '"https://api.example.com:66666"',
        problem: /port/,
        remedy: /443 or 6443/,
      },
    ],
  },
  {
    name: 'a malformed reference to a parameter',
    kind: 'schema',
    text: 'cluster: ssm:prod/cluster\npods: {subnets: {ids: [subnet-0a1b2c3d]}}\n',
    says: [
      {
        path: 'cluster',
        line: 1,
        column: 10,
        value: '"ssm:prod/cluster"',
        problem: /not a reference/,
        remedy: /ssm:\/ and the path/,
      },
    ],
  },
  {
    name: 'a reference at keys that take none',
    kind: 'schema',
    text: after('kubernetes: {clusterDomain: "ssm:/eniboot/x"}', 'bundle: {lowest: "ssm:/eniboot/x"}'),
    says: [
      {
        path: 'kubernetes.clusterDomain',
        line: 6,
        value: '"ssm:/eniboot/x"',
        problem: /cannot come from a parameter/,
        remedy: /^Write the value itself, like cluster\.local\.$/,
      },
      {
        path: 'bundle.lowest',
        line: 7,
        value: '"ssm:/eniboot/x"',
        problem: /cannot come from a parameter/,
        remedy: /^Write the value itself, like 1\.4\.0\.$/,
      },
    ],
  },
  {
    name: 'a reference where a number belongs',
    kind: 'schema',
    text: after('pool: {target: "ssm:/eniboot/target"}'),
    says: [
      {
        path: 'pool.target',
        line: 6,
        value: '"ssm:/eniboot/target"',
        problem: /whole number/,
        remedy: /only text can/,
      },
    ],
  },
  {
    name: 'a key written twice',
    kind: 'text',
    text: after('pods:', '  max: 20'),
    says: [
      { path: 'pods', line: 6, column: 1, problem: /written twice, first in line 2/, remedy: /Keep one/ },
    ],
  },
  {
    name: 'indented with a tab',
    kind: 'text',
    text: 'cluster: prod\npods:\n\tsubnets: {}\n',
    says: [{ path: '', line: 3, problem: /tab/, remedy: /spaces/ }],
  },
  {
    name: 'an unclosed bracket',
    kind: 'text',
    text: 'cluster: prod\npods:\n  subnets:\n    ids: [subnet-0a1b2c3d\n',
    says: [{ path: '', line: 5, problem: /not valid YAML/, remedy: /line or|line and/ }],
  },
  {
    name: 'a missing blank after the colon',
    kind: 'text',
    text: 'cluster:prod\npods:\n  max: 1\n',
    says: [{ path: '', line: 1, problem: /not valid YAML/, remedy: /colon/ }],
  },
  {
    name: 'two documents',
    kind: 'text',
    text: 'cluster: prod\n---\npods: {}\n',
    says: [{ path: '', line: 2, problem: /more than one document/, remedy: /drop-in/ }],
  },
  {
    name: 'an alias',
    kind: 'text',
    text: 'cluster: &name prod\naws:\n  tags:\n    owner: *name\n',
    says: [
      { path: 'cluster', line: 1, problem: /anchor/, remedy: /Write the value out/ },
      { path: 'aws.tags.owner', line: 4, problem: /alias \(\*name\)/, remedy: /Write the value out/ },
    ],
  },
  {
    name: 'a billion laughs',
    kind: 'text',
    text: `a: &a [x,x]\n${[...'bcdefghi'].map((key, index) => `${key}: &${key} [*${'abcdefgh'[index]},*${'abcdefgh'[index]}]\n`).join('')}`,
    says: [...'abcdefghi'].map((key, index) => ({
      path: key,
      line: index + 1,
      problem: /anchor/,
      remedy: /Write the value out/,
    })),
  },
  {
    name: "a tag of YAML's",
    kind: 'text',
    text: 'cluster: !Ref ClusterName\n',
    says: [{ path: '', line: 1, problem: /tag/i, remedy: /Remove the tag/ }],
  },
  {
    name: 'a YAML 1.1 document',
    kind: 'text',
    text: '%YAML 1.1\n---\ncluster: prod\n',
    says: [{ path: '', line: 1, problem: /older YAML/, remedy: /%YAML/ }],
  },
  {
    name: 'a list as the document',
    kind: 'schema',
    text: '- cluster: prod\n',
    says: [
      {
        path: '',
        line: 1,
        value: '[{"cluster":"prod"}]',
        problem: /not a set of keys/,
        remedy: /cluster, pods/,
      },
    ],
  },
  {
    name: 'a key every JavaScript object has',
    kind: 'text',
    text: after('constructor: 1', '__proto__: {a: 1}'),
    says: [
      { path: 'constructor', line: 6, problem: /unknown key/, remedy: /Remove/ },
      { path: '__proto__', line: 7, problem: /unknown key/, remedy: /Remove/ },
    ],
  },
  {
    name: 'a map as a key',
    kind: 'text',
    text: after('? {a: 1}', ': b'),
    says: [{ path: '', line: 6, problem: /key that is not text/, remedy: /plain name/ }],
  },
  {
    name: 'an empty file',
    kind: 'text',
    text: '',
    says: [{ path: '', line: 1, problem: /no settings/, remedy: /delete it/ }],
  },
  {
    name: 'a file of comments',
    kind: 'text',
    text: '# cluster: prod\n',
    says: [{ path: '', line: 1, problem: /no settings/, remedy: /delete it/ }],
  },
  {
    name: 'Latin-1',
    kind: 'text',
    text: Buffer.from('cluster: prod\naws:\n  tags: {owner: J\u00fcrgen}\n', 'latin1'),
    says: [{ path: '', line: 3, problem: /not UTF-8/, remedy: /UTF-8/ }],
  },
  {
    name: 'UTF-16 with its mark',
    kind: 'text',
    text: Buffer.from('\ufeffcluster: prod\n', 'utf16le'),
    says: [{ path: '', line: 1, problem: /UTF-16/, remedy: /iconv/ }],
  },
  {
    name: 'a file of zero bytes, as after a crash',
    kind: 'text',
    text: `cluster: prod\n${'\0'.repeat(512)}`,
    says: [{ path: '', line: 2, column: 1, problem: /control character \(0x00\)/, remedy: /crash/ }],
  },
  {
    name: 'larger than 64 KiB',
    kind: 'text',
    text: after(...Array.from({ length: 8000 }, () => '# filler')),
    says: [{ path: '', line: 1, problem: /larger than 64 KiB/, remedy: /only configuration/ }],
  },
  {
    name: 'thousands of open brackets',
    kind: 'text',
    text: `cluster: ${'['.repeat(50_000)}`,
    says: [{ path: '', line: 1, problem: /nested deeper/, remedy: /brackets/ }],
  },
  {
    name: 'thousands of dashes',
    kind: 'text',
    text: `${'- '.repeat(30_000)}x`,
    says: [{ path: '', line: 1, problem: /nested deeper/, remedy: /brackets/ }],
  },
];
