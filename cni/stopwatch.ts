// What a call's time went into. A process makes one call, so it has one stopwatch.
import { note } from '../agent/host/tally.ts';

/** Milliseconds by phase; a phase may come in parts. */
const spent: Record<string, number> = {};

/** Runs a part of a phase and books its time, also when it throws. */
export function timed<T>(phase: 'lease' | 'kernel', work: () => T): T {
  const from = performance.now();
  try {
    return work();
  } finally {
    spent[phase] = (spent[phase] ?? 0) + performance.now() - from;
  }
}

/** Books all that was before: the program's own start. */
export function started(): void {
  spent['start'] = performance.now();
}

/** Notes the call for the metrics; `code` is OK or a failure code. */
export function noteCall(plugin: string, command: string, code: string): void {
  const phases = Object.entries({ ...spent, total: performance.now() });
  const text = phases.map(([phase, ms]) => `${phase}=${ms.toFixed(3)}`).join(' ');
  note(`cni ${plugin} ${command} ${code} ${text}`);
}
