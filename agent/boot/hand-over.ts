// The zone's version finishes a boot this one began. Whatever becomes of it, this one can go on.
import { runInPlace } from '../port/hand-over.ts';
import { environment } from '../port/runtime.ts';
import type { BundleState } from './bundle.ts';
import { readLinks, restoreLinks } from './versions.ts';

/** Set for a version that is handed a boot another one began. */
const HANDED_OVER = 'ENIBOOT_HANDED_OVER';

/** Of the time that is left: the same again is needed if this version has to come up after all. */
const SHARE = 0.5;

export function isSuccessor(): boolean {
  return environment(HANDED_OVER) !== undefined;
}

/**
 * Runs the staged version as `eniboot ARGS`. Resolves to undefined when it came up; otherwise it has been ended, the
 * links are as they were, and what is told of the bundle says why. `remainingMs`: until the boot's deadline.
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
