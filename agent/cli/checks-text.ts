import type { Check } from '../boot/phase.ts';
import { failureCodes } from '../messages/codes.ts';
import { paint, table } from './table.ts';

/** Checks as a table, what to do about each code, and how many of each kind. */
export function checksText(checks: Check[], colour: boolean): string {
  const marks = {
    pass: paint('green', 'pass', colour),
    warn: paint('yellow', 'warn', colour),
    fail: paint('red', 'FAIL', colour),
    skip: 'n/a',
  };
  const rows = table(checks.map((check) => [marks[check.result], check.id, check.summary]));
  const codes = new Set(checks.flatMap((check) => check.code ?? []));
  const remedies = [...codes].map((code) => `${code}: ${failureCodes[code].remedy}\n`);
  const counts = { pass: 0, warn: 0, fail: 0, skip: 0 };
  for (const check of checks) counts[check.result] += 1;
  const skipped = counts.skip === 0 ? '' : `, ${counts.skip} not applicable here`;
  return `${rows}${remedies.join('')}${counts.pass} pass, ${counts.warn} warn, ${counts.fail} fail${skipped}\n`;
}
