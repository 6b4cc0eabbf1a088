// The inputs of pods' bandwidth limits on this node: pods.bandwidth, and what the instance type carries.
import type { NodeBandwidth } from '../../host/node-file.ts';
import { run } from '../../port/exec.ts';
import { processors } from '../../port/runtime.ts';
import type { NodeFacts } from '../facts/facts.ts';
import { type Check, fail, pass, warn } from '../phase.ts';

type Facts = Pick<NodeFacts, 'config' | 'limits'>;

const MEGA = 1_000_000;

/** undefined when no pod gets a share by its CPU: it is not configured, or the node's bandwidth is unknown. */
export function bandwidthOf({ config, limits }: Facts): NodeBandwidth | undefined {
  const { bandwidth } = config.pods;
  if (bandwidth?.from !== 'cpu') return undefined;
  const baselineMbps = bandwidth.baselineMbps ?? limits.baselineMbps;
  if (baselineMbps === undefined) return undefined;
  return {
    baselineBits: baselineMbps * MEGA,
    cpus: processors(),
    floorBits: bandwidth.floorMbps * MEGA,
  };
}

/** The capabilities that the conflist announces: what the runtime tells the plugin about a pod. */
export function bandwidthCapabilities({ config }: Facts): Record<string, true> | undefined {
  const { bandwidth } = config.pods;
  if (bandwidth === undefined) return undefined;
  return { bandwidth: true, ...(bandwidth.from === 'cpu' ? { cgroupPath: true } : {}) };
}

export interface BandwidthSeen {
  /** tc(8), which sets pods' limits, is installed. */
  hasTc: boolean;
  share: NodeBandwidth | undefined;
}

/** undefined when no limits are configured. */
export async function observeBandwidth(node: NodeFacts): Promise<BandwidthSeen | undefined> {
  if (node.config.pods.bandwidth === undefined) return undefined;
  const { missing } = await run('tc', ['-V']);
  return { hasTc: !missing, share: bandwidthOf(node) };
}

export function checkBandwidth(node: NodeFacts, seen: BandwidthSeen | undefined): Check[] {
  if (seen === undefined) return [];
  const { hasTc, share } = seen;
  const needsTc = 'pods.bandwidth needs tc, which is not installed';
  if (!hasTc) return [fail('bandwidth', 'TOOL_MISSING', needsTc, { tool: 'tc' })];
  const { instanceType } = node.identity;
  const [missing] = missingBandwidth(node, seen);
  if (missing !== undefined) return [warn('bandwidth', missing, { instanceType })];
  if (share === undefined) return [pass('bandwidth', 'pods are limited by their annotations alone')];
  const perCpu = Math.round(share.baselineBits / share.cpus / MEGA);
  const whole = `${share.baselineBits / MEGA} Mbit/s for ${share.cpus} CPUs`;
  return [pass('bandwidth', `${perCpu} Mbit/s for each CPU of a pod: ${whole}`, { ...share })];
}

/** Limits that are configured and that this node cannot set. */
export function missingBandwidth(node: NodeFacts, seen: BandwidthSeen | undefined): string[] {
  if (node.config.pods.bandwidth?.from !== 'cpu' || seen?.share !== undefined) return [];
  const { instanceType } = node.identity;
  return [
    `no baseline bandwidth is published for ${instanceType}: pods get no limit by CPU until pods.bandwidth.baselineMbps says it`,
  ];
}
