// How long each part of a call took. A process makes one call, so there is one stopwatch.
import { note } from '../agent/host/tally.ts';

/** Milliseconds by phase; a phase may have several parts. */
const spent: Record<string, number> = {};

/** Runs a part of a phase and adds its time to the phase, also when it throws. */
export function timed<T>(phase: 'lease' | 'kernel', work: () => T): T {
  const from = performance.now();
  try {
    return work();
  } finally {
    spent[phase] = (spent[phase] ?? 0) + performance.now() - from;
  }
}

/** Adds the time before this moment: the start of the program. */
export function started(): void {
  spent['start'] = performance.now();
}

/** Writes the call's line for the metrics; `code` is OK or a failure code. */
export function noteCall(plugin: string, command: string, code: string): void {
  const phases = Object.entries({ ...spent, total: performance.now() });
  const text = phases.map(([phase, ms]) => `${phase}=${ms.toFixed(3)}`).join(' ');
  note(`cni ${plugin} ${command} ${code} ${text}`);
}
