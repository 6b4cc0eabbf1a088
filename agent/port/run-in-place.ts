import { spawn } from 'node:child_process';

const passedOn = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs another executable in place of this one: same streams, and its exit code. Resolves to undefined when it did not end
 * within `timeoutMs`; it and everything it started in its process group are then killed. An end by a signal counts as 128 + 9,
 * whatever the signal: the executable did not finish. A signal that would end this process ends both.
 */
export function runInPlace(
  file: string,
  args: string[],
  options: { env: Record<string, string>; timeoutMs: number },
): Promise<number | undefined> {
  return new Promise((resolve) => {
    // A process group of its own, so that all of it can be ended. The terminal's Ctrl-C must therefore be passed on.
    const child = spawn(file, args, {
      stdio: 'inherit',
      detached: true,
      env: { ...process.env, ...options.env },
    });
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      signalGroup('SIGKILL');
    }, options.timeoutMs);
    const passOn = (signal: NodeJS.Signals) => {
      signalGroup(signal);
      stopPassing();
      process.kill(process.pid, signal);
    };
    for (const signal of passedOn) process.on(signal, passOn);
    child.on('error', () => end(127));
    child.on('exit', (code) => {
      // Processes that it left behind would work on the machine at the same time as the program that goes on.
      if (code !== 0) signalGroup('SIGKILL');
      end(timedOut ? undefined : (code ?? 137));
    });

    function signalGroup(signal: NodeJS.Signals): void {
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, signal);
      } catch {
        // The group has ended.
      }
    }
    function stopPassing(): void {
      for (const signal of passedOn) process.off(signal, passOn);
    }
    function end(code: number | undefined): void {
      clearTimeout(timer);
      stopPassing();
      resolve(code);
    }
  });
}
