// What boot found out about the node and the CNI plugin needs: written once when the node becomes ready, and
// again whenever a pod ENI comes or goes, so that an ADD asks neither EC2 nor IMDS.
import { Failure } from '../messages/failure.ts';
import { readIfPresent } from '../port/fs.ts';
import { RUN_DIR } from './names.ts';

export const NODE_FILE = `${RUN_DIR}/node.json`;

export interface NodeFile {
  /** Raised when a field changes its meaning; a reader refuses what it does not know. */
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
}

/** The file's text; fields in a fixed order, so that equal facts give equal texts. */
export function nodeFileText(facts: NodeFile): string {
  return `${JSON.stringify(facts, null, 2)}\n`;
}

/** @throws NODE_NOT_READY when boot has not written it yet or this version cannot read it. */
export function readNodeFile(): NodeFile {
  const text = readIfPresent(NODE_FILE);
  if (text === undefined) {
    throw new Failure(
      'NODE_NOT_READY',
      `${NODE_FILE} is not there: eniboot has not finished booting this node`,
    );
  }
  try {
    const facts = JSON.parse(text) as NodeFile;
    if (facts.schema === 1 && Array.isArray(facts.podEnis) && facts.nodeAddresses[0] !== undefined)
      return facts;
  } catch {
    // Falls through: damaged text and a wrong shape are the same to the reader.
  }
  throw new Failure('NODE_NOT_READY', `${NODE_FILE} is damaged or of another version`, { path: NODE_FILE });
}
