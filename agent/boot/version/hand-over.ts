// The zone's version finishes a boot that this version began. If it fails, this version can go on.
import { runInPlace } from '../../port/run-in-place.ts';
import { environment } from '../../port/runtime.ts';
import type { BundleState } from '../facts/bundle-state.ts';
import { readLinks, restoreLinks } from './versions.ts';

/** Set for a version to which another version hands a boot over. */
const HANDED_OVER = 'ENIBOOT_HANDED_OVER';

/** Share of the time that is left. This version needs the same again if it has to finish the boot after all. */
const SHARE = 0.5;

export function isSuccessor(): boolean {
  return environment(HANDED_OVER) !== undefined;
}

/**
 * Runs the staged version as `eniboot ARGS`. Resolves to undefined when that version came up. Otherwise it has been ended, the
 * links are as they were, and the returned bundle state says why. `remainingMs`: until the boot's deadline.
 */
export async function handOver(
  executable: string,
  args: string[],
  bundle: BundleState,
  remainingMs: number,
): Promise<BundleState | undefined> {
  const links = readLinks();
  const timeoutMs = Math.max(0, remainingMs * SHARE);
  const code = await runInPlace(executable, args, { env: { [HANDED_OVER]: '1' }, timeoutMs });
  if (code === 0) return undefined;
  restoreLinks(links);
  const ending =
    code === undefined ? `had no verdict after ${Math.round(timeoutMs / 1000)} s` : `ended with ${code}`;
  return {
    ...bundle,
    staged: undefined,
    reason: `version ${bundle.wanted} was handed this boot and did not come up: it ${ending}`,
  };
}
