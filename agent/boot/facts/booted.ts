// The booted configuration: what a READY boot leaves for the programs of a running node. It is written last. A later run of
// boot that fails does not change it: the node goes on as it was, and so do repair and refill.
import { RUN_DIR, STATUS_FILE } from '../../host/names.ts';
import { Failure } from '../../messages/failure.ts';
import { readIfPresent, readJsonIfPresent } from '../../port/fs.ts';

/** The configuration with its parameters resolved, as JSON. Only root can read it, and it goes with the boot. */
export const BOOTED_CONFIG = `${RUN_DIR}/config.json`;

/** Whether this boot has become READY, whatever a later run has found. */
export function isBooted(): boolean {
  return readIfPresent(BOOTED_CONFIG) !== undefined;
}

/** Why there is no booted configuration. `why` says what needs a READY boot. */
export function notBooted(why: string): Failure {
  const status = readJsonIfPresent(STATUS_FILE) as { verdict?: unknown } | null | undefined;
  return status?.verdict === 'ready'
    ? new Failure('BOOTED_CONFIG_DAMAGED', `${BOOTED_CONFIG} is gone`, { path: BOOTED_CONFIG })
    : new Failure('NOT_BOOTED', `this boot has not become READY: ${why}`);
}

/** @throws NOT_BOOTED, BOOTED_CONFIG_DAMAGED */
export function requireBooted(why: string): void {
  if (!isBooted()) throw notBooted(why);
}
