// kubelet's release: a file on which kubelet.service has a condition.
import { RUN_DIR } from '../../host/names.ts';
import { isThere } from '../../port/fs.ts';
import type { Context } from '../context.ts';
import type { NodeFacts } from '../facts/facts.ts';

/** It is absent while the instance waits in a warm pool. */
export const RELEASE = `${RUN_DIR}/kubelet-released`;

/** Whether this boot lets kubelet run; it does not while the instance waits in a warm pool. */
export function isKubeletReleased(): boolean {
  return isThere(RELEASE);
}

/** In a warm pool the instance is prepared and stopped again: kubelet must not join the cluster meanwhile. */
export function isWarming({ lifecycleTarget }: Pick<NodeFacts, 'lifecycleTarget'>): boolean {
  return lifecycleTarget?.startsWith('Warmed:') === true;
}

/** This repair finds an instance that has left its warm pool since the boot, and releases kubelet. */
export function releasesNow({ mode }: Context, lifecycleTarget: NodeFacts['lifecycleTarget']): boolean {
  return mode.kind === 'repair' && !isKubeletReleased() && !isWarming({ lifecycleTarget });
}
