// A program that gets lines for as long as it reads them.
import { execa } from 'execa';

export interface Feed {
  write(line: string): void;
  /** Closes the program's input; resolves when the program has ended, at the latest after `ms` milliseconds. */
  end(ms: number): Promise<void>;
}

/** @param lost is called once, with the reason, when the program reads no more. */
export function feed(file: string, args: string[], lost: (reason: string) => void): Feed {
  let over = false;
  const lose = (reason: string) => {
    if (!over) lost(reason);
    over = true;
  };
  const child = execa(file, args, {
    stdin: 'pipe',
    stdout: 'ignore',
    stderr: 'inherit',
    reject: false,
    cleanup: true,
  });
  child.stdin.on('error', (error) => lose(error.message));
  const ended = (async () => {
    const { failed, shortMessage } = await child;
    if (failed) lose(shortMessage ?? 'it failed');
    over = true;
  })();
  return {
    write(line) {
      if (!over) child.stdin.write(`${line}\n`);
    },
    async end(ms) {
      child.stdin.end();
      const timer = setTimeout(() => child.kill(), ms);
      await ended;
      clearTimeout(timer);
    },
  };
}
