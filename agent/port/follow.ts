import { spawn } from 'node:child_process';

/** A long-running child whose output lines are events; the reader asks for the next one. */
export interface Events {
  /** Resolves at the next output; `ended` when the child has ended or the time is over. */
  next(): Promise<'event' | 'ended'>;
  stop(): void;
}

/** Starts a program such as `ip monitor`; it is killed after `timeoutMs` or by stop(). */
export function follow(file: string, args: string[], timeoutMs: number): Events {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  let pending = false;
  let ended = false;
  let wake: (() => void) | undefined;
  const notify = () => {
    wake?.();
    wake = undefined;
  };
  // Without a free descriptor there is no stream, and the error comes a moment later.
  child.stdout?.on('data', () => {
    pending = true;
    notify();
  });
  const end = () => {
    ended = true;
    clearTimeout(timer);
    notify();
  };
  // The events end at once: `close` would wait for every process that has the child's output open.
  const stop = () => {
    child.kill('SIGKILL');
    child.stdout?.destroy();
    end();
  };
  const timer = setTimeout(stop, timeoutMs);
  child.on('error', end);
  child.on('close', end);
  return {
    async next() {
      if (!pending && !ended) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      if (pending) {
        pending = false;
        return 'event';
      }
      return 'ended';
    },
    stop,
  };
}
