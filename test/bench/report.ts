// Common parts of the benchmarks: order statistics, aligned tables, the table of targets, and the evidence file.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { table as columns } from '../../agent/cli/table.ts';

const root = join(import.meta.dirname, '../..');

export interface Spread {
  p10: number;
  median: number;
  p90: number;
  max: number;
  n: number;
}

/** Nearest-rank percentiles; zeros when there are no values. */
export function spread(values: number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return { p10: at(0.1), median: at(0.5), p90: at(0.9), max: sorted.at(-1) ?? 0, n: sorted.length };
}

/** One target. `timing` marks a figure that a busy machine makes wrong: with `lenient` it only warns. */
export interface Target {
  what: string;
  target: string;
  measured: string;
  met: boolean;
  timing: boolean;
}

export function targetTable(targets: Target[]): string {
  return table([
    ['target', 'wanted', 'measured', 'met'],
    ...targets.map((one) => [
      one.what,
      one.target,
      one.measured,
      one.met ? 'yes' : one.timing ? 'NO (timing)' : 'NO',
    ]),
  ]);
}

/** Aligned as commands print tables, without the last line's end. */
export function table(rows: string[][]): string {
  return columns(rows).trimEnd();
}

/** Writes the results and the machine they were measured on, for docs/evidence. */
export function writeEvidence(path: string, name: string, result: object): void {
  mkdirSync(dirname(path), { recursive: true });
  const git = (...args: string[]) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  const evidence = {
    name,
    commit: git('rev-parse', 'HEAD'),
    changed: git('status', '--porcelain', '--', 'agent', 'cni', 'test') !== '',
    version,
    time: new Date().toISOString(),
    machine: {
      kernel: execFileSync('uname', ['-sr'], { encoding: 'utf8' }).trim(),
      cpu: cpus()[0]?.model ?? '',
      cores: cpus().length,
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      node: process.version,
    },
    ...result,
  };
  writeFileSync(path, `${JSON.stringify(evidence, null, 2)}\n`);
}
