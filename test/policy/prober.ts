// Runs prober.py and stream.py, one in each network namespace: each reads a line of JSON and answers with a line.
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export interface Prober {
  call<T>(command: object): Promise<T>;
  end(): void;
}

/** @param spawn starts a command in the namespace, with pipes for its input and output. */
export function prober(
  spawn: (file: string, args: string[]) => ChildProcess,
  script: 'prober.py' | 'stream.py' = 'prober.py',
): Prober {
  const child = spawn('python3', [fileURLToPath(new URL(script, import.meta.url))]);
  if (child.stdout === null) throw new Error(`${script} has no pipe`);
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return {
    async call<T>(command: object): Promise<T> {
      child.stdin?.write(`${JSON.stringify(command)}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error(`${script} has ended`);
      return JSON.parse(value) as T;
    },
    end: () => child.kill(),
  };
}
