// The booted configuration: what a READY boot leaves for the programs of a running node. It is written last. A later run of
// boot that fails does not change it: the node goes on as it was, and so do repair and refill.
import { RUN_DIR } from '../../host/names.ts';
import { Failure } from '../../messages/failure.ts';
import { readIfPresent } from '../../port/fs.ts';

/** The configuration with its parameters resolved, as JSON. Only root can read it, and it goes with the boot. */
export const BOOTED_CONFIG = `${RUN_DIR}/config.json`;

/** Whether this boot has become READY, whatever a later run has found. */
export function isBooted(): boolean {
  return readIfPresent(BOOTED_CONFIG) !== undefined;
}

/** @throws NOT_BOOTED; `why` says what needs a READY boot. */
export function requireBooted(why: string): void {
  if (!isBooted()) throw new Failure('NOT_BOOTED', `this boot has not become READY: ${why}`);
}
