// A boot on a terminal: one line for each phase, redrawn while the phase runs.

import type { Watcher } from '../boot/boot.ts';
import { type PhaseStatus, type Status, sourcesLine } from '../boot/verdict/status.ts';
import type { CommandIo } from './command.ts';
import { paint } from './table.ts';

export function terminalWatcher(io: CommandIo): { watch: Watcher; stop(): void } {
  let redraw: NodeJS.Timeout | undefined;
  let shown = '';
  const stop = () => {
    clearInterval(redraw);
    redraw = undefined;
  };
  return {
    stop,
    watch(status, phase) {
      stop();
      if (phase.state === 'running') {
        if (!io.isTTY) return;
        const started = performance.now();
        const draw = () =>
          io.stdout(`\r\u001b[K${runningLine(status, phase, (performance.now() - started) / 1000)}`);
        draw();
        redraw = setInterval(draw, 200);
        return;
      }
      const line = endedLine(phase, io.isTTY);
      if (line === shown) return;
      shown = line;
      io.stdout(`${io.isTTY ? '\r\u001b[K' : ''}${line}\n`);
      const sources = phase.name === 'identify' ? sourcesLine(status) : undefined;
      if (sources !== undefined) io.stdout(`             = configuration: ${sources}\n`);
      for (const change of phase.changes) io.stdout(`             + ${change}\n`);
      for (const check of phase.checks) {
        if (check.result !== 'pass')
          io.stdout(
            `             ${paint(check.result === 'warn' ? 'yellow' : 'red', '! ', io.isTTY)}${check.summary}\n`,
          );
      }
    },
  };
}

function runningLine(status: Status, phase: PhaseStatus, elapsed: number): string {
  const left = Math.max(0, Math.min(phase.budgetSeconds, status.remainingSeconds) - elapsed);
  const again = phase.attempts > 1 ? `, try ${phase.attempts}` : '';
  return `  ${phase.name.padEnd(9)}…  ${elapsed.toFixed(1)} s, ${left.toFixed(0)} s left${again}`;
}

function endedLine(phase: PhaseStatus, colour: boolean): string {
  const mark = phase.state === 'done' ? paint('green', 'ok    ', colour) : paint('red', 'FAILED', colour);
  const time = `${(phase.ms / 1000).toFixed(2)} s`.padStart(8);
  const first = phase.checks.find((check) => check.result === 'pass');
  return `  ${phase.name.padEnd(9)}${mark}${time}  ${first?.summary ?? ''}`;
}
