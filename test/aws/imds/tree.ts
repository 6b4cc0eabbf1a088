// What the metadata service answers about one instance, as a flat table: path → text.
import { createHash } from 'node:crypto';
import { privateDnsName } from '../ec2/render.ts';
import type { Eni, InstanceRecord } from '../ec2/state.ts';
import { enisOf, limitsOf, type World } from '../ec2/world.ts';

export interface Lag {
  /** How long after the event a new ENI, and a new address or prefix, appears. */
  imdsLagMs: number;
}

/**
 * Every leaf below /latest/. A key that EC2 leaves out (public-ipv4 without a public address, tags/ when they are not
 * enabled) is absent here, too.
 */
export function metadata(
  world: World,
  instance: InstanceRecord,
  lag: Lag,
  credentials: () => string,
): Map<string, string> {
  const leaves = new Map<string, string>();
  const set = (path: string, text: string | undefined): void => {
    if (text !== undefined) leaves.set(`meta-data/${path}`, text);
  };
  const visible = (since: number): boolean => world.scheduler.now() - since >= lag.imdsLagMs;
  const enis = enisOf(world, instance.id).filter(
    (eni) =>
      eni.attachment !== undefined &&
      eni.attachment.status !== 'attaching' &&
      (eni.attachment.deviceIndex === 0 || visible(eni.attachment.attachedAt)),
  );
  const boot = enis.find((eni) => eni.attachment?.deviceIndex === 0);

  set('ami-id', instance.imageId);
  set('ami-launch-index', '0');
  set('ami-manifest-path', '(unknown)');
  set('autoscaling/target-lifecycle-state', instance.lifecycleState);
  set('block-device-mapping/ami', 'xvda');
  set('block-device-mapping/root', '/dev/xvda');
  set('hostname', boot && privateDnsName(world, boot.primaryIp));
  set('instance-action', 'none');
  set('instance-id', instance.id);
  set('instance-life-cycle', 'on-demand');
  set('instance-type', instance.type);
  set('local-hostname', boot && privateDnsName(world, boot.primaryIp));
  set('local-ipv4', boot?.primaryIp);
  set('mac', boot?.mac);
  set('placement/availability-zone', instance.zone);
  set('placement/availability-zone-id', instance.zoneId);
  set('placement/region', world.region);
  set('profile', 'default-hvm');
  set('ipv6', boot?.ipv6Addresses[0]);
  set('public-hostname', boot?.publicIp === undefined ? undefined : '');
  set('public-ipv4', boot?.publicIp);
  const key = world.keyPairs.get(instance.keyName ?? '');
  set('public-keys/', key && `0=${key.name}`);
  set('public-keys/0/openssh-key', key?.publicKey);
  set('reservation-id', `r-${instance.id.slice(2)}`);
  set('security-groups', names(world, instance.groups));
  set('services/domain', 'amazonaws.com');
  set('services/partition', 'aws');
  if (instance.role !== undefined) {
    set(
      'iam/info',
      JSON.stringify(
        {
          Code: 'Success',
          LastUpdated: iso(instance.launchTime),
          InstanceProfileArn: `arn:aws:iam::${world.accountId}:instance-profile/${instance.role}`,
          InstanceProfileId: 'AIPAENIBOOTSIMULATED',
        },
        null,
        2,
      ),
    );
    set(`iam/security-credentials/${instance.role}`, credentials());
  }
  if (instance.tagsInMetadata) for (const [key, value] of instance.tags) set(`tags/instance/${key}`, value);
  const { cards = 1 } = limitsOf(instance.type);
  for (const eni of enis)
    for (const [key, text] of interfaceLeaves(world, eni, visible, cards))
      set(`network/interfaces/macs/${eni.mac}/${key}`, text);

  leaves.set('dynamic/instance-identity/document', identityDocument(world, instance, boot));
  if (instance.userData !== undefined) leaves.set('user-data', instance.userData);
  return leaves;
}

function interfaceLeaves(
  world: World,
  eni: Eni,
  visible: (since: number) => boolean,
  cards: number,
): [string, string | undefined][] {
  const subnet = world.subnets.get(eni.subnetId);
  const known = (one: string): boolean => one === eni.primaryIp || visible(eni.assignedAt.get(one) ?? 0);
  const prefixes = eni.prefixes.filter(known);
  const ipv6Prefixes = eni.ipv6Prefixes.filter(known);
  const ipv6s = eni.ipv6Addresses.filter((one) => eni.attachment?.deviceIndex === 0 || known(one));
  const some = (list: string[]) => (list.length === 0 ? undefined : list.join('\n'));
  return [
    ['device-number', String(eni.attachment?.deviceIndex ?? 0)],
    ['interface-id', eni.id],
    ...(eni.publicIp === undefined
      ? []
      : ([[`ipv4-associations/${eni.publicIp}`, eni.primaryIp]] satisfies [string, string][])),
    ['ipv4-prefix', some(prefixes)],
    ['ipv6-prefix', some(ipv6Prefixes)],
    ['ipv6s', some(ipv6s)],
    ['local-hostname', privateDnsName(world, eni.primaryIp)],
    ['local-ipv4s', [eni.primaryIp, ...eni.secondaryIps.filter(known)].join('\n')],
    ['mac', eni.mac],
    // Absent on a type with one card (amazon-vpc-cni-k8s, pkg/awsutils/imds.go, GetNetworkCard).
    ['network-card', cards > 1 ? String(eni.attachment?.networkCardIndex ?? 0) : undefined],
    ['owner-id', world.accountId],
    ['public-hostname', eni.publicIp === undefined ? undefined : ''],
    ['public-ipv4s', eni.publicIp],
    ['security-group-ids', eni.groups.join('\n')],
    ['security-groups', names(world, eni.groups)],
    ['subnet-id', eni.subnetId],
    ['subnet-ipv4-cidr-block', subnet?.cidr],
    ['subnet-ipv6-cidr-blocks', subnet?.ipv6Cidr],
    ['vpc-id', eni.vpcId],
    ['vpc-ipv4-cidr-block', world.vpc.cidrs[0]],
    ['vpc-ipv4-cidr-blocks', world.vpc.cidrs.join('\n')],
    ['vpc-ipv6-cidr-blocks', some(world.vpc.ipv6Cidrs)],
  ];
}

/** The text of a leaf, or the listing of a directory (names, directories with a slash), or undefined. */
export function lookUp(leaves: Map<string, string>, path: string): string | undefined {
  const clean = path.replace(/\/+$/, '');
  // `path/` at the end of a key: a directory whose listing differs from the names in it.
  const leaf = leaves.get(clean) ?? leaves.get(`${clean}/`);
  if (leaf !== undefined) return leaf;
  const prefix = clean === '' ? '' : `${clean}/`;
  const entries = new Set<string>();
  for (const key of leaves.keys()) {
    if (!key.startsWith(prefix)) continue;
    const rest = key.slice(prefix.length);
    const slash = rest.indexOf('/');
    entries.add(slash === -1 ? rest : rest.slice(0, slash + 1));
  }
  return entries.size === 0 ? undefined : [...entries].sort().join('\n');
}

function identityDocument(world: World, instance: InstanceRecord, boot: Eni | undefined): string {
  return JSON.stringify(
    {
      accountId: world.accountId,
      architecture: limitsOf(instance.type).arch,
      availabilityZone: instance.zone,
      billingProducts: null,
      devpayProductCodes: null,
      imageId: instance.imageId,
      instanceId: instance.id,
      instanceType: instance.type,
      kernelId: null,
      marketplaceProductCodes: null,
      pendingTime: iso(instance.launchTime),
      privateIp: boot?.primaryIp ?? null,
      ramdiskId: null,
      region: world.region,
      version: '2017-09-30',
    },
    null,
    2,
  );
}

function names(world: World, groups: string[]): string {
  return groups.map((id) => world.groups.get(id)?.name ?? id).join('\n');
}

function iso(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}

/** An access key pair with a session token for an instance's role; the API servers know it by `accessKeyId`. */
export interface RoleCredentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken: string;
}

/** Made from the instance ID and the serial number of the pair: the same in every run. */
export function roleCredentials(instanceId: string, serial = 0): RoleCredentials {
  const digest = (text: string): string =>
    createHash('sha256').update(`${instanceId}/${serial}/${text}`).digest('base64url');
  return {
    accessKeyId: `ASIA${digest('key').replace(/[-_]/g, 'X').toUpperCase().slice(0, 16)}`,
    secretAccessKey: digest('secret').slice(0, 40),
    sessionToken: `${digest('token')}${digest('session')}`,
  };
}
