import { spawn } from 'node:child_process';

const passedOn = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs another executable in this one's place: same streams, its exit code. Resolves to undefined when it did not
 * end within `timeoutMs`; it and whatever it started in its process group are killed then. A signal counts as
 * 128 + 9: whatever ended it, it did not finish. A signal that would end this process ends both.
 */
export function runInPlace(
  file: string,
  args: string[],
  options: { env: Record<string, string>; timeoutMs: number },
): Promise<number | undefined> {
  return new Promise((resolve) => {
    // A group of its own, so that all of it can be ended; the terminal's Ctrl-C has to be passed on for that.
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
      // What it left behind would go on working on the machine beside whoever goes on.
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
