// ENIs on their way back to EC2. Written down before EC2 is asked to detach one, so that a killed run's successor
// finishes it: a detached ENI that nobody deletes is paid for until the account's limit is reached.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { listIfPresent } from '../port/fs.ts';
import { POOL_DIR } from './pool.ts';

const LEAVING = `${POOL_DIR}/leaving-enis`;

export function leavingEnis(): string[] {
  return listIfPresent(LEAVING);
}

export function startLeavingEni(eniId: string): void {
  mkdirSync(LEAVING, { recursive: true, mode: 0o700 });
  writeFileSync(`${LEAVING}/${eniId}`, '');
}

/** It is gone, or it stays. */
export function endLeavingEni(eniId: string): void {
  rmSync(`${LEAVING}/${eniId}`, { force: true });
}
