// What boot found out about the node and the CNI plugin needs: written once when the node becomes ready, and
// again whenever a pod ENI comes or goes, so that an ADD asks neither EC2 nor IMDS.
import { Failure } from '../messages/failure.ts';
import { readIfPresent } from '../port/fs.ts';
import { isAddress, isCidr } from './ipv4.ts';
import { ENI_PREFIX_LENGTH, isAddress6, isCidr6 } from './ipv6.ts';
import { RUN_DIR } from './names.ts';

export const NODE_FILE = `${RUN_DIR}/node.json`;

export interface NodeFile {
  /** Raised when a field changes its meaning; a reader refuses what it does not know. A new optional field leaves it. */
  schema: 1;
  instanceId: string;
  /** Addresses of the boot ENI, the node's own first: pods reach them over their veth. */
  nodeAddresses: string[];
  /** MTU of the boot ENI's device: that of every pod's veth. */
  mtu: number;
  /** CIDRs that pods reach from their own ENI: the VPC's and the configured ones. */
  podRoutes: string[];
  /** CIDRs inside those that pods nevertheless reach through the node: rows of egress.table with NAT. */
  egressRoutes: string[];
  allowImds: boolean;
  /** Over IPv6, where pods have it: what they reach through the node instead of by their own ENI. */
  ipv6?: {
    /** Addresses of the boot ENI; empty when it has none. */
    nodeAddresses: string[];
    serviceCidrs: string[];
  };
  /** Milliseconds an address rests after its pod is gone. */
  restMs: number;
  /** A refill is asked for when fewer addresses than this are left. */
  lowWater: number;
  /** Set where pods get a share of the node's bandwidth by their CPU. */
  bandwidth?: NodeBandwidth;
  /** In the order they are filled. */
  podEnis: NodePodEni[];
}

export interface NodeBandwidth {
  /** What the pods' network card carries for good, in bit/s. */
  baselineBits: number;
  /** CPUs of the node. */
  cpus: number;
  /** The least a pod gets, in bit/s: also one that asks for no CPU. */
  floorBits: number;
}

export interface NodePodEni {
  eniId: string;
  /** Lower case; the device is found by it. */
  mac: string;
  subnetCidr: string;
  /** Of the ENI itself, which no pod has; absent where nothing has said it. */
  primaryAddress?: string;
  /** The /80 its pods' IPv6 addresses are made of; absent where pods have IPv4 alone. */
  ipv6Prefix?: string;
}

/** The file's text; fields in a fixed order, so that equal facts give equal texts. */
export function nodeFileText(facts: NodeFile): string {
  return `${JSON.stringify(facts, null, 2)}\n`;
}

/** @throws NODE_NOT_READY when boot has not written it yet, NODE_FILE_DAMAGED when this version cannot read it. */
export function readNodeFile(): NodeFile {
  const text = readIfPresent(NODE_FILE);
  if (text === undefined) {
    throw new Failure(
      'NODE_NOT_READY',
      `${NODE_FILE} is not there: eniboot has not finished booting this node`,
    );
  }
  const facts = parsed(text);
  if (facts !== undefined) return facts;
  throw new Failure('NODE_FILE_DAMAGED', `${NODE_FILE} is damaged or of another version`, {
    path: NODE_FILE,
  });
}

/** What an earlier run told the plugin, for whoever writes the file anew; undefined where none of it can be used. */
export function earlierNodeFile(): NodeFile | undefined {
  return parsed(readIfPresent(NODE_FILE) ?? '');
}

/** Damaged text and a wrong shape are the same to the reader. */
function parsed(text: string): NodeFile | undefined {
  try {
    const facts: unknown = JSON.parse(text);
    return isNodeFile(facts) ? facts : undefined;
  } catch {
    return undefined;
  }
}

/** Every value is looked at: they become lines for `ip`, and a half-right file must not become half a pod. */
function isNodeFile(value: unknown): value is NodeFile {
  const facts = (value ?? {}) as Record<keyof NodeFile, unknown>;
  return (
    facts.schema === 1 &&
    isListOf(facts.nodeAddresses, isAddress) &&
    facts.nodeAddresses.length > 0 &&
    isListOf(facts.podRoutes, isCidr) &&
    isListOf(facts.egressRoutes, isCidr) &&
    typeof facts.allowImds === 'boolean' &&
    [facts.mtu, facts.restMs, facts.lowWater].every(isCount) &&
    (facts.ipv6 === undefined || isNodeIpv6(facts.ipv6)) &&
    (facts.bandwidth === undefined || isNodeBandwidth(facts.bandwidth)) &&
    Array.isArray(facts.podEnis) &&
    facts.podEnis.every(isPodEni)
  );
}

function isPodEni(value: unknown): boolean {
  const { eniId, mac, subnetCidr, primaryAddress, ipv6Prefix } = (value ?? {}) as Record<
    keyof NodePodEni,
    unknown
  >;
  return (
    typeof eniId === 'string' &&
    /^eni-[\w-]+$/.test(eniId) &&
    typeof mac === 'string' &&
    /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/.test(mac) &&
    typeof subnetCidr === 'string' &&
    isCidr(subnetCidr) &&
    (primaryAddress === undefined || (typeof primaryAddress === 'string' && isAddress(primaryAddress))) &&
    (ipv6Prefix === undefined ||
      (typeof ipv6Prefix === 'string' && isCidr6(ipv6Prefix) && ipv6Prefix.endsWith(`/${ENI_PREFIX_LENGTH}`)))
  );
}

function isNodeIpv6(value: unknown): boolean {
  const { nodeAddresses, serviceCidrs } = (value ?? {}) as Record<string, unknown>;
  return isListOf(nodeAddresses, isAddress6) && isListOf(serviceCidrs, isCidr6);
}

function isNodeBandwidth(value: unknown): boolean {
  const { baselineBits, cpus, floorBits } = (value ?? {}) as Record<keyof NodeBandwidth, unknown>;
  return [baselineBits, cpus, floorBits].every(isCount);
}

function isListOf(value: unknown, holds: (text: string) => boolean): value is string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string' && holds(one));
}

function isCount(value: unknown): boolean {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}
