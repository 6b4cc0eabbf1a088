// ENIs on their way back to EC2. Each is written down before EC2 is asked to detach it, so that the next run finishes
// what a killed run began: a detached ENI that is never deleted counts against the account's limit and is paid for.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { listIfPresent } from '../port/fs.ts';
import { POOL } from './entry.ts';

export function leavingEnis(): string[] {
  return listIfPresent(POOL.leavingEnis);
}

export function startLeavingEni(eniId: string): void {
  mkdirSync(POOL.leavingEnis, { recursive: true, mode: 0o700 });
  writeFileSync(`${POOL.leavingEnis}/${eniId}`, '');
}

/** The ENI is gone, or it stays. */
export function endLeavingEni(eniId: string): void {
  rmSync(`${POOL.leavingEnis}/${eniId}`, { force: true });
}
