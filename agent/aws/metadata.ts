// The instance's own metadata: one snapshot of IMDS as plain data. It makes few requests, since IMDS and DNS share a limit of
// 1,024 packets a second for each ENI.
import { Failure } from '../messages/failure.ts';
import { codeOfKind } from '../messages/kinds.ts';
import { bounds } from '../port/bounds.ts';
import { type Form, fieldsOf, isWithin } from './fields.ts';
import type { Imds } from './imds.ts';
import { canonical6 } from './ipv6.ts';

const { field, count, senseless } = fieldsOf('IMDS');

export interface InstanceIdentity {
  instanceId: string;
  instanceType: string;
  imageId: string;
  region: string;
  zone: string;
  /** Zone ID (use1-az1): the same physical zone in every account. */
  zoneId: string;
  accountId: string;
  /** MAC of the boot ENI, lower case. */
  mac: string;
}

/** An ENI in IMDS. Lists are empty when IMDS has no such key. */
export interface MetadataEni {
  mac: string;
  eniId: string;
  /** For a new ENI, IMDS returns 0 until it has the real number: 0 is true only for the boot MAC. */
  deviceNumber: number;
  subnetId: string;
  subnetCidr: string;
  /** Primary first. */
  addresses: string[];
  /** /28 prefixes. */
  prefixes: string[];
  /** /80 prefixes; empty unless requested. */
  ipv6Prefixes: string[];
}

export interface BootEniMetadata extends MetadataEni {
  vpcId: string;
  vpcCidrs: string[];
  publicAddress: string | undefined;
  /** Empty unless requested. */
  ipv6Addresses: string[];
}

/** Device numbers stay well below this on every instance type. */
const MOST_DEVICES = 1_000;

export async function readIdentity(imds: Imds): Promise<InstanceIdentity> {
  const [document, mac, zoneId] = await Promise.all([
    required(imds, 'dynamic/instance-identity/document'),
    required(imds, 'meta-data/mac'),
    required(imds, 'meta-data/placement/availability-zone-id'),
  ]);
  const fields = parseDocument(document);
  return {
    instanceId: entry(fields, 'instanceId', 'instanceId'),
    instanceType: entry(fields, 'instanceType', 'instanceType'),
    imageId: entry(fields, 'imageId', 'imageId'),
    region: entry(fields, 'region', 'place'),
    zone: entry(fields, 'availabilityZone', 'place'),
    accountId: entry(fields, 'accountId', 'accountId'),
    zoneId: field('availability-zone-id', zoneId.trim(), 'place'),
    mac: macOf(mac),
  };
}

/** MACs of all ENIs in IMDS, each once, lower case, in the order of IMDS. */
export async function listMacs(imds: Imds): Promise<string[]> {
  const text = await required(imds, 'meta-data/network/interfaces/macs/');
  return [...new Set(lines('macs', text).map((line) => macOf(line.replace(/\/$/, ''))))];
}

/** Whether IMDS has data about an ENI yet: one request. */
export async function knowsEni(imds: Imds, mac: string): Promise<boolean> {
  return (await imds.read(`meta-data/network/interfaces/macs/${mac}/interface-id`)) !== undefined;
}

/** Index of the network card. IMDS has no such key on types with one card (amazon-vpc-cni-k8s, pkg/awsutils/imds.go). */
export async function readNetworkCard(imds: Imds, mac: string): Promise<number> {
  const text = await imds.read(`meta-data/network/interfaces/macs/${mac}/network-card`);
  return count('network-card', wholeNumber(text ?? '0'), MOST_DEVICES);
}

/**
 * One ENI, with its IPv6 prefixes if `ipv6`; undefined while IMDS has only part of it, as for an ENI that was just attached or
 * detached.
 */
export async function readEni(imds: Imds, mac: string, ipv6: boolean): Promise<MetadataEni | undefined> {
  const eni = await describe(imds, mac, ipv6);
  return 'missing' in eni ? undefined : eni;
}

/** Reads an ENI, or returns the keys that IMDS does not have. */
async function describe(
  imds: Imds,
  mac: string,
  ipv6: boolean,
): Promise<MetadataEni | { missing: string[] }> {
  const key = (name: string) => imds.read(`meta-data/network/interfaces/macs/${mac}/${name}`);
  const [eniId, deviceNumber, subnetId, subnetCidr, addresses, prefixes, ipv6Prefixes] = await Promise.all([
    key('interface-id'),
    key('device-number'),
    key('subnet-id'),
    key('subnet-ipv4-cidr-block'),
    key('local-ipv4s'),
    key('ipv4-prefix'),
    ipv6 ? key('ipv6-prefix') : undefined,
  ]);
  if (
    eniId === undefined ||
    deviceNumber === undefined ||
    subnetId === undefined ||
    subnetCidr === undefined ||
    addresses === undefined
  ) {
    const needed = {
      'interface-id': eniId,
      'device-number': deviceNumber,
      'subnet-id': subnetId,
      'subnet-ipv4-cidr-block': subnetCidr,
      'local-ipv4s': addresses,
    };
    return { missing: Object.entries(needed).flatMap(([name, value]) => (value === undefined ? name : [])) };
  }
  const eni = {
    mac,
    eniId: field('interface-id', eniId.trim(), 'eniId'),
    deviceNumber: count('device-number', wholeNumber(deviceNumber), MOST_DEVICES),
    subnetId: field('subnet-id', subnetId.trim(), 'subnetId'),
    subnetCidr: field('subnet-ipv4-cidr-block', subnetCidr.trim(), 'cidr'),
    addresses: fieldLines('local-ipv4s', addresses, 'address'),
    prefixes: fieldLines('ipv4-prefix', prefixes, 'prefix'),
    ipv6Prefixes: fieldLines('ipv6-prefix', ipv6Prefixes, 'ipv6Prefix').map(canonical6),
  };
  // All addresses of an ENI are in its subnet.
  for (const one of [...eni.addresses, ...eni.prefixes])
    if (!isWithin(eni.subnetCidr, one.split('/')[0] ?? '')) throw senseless('an address of the subnet', one);
  return eni;
}

/**
 * The boot ENI. An empty list of VPC CIDRs is returned as it is: some Nitro families omit secondary CIDRs, and IMDS has been
 * seen to answer 200 with an empty body. The caller asks EC2 about an empty list.
 */
export async function readBootEni(imds: Imds, mac: string, ipv6: boolean): Promise<BootEniMetadata> {
  const key = (name: string) => imds.read(`meta-data/network/interfaces/macs/${mac}/${name}`);
  const [eni, vpcId, vpcCidrs, publicAddresses, ipv6Addresses] = await Promise.all([
    describe(imds, mac, false),
    key('vpc-id'),
    key('vpc-ipv4-cidr-blocks'),
    key('public-ipv4s'),
    ipv6 ? key('ipv6s') : undefined,
  ]);
  if ('missing' in eni || vpcId === undefined) {
    const missing = 'missing' in eni ? eni.missing : ['vpc-id'];
    throw new Failure(
      'IMDS_INCOMPLETE',
      `IMDS describes the boot ENI ${mac}, but has no ${missing.join(', ')}`,
      {
        mac,
        missing,
      },
    );
  }
  return {
    ...eni,
    addresses: eni.addresses.length > 1 ? await primaryFirst(imds, eni.addresses) : eni.addresses,
    vpcId: field('vpc-id', vpcId.trim(), 'vpcId'),
    vpcCidrs: fieldLines('vpc-ipv4-cidr-blocks', vpcCidrs, 'cidr'),
    publicAddress: firstPublicAddress(publicAddresses),
    ipv6Addresses: fieldLines('ipv6s', ipv6Addresses, 'ipv6Address').map(canonical6),
  };
}

/** The public address from which the node's traffic comes; undefined when it has none. */
export async function readPublicAddress(imds: Imds, mac: string): Promise<string | undefined> {
  return firstPublicAddress(await imds.read(`meta-data/network/interfaces/macs/${mac}/public-ipv4s`));
}

function firstPublicAddress(text: string | undefined): string | undefined {
  return fieldLines('public-ipv4s', text, 'address')[0];
}

/** The order of the list is not documented; this key holds one address, the instance's primary one. */
async function primaryFirst(imds: Imds, addresses: string[]): Promise<string[]> {
  const primary = (await imds.read('meta-data/local-ipv4'))?.trim();
  if (primary === undefined || !addresses.includes(primary)) return addresses;
  return [primary, ...addresses.filter((address) => address !== primary)];
}

/** `Warmed:*` while the instance waits in an Auto Scaling warm pool; undefined outside one. */
export async function readLifecycleTarget(imds: Imds): Promise<string | undefined> {
  return (await imds.read('meta-data/autoscaling/target-lifecycle-state'))?.trim();
}

/** Name of the instance profile's role and its temporary credentials. */
export async function readCredentials(imds: Imds): Promise<{
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken: string;
  expiration: Date;
}> {
  const role = (await imds.read('meta-data/iam/security-credentials/'))?.trim().split('\n')[0];
  if (role === undefined) {
    throw new Failure('NO_INSTANCE_ROLE', 'the instance has no instance profile, so EC2 cannot be called');
  }
  const text = await imds.read(
    `meta-data/iam/security-credentials/${field('the name of the role', role, 'roleName')}`,
  );
  const fields = text === undefined ? {} : parseDocument(text);
  // Instead of credentials, IMDS may return the error that EC2 met when it assumed the role, such as
  // AssumeRoleUnauthorizedAccess.
  const code = text === undefined ? 'there are none' : fields['Code'];
  if (code !== undefined && code !== 'Success')
    throw new Failure('EC2_AUTH', `IMDS gives no credentials of the role ${role}: ${String(code)}`, { role });
  return {
    accessKeyId: entry(fields, 'AccessKeyId', 'secret'),
    secretAccessKey: entry(fields, 'SecretAccessKey', 'secret'),
    sessionToken: entry(fields, 'Token', 'secret'),
    expiration: new Date(entry(fields, 'Expiration', 'date')),
  };
}

async function required(imds: Imds, path: string): Promise<string> {
  const text = await imds.read(path);
  if (text === undefined) throw new Failure('IMDS_INCOMPLETE', `IMDS has nothing at ${path}`, { path });
  return text;
}

function parseDocument(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
  } catch {
    // The text may hold credentials, so the error below does not quote it.
  }
  throw new Failure(codeOfKind.IMDS.unreadable, 'IMDS answered with a document that is no JSON object');
}

function entry(fields: Record<string, unknown>, name: string, form: Form): string {
  const value = fields[name];
  if (value === undefined || value === '')
    throw new Failure('IMDS_INCOMPLETE', `IMDS answered without ${name}`, { name });
  return field(name, value, form);
}

function macOf(text: string): string {
  return field('mac', text.trim().toLowerCase(), 'mac');
}

function wholeNumber(text: string): number | string {
  return /^\s*\d{1,6}\s*$/.test(text) ? Number(text) : text;
}

/** Each line in the given form; no lines where IMDS has no such key. */
function fieldLines(name: string, text: string | undefined, form: Form): string[] {
  return lines(name, text ?? '').map((line) => field(name, line, form));
}

function lines(name: string, text: string): string[] {
  const found = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  if (found.length <= bounds.imdsLines) return found;
  throw senseless(name, `a list of ${found.length}`);
}
