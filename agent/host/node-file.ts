// The facts about the node that the CNI plugin needs, so that an ADD asks neither EC2 nor IMDS. Boot writes them when
// the node becomes ready; they are written again whenever a pod ENI comes or goes.
import { Failure } from '../messages/failure.ts';
import { readIfPresent } from '../port/fs.ts';
import { isAddress, isCidr } from './ipv4.ts';
import { ENI_PREFIX_LENGTH, isAddress6, isCidr6 } from './ipv6.ts';
import { RUN_DIR } from './names.ts';
import { isBoolean, isCount, list, optional, shape, text } from './shape.ts';

export const NODE_FILE = `${RUN_DIR}/node.json`;

export interface NodeFile {
  /**
   * Raised when a field changes its meaning; a reader refuses a number that it does not know. A new optional field does
   * not raise it.
   */
  schema: 1;
  instanceId: string;
  /** Addresses of the boot ENI, the node's own first. Pods reach them by their veth. */
  nodeAddresses: string[];
  /** MTU of the boot ENI's device, which every pod's veth gets. */
  mtu: number;
  /** CIDRs that pods reach by their own ENI: those of the VPC and those of the configuration. */
  podRoutes: string[];
  /** CIDRs inside `podRoutes` that pods reach through the node all the same: rows of egress.table with NAT. */
  egressRoutes: string[];
  allowImds: boolean;
  /**
   * Destinations that pods reach over IPv6 through the node instead of by their own ENI; absent when pods have IPv4
   * alone.
   */
  ipv6?:
    | {
        /** Addresses of the boot ENI; empty when it has none. */
        nodeAddresses: string[];
        serviceCidrs: string[];
      }
    | undefined;
  /** Milliseconds that an address rests after its pod is gone. */
  restMs: number;
  /** A refill is requested when fewer addresses than this are left. */
  lowWater: number;
  /** Present when pods get a share of the node's bandwidth by their CPU. */
  bandwidth?: NodeBandwidth | undefined;
  /** Present when network policies are in force. */
  policy?: NodePolicy | undefined;
  /** In the order in which pods fill them. */
  podEnis: NodePodEni[];
}

export interface NodeBandwidth {
  /** What the pods' network card carries without a time limit, in bit/s. */
  baselineBits: number;
  /** CPUs of the node. */
  cpus: number;
  /** The smallest share of a pod, in bit/s, also for a pod that requests no CPU. */
  floorBits: number;
}

export interface NodePolicy {
  /** true: each pod is closed until its rules are known. false: only pods whose namespace has a policy are. */
  strict: boolean;
  /** CIDRs of both families. A pod may send to all of them; the policies apply to the backends behind them. */
  serviceCidrs: string[];
  /** Denied packets are logged to the journal. */
  logDenied?: true | undefined;
}

export interface NodePodEni {
  eniId: string;
  /** Lower case; eniboot finds the device by it. */
  mac: string;
  subnetCidr: string;
  /** The ENI's own address, which no pod gets; absent when it is not known. */
  primaryAddress?: string | undefined;
  /** The /80 from which its pods' IPv6 addresses are made; absent when pods have IPv4 alone. */
  ipv6Prefix?: string | undefined;
}

/** The file's text. Its fields have a fixed order, so that equal facts give equal texts. */
export function nodeFileText(facts: NodeFile): string {
  return `${JSON.stringify(facts, null, 2)}\n`;
}

/** @throws NODE_NOT_READY when boot has not written the file yet, NODE_FILE_DAMAGED when this version cannot read it. */
export function readNodeFile(): NodeFile {
  const path = NODE_FILE;
  const content = readIfPresent(path);
  if (content === undefined)
    throw new Failure('NODE_NOT_READY', `${path} is not there: eniboot has not finished booting this node`);
  const facts = parsed(content);
  if (facts !== undefined) return facts;
  throw new Failure('NODE_FILE_DAMAGED', `${path} is damaged or of another version`, { path });
}

/** The file of an earlier run, for a caller that writes it again; undefined when there is no usable file. */
export function earlierNodeFile(): NodeFile | undefined {
  return parsed(readIfPresent(NODE_FILE) ?? '');
}

/** A reader treats damaged text and a wrong shape alike. */
function parsed(content: string): NodeFile | undefined {
  try {
    const facts: unknown = JSON.parse(content);
    return isNodeFile(facts) ? facts : undefined;
  } catch {
    return undefined;
  }
}

const isAnyCidr = (one: string) => isCidr(one) || isCidr6(one);

/**
 * Every value is checked: values become lines for `ip`, and a file that is partly wrong must not lead to a pod that is
 * partly made.
 */
const isNodeFile = shape<NodeFile>({
  schema: (value) => value === 1,
  instanceId: text(),
  nodeAddresses: list(text(isAddress), 1),
  mtu: isCount,
  podRoutes: list(text(isCidr)),
  egressRoutes: list(text(isCidr)),
  allowImds: isBoolean,
  ipv6: optional(shape({ nodeAddresses: list(text(isAddress6)), serviceCidrs: list(text(isCidr6)) })),
  restMs: isCount,
  lowWater: isCount,
  bandwidth: optional(shape<NodeBandwidth>({ baselineBits: isCount, cpus: isCount, floorBits: isCount })),
  policy: optional(
    shape<NodePolicy>({
      strict: isBoolean,
      serviceCidrs: list(text(isAnyCidr)),
      logDenied: optional((value) => value === true),
    }),
  ),
  podEnis: list(
    shape<NodePodEni>({
      eniId: text((id) => /^eni-[\w-]+$/.test(id)),
      mac: text((mac) => /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/.test(mac)),
      subnetCidr: text(isCidr),
      primaryAddress: optional(text(isAddress)),
      ipv6Prefix: optional(text((cidr) => isCidr6(cidr) && cidr.endsWith(`/${ENI_PREFIX_LENGTH}`))),
    }),
  ),
});
