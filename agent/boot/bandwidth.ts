// What pods' bandwidth limits are made of on this node: pods.bandwidth against what the instance type carries.
import type { NodeBandwidth } from '../host/node-file.ts';
import { run } from '../port/exec.ts';
import { processors } from '../port/runtime.ts';
import { type Boot, type Check, fail, nodeOf, pass, warn } from './phase.ts';

const MEGA = 1_000_000;

/** undefined where no pod gets a share by its CPU: not asked for, or nobody knows what there is to share. */
export function bandwidthOf(boot: Boot): NodeBandwidth | undefined {
  const { bandwidth } = boot.config.pods;
  if (bandwidth?.from !== 'cpu') return undefined;
  const baselineMbps = bandwidth.baselineMbps ?? nodeOf(boot).limits.baselineMbps;
  if (baselineMbps === undefined) return undefined;
  return {
    baselineBits: baselineMbps * MEGA,
    cpus: processors(),
    floorBits: bandwidth.floorMbps * MEGA,
  };
}

/** The capabilities the conflist announces: what the runtime is to tell the plugin about a pod. */
export function bandwidthCapabilities(boot: Boot): Record<string, true> | undefined {
  const { bandwidth } = boot.config.pods;
  if (bandwidth === undefined) return undefined;
  return { bandwidth: true, ...(bandwidth.from === 'cpu' ? { cgroupPath: true } : {}) };
}

/** Nothing to say where no limits are asked for. */
export async function checkBandwidth(boot: Boot): Promise<Check[]> {
  const { bandwidth } = boot.config.pods;
  if (bandwidth === undefined) return [];
  const { missing } = await run('tc', ['-V']);
  if (missing)
    return [
      fail('bandwidth', 'TOOL_MISSING', 'pods.bandwidth needs tc, which is not installed', { tool: 'tc' }),
    ];
  if (bandwidth.from !== 'cpu') return [pass('bandwidth', 'pods are limited by their annotations alone')];
  const share = bandwidthOf(boot);
  if (share === undefined) {
    const { instanceType } = nodeOf(boot).identity;
    const reason = `no baseline bandwidth is published for ${instanceType}: pods get no limit by CPU until pods.bandwidth.baselineMbps says it`;
    boot.degradations.push(reason);
    return [warn('bandwidth', reason, { instanceType })];
  }
  const perCpu = Math.round(share.baselineBits / share.cpus / MEGA);
  return [
    pass(
      'bandwidth',
      `${perCpu} Mbit/s for each CPU of a pod: ${share.baselineBits / MEGA} Mbit/s for ${share.cpus} CPUs`,
      { ...share },
    ),
  ];
}
