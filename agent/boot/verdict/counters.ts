// What went wrong on a node since it was switched to its version. A rollout's gate asks for this beside the present health. The
// counts before the switch are noted at the switch; after a reboot, everything has been counted since.
import { STATE_DIR } from '../../host/names.ts';
import { readCounters } from '../../host/nft.ts';
import { showUnits } from '../../host/units.ts';
import { bootId } from '../../port/clock.ts';
import { readJsonIfPresent, writeAtomic } from '../../port/fs.ts';
import { guardCounters } from '../node-rules/nft-guard.ts';
import { countedCalls } from './metrics.ts';

/** Counts since the switch. A count that the node cannot read is left out. */
export interface Counters {
  /** Of eniboot's units: restarts by systemd, and units whose last run has crashed. */
  restarts?: number;
  /** ADDs that failed. ADDs that only have to be tried again later, or whose pod is gone, do not count. */
  failedAdds?: number;
  /** Packets that the guards have dropped, without packets to instance metadata. */
  drops?: number;
}

interface Reading {
  units?: Record<string, { restarts: number; crash: string }> | undefined;
  failedAdds: number;
  drops?: number | undefined;
}

/** Which switch: the node, the version, and the rollout that asked for it. */
export interface Switch {
  instanceId: string;
  version: string;
  rollout: string | undefined;
}

interface Baseline extends Omit<Switch, 'instanceId'> {
  bootId: string;
  reading: Reading;
}

const UNITS = ['eniboot', 'eniboot-repair', 'eniboot-refill', 'eniboot-collect'].map(
  (name) => `${name}.service`,
);
/** How a crashed run ends. Source: systemd.exec(5), $SERVICE_RESULT. */
const CRASHED: ReadonlySet<string> = new Set(['signal', 'core-dump', 'oom-kill', 'watchdog', 'timeout']);
/** The exit code of a defect (cli/main.ts). */
const DEFECT = '70';
/** Codes that say nothing about the version: the node is short of something, or the pod is gone. */
const HARMLESS: ReadonlySet<string> = new Set([
  'OK',
  'POOL_EXHAUSTED',
  'NODE_NOT_READY',
  'ADDRESS_IN_USE',
  'SYSTEM_EXHAUSTED',
  'NETNS_GONE',
]);

/** Notes the present counts. With `keep`, counts that were noted for this switch before stay. */
export async function noteBaseline(of: Switch, keep = false): Promise<void> {
  if (keep && readBaseline(of) !== undefined) return;
  const { instanceId, version, rollout } = of;
  const baseline: Baseline = { bootId: bootId(), version, rollout, reading: await read() };
  writeAtomic(pathOf(instanceId), `${JSON.stringify(baseline)}\n`);
}

/** undefined when the switch was not noted: a version that does not note switches has made it. */
export async function countersSince(of: Switch): Promise<Counters | undefined> {
  const baseline = readBaseline(of);
  if (baseline === undefined) return undefined;
  const now = await read();
  const before: Reading =
    baseline.bootId === bootId() ? baseline.reading : { units: {}, failedAdds: 0, drops: 0 };
  const restarts = restartsSince(before.units, now.units);
  return {
    ...(restarts === undefined ? {} : { restarts }),
    failedAdds: grown(before.failedAdds, now.failedAdds),
    ...(now.drops === undefined ? {} : { drops: grown(before.drops ?? 0, now.drops) }),
  };
}

/** A counter that is now below its earlier value was made anew with its table or unit, and has grown from zero. */
function grown(before: number, now: number): number {
  return now >= before ? now - before : now;
}

function restartsSince(before: Reading['units'], now: Reading['units']): number | undefined {
  if (before === undefined || now === undefined) return undefined;
  let sum = 0;
  for (const [unit, { restarts, crash }] of Object.entries(now)) {
    const known = before[unit] ?? { restarts: 0, crash: '' };
    sum += grown(known.restarts, restarts) + (crash !== '' && crash !== known.crash ? 1 : 0);
  }
  return sum;
}

async function read(): Promise<Reading> {
  const [units, drops] = await Promise.all([readUnits(), readDrops()]);
  return { units, failedAdds: failedAdds(), drops };
}

function failedAdds(): number {
  return Object.entries(countedCalls()).reduce((sum, [call, times]) => {
    const [, command, code = ''] = call.split(' ');
    return command === 'ADD' && !HARMLESS.has(code) ? sum + times : sum;
  }, 0);
}

/** undefined when eniboot's tables are absent, or nft cannot be asked. */
async function readDrops(): Promise<number | undefined> {
  try {
    const counted = await readCounters();
    const names = Object.keys(guardCounters).filter((name) => !name.startsWith('imds_') && counted.has(name));
    if (names.length === 0) return undefined;
    return names.reduce((sum, name) => sum + (counted.get(name)?.packets ?? 0), 0);
  } catch {
    return undefined;
  }
}

/** undefined on a machine without systemd. */
async function readUnits(): Promise<Reading['units']> {
  const properties = ['Id', 'NRestarts', 'Result', 'ExecMainStatus', 'InvocationID'];
  const shown = await showUnits(UNITS, properties);
  if ('reason' in shown) return undefined;
  return Object.fromEntries(
    shown.units.map(({ Id = '', NRestarts, Result = '', ExecMainStatus, InvocationID = '' }) => {
      const crashed = CRASHED.has(Result) || (Result === 'exit-code' && ExecMainStatus === DEFECT);
      return [Id, { restarts: Number(NRestarts) || 0, crash: crashed ? InvocationID : '' }];
    }),
  );
}

function readBaseline({ instanceId, version, rollout }: Switch): Baseline | undefined {
  const found = readJsonIfPresent(pathOf(instanceId)) as Partial<Baseline> | null | undefined;
  const { reading } = found ?? {};
  const ours = found?.version === version && found.rollout === rollout;
  // A damaged file counts as absent.
  const whole = typeof found?.bootId === 'string' && typeof reading?.failedAdds === 'number';
  return ours && whole ? (found as Baseline) : undefined;
}

function pathOf(instanceId: string): string {
  return `${STATE_DIR}/${instanceId}/counters.json`;
}
