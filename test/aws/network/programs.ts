import { spawn } from 'node:child_process';

/** Runs a program with text on its standard input; rejects with its error output when it fails. */
export async function feed(file: string, args: string[], input = ''): Promise<string> {
  const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
  child.stdin.on('error', () => {}); // the exit status tells of the failure
  child.stdin.end(input);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code === 0) return Buffer.concat(out).toString();
  throw new Error(
    `${file} ${args.join(' ')} exited with ${code}: ${Buffer.concat(err).toString().trim()}\n${input}`,
  );
}

/** Runs jobs one after the other: changes must reach the kernel in the order in which the model made them. */
export function createQueue(): <T>(job: () => Promise<T>) => Promise<T> {
  let tail: Promise<unknown> = Promise.resolve();
  return (job) => {
    const result = tail.then(job);
    tail = result.catch(() => {});
    return result;
  };
}
