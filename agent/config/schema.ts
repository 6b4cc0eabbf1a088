// The one description of eniboot's configuration. Types, validation, `config schema` and the reference in
// docs/configuration.md are all derived from it. It says what should exist, never what to do.
import ipaddr from 'ipaddr.js';
import * as v from 'valibot';

const cidr4 = v.pipe(
  v.string(),
  v.check((text) => ipaddr.IPv4.isValidCIDR(text), 'must be an IPv4 CIDR such as 10.0.0.0/16'),
  v.check(isNetworkAddress, 'has host bits set; write the network address itself'),
);
const address4 = v.pipe(
  v.string(),
  v.check((text) => ipaddr.IPv4.isValidFourPartDecimal(text), 'must be an IPv4 address such as 10.96.0.10'),
);
const ssmReference = v.pipe(
  v.string(),
  v.regex(/^ssm:\/[\w./-]+$/, 'must be ssm:/ and the path of a parameter'),
);
/** A literal, or `ssm:/path` to be read from Parameter Store at boot. */
const orParameter = <S extends v.GenericSchema<string, string>>(schema: S) => v.union([schema, ssmReference]);

const id = (prefix: string) =>
  v.pipe(v.string(), v.regex(new RegExp(`^${prefix}-[0-9a-f]{8,17}$`), `must look like ${prefix}-0123456789abcdef0`));
const tags = v.pipe(
  v.record(v.pipe(v.string(), v.minLength(1), v.maxLength(128)), v.pipe(v.string(), v.maxLength(256))),
  v.check((map) => Object.keys(map).length > 0, 'needs at least one tag'),
);
const seconds = (minimum: number, maximum: number) =>
  v.pipe(v.number(), v.integer(), v.minValue(minimum), v.maxValue(maximum));
const httpUrl = v.pipe(
  v.string(),
  v.check((text) => {
    try {
      return ['http:', 'https:'].includes(new URL(text).protocol);
    } catch {
      return false;
    }
  }, 'must be an http:// or https:// address'),
);

/** Subnets or security groups, named by ID or found by tags; exactly one of the two. */
const byIdOrTags = (prefix: string) =>
  v.union([
    v.strictObject({ ids: v.pipe(v.array(orParameter(id(prefix))), v.minLength(1), v.maxLength(16)) }),
    v.strictObject({ tags }),
  ]);

export const configSchema = v.strictObject({
  /** Name of the cluster: a tag on every ENI and what `eni sweep` is limited to. */
  cluster: v.pipe(
    v.string(),
    v.regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/, 'must be 1 to 63 letters, digits, dots, dashes or underscores'),
  ),
  pods: v.strictObject({
    /** Where pod ENIs are created. Only subnets in the node's own zone are used, the emptiest first. */
    subnets: byIdOrTags('subnet'),
    /** Security groups of pod ENIs; without it, those of the boot ENI. At most 5 (the EC2 default quota). */
    securityGroups: v.optional(byIdOrTags('sg')),
    /** `auto`: /28 prefixes where the instance type allows them (Nitro), single addresses elsewhere. */
    addressing: v.optional(v.picklist(['auto', 'prefixes', 'addresses']), 'auto'),
    /** Upper bound of pods; the real capacity is used when it is lower. */
    max: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1000)), 110),
    /** CIDRs beyond the VPC's own that pods reach without NAT, through their ENI (peers, transit gateway). */
    routes: v.optional(v.array(cidr4), []),
    /** Whether pods may reach the instance metadata service, and with it the node's role. */
    allowImds: v.optional(v.boolean(), false),
  }),
  pool: v.optional(
    v.strictObject({
      /** Addresses present when the node reports READY; without it, one for each pod of `pods.max`. */
      target: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1000))),
      /** Seconds an address rests after its pod is gone before it may be given out again. */
      restSeconds: v.optional(seconds(0, 3600), 60),
    }),
    {},
  ),
  egress: v.optional(
    v.strictObject({
      /** Destinations treated specially; the longest prefix wins. Without an entry: VPC `route`, all else `snat`. */
      table: v.optional(
        v.pipe(
          v.array(v.strictObject({ cidr: cidr4, action: v.picklist(['route', 'snat', 'snat-keep-port']) })),
          v.maxLength(256),
          v.check(
            (rows) => new Set(rows.map((row) => row.cidr)).size === rows.length,
            'names one CIDR twice',
          ),
        ),
        [],
      ),
      /** `require`: fail without a public IPv4 on the boot ENI; `request`: also ask EC2 for one; `ignore`: private egress. */
      publicAddress: v.optional(v.picklist(['ignore', 'require', 'request']), 'ignore'),
    }),
    {},
  ),
  kubernetes: v.optional(
    v.strictObject({
      /** Service CIDRs of the cluster. */
      serviceCidrs: v.optional(v.pipe(v.array(cidr4), v.maxLength(8)), []),
      /** Cluster DNS addresses for kubelet. */
      clusterDns: v.optional(v.pipe(v.array(address4), v.maxLength(3)), []),
      clusterDomain: v.optional(v.pipe(v.string(), v.regex(/^[a-z0-9.-]{1,253}$/)), 'cluster.local'),
      /** Extra node labels. Zone, region and instance type are always set. */
      labels: v.optional(v.record(v.string(), v.pipe(v.string(), v.maxLength(63))), {}),
    }),
    {},
  ),
  apiServer: v.optional(
    v.strictObject({
      /** https://host[:port] of the API server. */
      endpoint: orParameter(
        v.pipe(
          v.string(),
          v.check((text) => {
            try {
              return new URL(text).protocol === 'https:';
            } catch {
              return false;
            }
          }, 'must be https://host[:port]'),
        ),
      ),
      /** Fail the boot, not only warn, when it cannot be reached. */
      required: v.optional(v.boolean(), false),
    }),
  ),
  boot: v.optional(
    v.strictObject({
      /** Seconds for the whole boot, on the boot clock. */
      deadlineSeconds: v.optional(seconds(10, 3600), 300),
      /** At most so many seconds are added while EC2 throttles this account. */
      throttleExtensionSeconds: v.optional(seconds(0, 3600), 300),
      /** What to do when the boot has failed for good. */
      onFailure: v.optional(v.picklist(['hold', 'reboot-once', 'terminate']), 'hold'),
    }),
    {},
  ),
  aws: v.optional(
    v.strictObject({
      /** Interface-endpoint addresses; without them the regional public endpoints. */
      endpoints: v.optional(v.strictObject({ ec2: v.optional(httpUrl), ssm: v.optional(httpUrl) }), {}),
      /** Tags added to every ENI this node creates. */
      tags: v.optional(v.record(v.pipe(v.string(), v.minLength(1), v.maxLength(128)), v.pipe(v.string(), v.maxLength(256))), {}),
    }),
    {},
  ),
  /** Parameter that holds this zone's bundle version and digest; `{zone-id}` is replaced. */
  bundle: v.optional(
    v.strictObject({ parameter: v.optional(v.pipe(v.string(), v.startsWith('/')), '/eniboot/bundle/{zone-id}') }),
  ),
});

export type Config = v.InferOutput<typeof configSchema>;

function isNetworkAddress(text: string): boolean {
  try {
    const [address, length] = ipaddr.IPv4.parseCIDR(text);
    return ipaddr.IPv4.networkAddressFromCIDR(`${address}/${length}`).toString() === address.toString();
  } catch {
    return true;
  }
}
