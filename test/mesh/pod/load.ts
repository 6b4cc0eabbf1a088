// Sends requests to services of the mesh as a pod's program does, by the sidecar on loopback. Writes a line per answer.
//   node load.ts --rate N SERVICE...    N requests a second to each, until its standard input ends
//   node load.ts --count N SERVICE      N requests, one after another
import { Agent, get } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { EGRESS_PORT } from '../manager/resources.ts';
import type { Answered } from './server.ts';

/** One request. Times are milliseconds since 1970. */
export interface Asked {
  to: string;
  at: number;
  ms: number;
  /** HTTP status; 0 when there was no answer. */
  status: number;
  /** Undefined when the answer did not come from the server. */
  answer?: Answered;
  said?: string;
}

/** Longer than the time-out of the route. */
const PATIENCE_MS = 8000;

function ask(agent: Agent, to: string): Promise<Asked> {
  return new Promise((resolve) => {
    const at = performance.timeOrigin + performance.now();
    const done = (status: number, said: string) => {
      const asked: Asked = { to, at, ms: performance.timeOrigin + performance.now() - at, status };
      resolve(status === 200 ? { ...asked, answer: JSON.parse(said) as Answered } : { ...asked, said });
    };
    const options = {
      host: '127.0.0.1',
      port: EGRESS_PORT,
      path: '/',
      agent,
      headers: { host: to },
      timeout: PATIENCE_MS,
    };
    const request = get(options, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => done(response.statusCode ?? 0, text));
      response.on('error', (error) => done(0, error.message));
    });
    request.on('timeout', () => request.destroy(new Error('no answer')));
    request.on('error', (error) => done(0, error.message));
  });
}

const tell = (asked: Asked) => process.stdout.write(`${JSON.stringify(asked)}\n`);

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { rate: { type: 'string' }, count: { type: 'string' } },
    allowPositionals: true,
  });
  const agent = new Agent({ keepAlive: true });
  for (let left = Number(values.count ?? 0); left > 0; left--) tell(await ask(agent, positionals[0] ?? ''));
  if (values.rate === undefined) return;
  const end = new AbortController();
  process.stdin.once('close', () => end.abort());
  process.stdin.resume();
  const pauseMs = 1000 / Number(values.rate);
  const open = new Set<Promise<void>>();
  for (let next = performance.now(); !end.signal.aborted; next += pauseMs) {
    await delay(Math.max(0, next - performance.now()));
    for (const to of positionals) {
      const one = ask(agent, to)
        .then(tell)
        .then(() => void open.delete(one));
      open.add(one);
    }
  }
  await Promise.all(open);
}

if (process.argv[1] === import.meta.filename) {
  // The reader of the output is gone.
  process.stdout.on('error', () => process.exit(1));
  await main();
  process.exit(0);
}
