import type { Check } from '../boot/phase.ts';
import { failureCodes } from '../messages/codes.ts';
import { paint, table } from './table.ts';

/** Checks as a table, with what to do about each, and the number of each result. */
export function checksText(checks: Check[], colour: boolean): string {
  return `${rowsOf(checks, colour).join('')}${remediesAndCounts(checks, colour)}`;
}

/** The same in groups, each under its title and the meaning of a failure in it; a group without a row is left out. */
export function groupedText(
  groups: { title: string; means: string; checks: Check[] }[],
  colour: boolean,
): string {
  const all = groups.flatMap(({ checks }) => checks);
  const rows = rowsOf(all, colour);
  const parts = groups
    .filter(({ checks }) => checks.length > 0)
    .map(({ title, means, checks }) => {
      const head = `${paint('bold', title, colour)}${paint('dim', `: if not, ${means}`, colour)}\n`;
      return `${head}${rows.splice(0, checks.length).join('')}`;
    });
  return `${parts.join('')}${remediesAndCounts(all, colour)}`;
}

/** One text for each check, in aligned columns, with what to do when the check says so itself. */
function rowsOf(checks: Check[], colour: boolean): string[] {
  const marks = {
    pass: paint('green', 'pass', colour),
    warn: paint('yellow', 'warn', colour),
    fail: paint('red', 'FAIL', colour),
    skip: 'n/a',
  };
  const lines = table(checks.map((check) => [marks[check.result], check.id, oneLine(check.summary)]));
  return lines
    .split('\n')
    .slice(0, checks.length)
    .map((line, at) => {
      const remedy = checks[at]?.remedy;
      return `${line}\n${remedy === undefined ? '' : `      what to do: ${oneLine(remedy)}\n`}`;
    });
}

/** The text of a program may have several lines, but a row has one. */
function oneLine(text: string): string {
  return text.replaceAll('\n', ' ');
}

function remediesAndCounts(checks: Check[], colour: boolean): string {
  const codes = new Set(checks.flatMap((check) => check.code ?? []));
  const remedies = [...codes].map((code) => `${paint('bold', code, colour)}: ${failureCodes[code].remedy}\n`);
  const counts = { pass: 0, warn: 0, fail: 0, skip: 0 };
  for (const check of checks) counts[check.result] += 1;
  const skipped = counts.skip === 0 ? '' : `, ${counts.skip} not applicable here`;
  return `${remedies.join('')}${counts.pass} pass, ${counts.warn} warn, ${counts.fail} fail${skipped}\n`;
}
