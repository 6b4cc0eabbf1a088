// The place where a program of the mesh runs: on an instance, in a pod's network namespace, or in a pod with the
// instance's own network.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import type { Instance } from '../aws/index.ts';
import type { Asked } from './pod/load.ts';
import { ADMIN_PORT, bootstrap, type SidecarSpec } from './sidecar.ts';

export interface Place {
  /** Name of the pod or instance, which its logs have too. */
  name: string;
  /** Starts a program that runs until it is ended; its output goes to a log. */
  start(what: string, command: readonly string[]): ChildProcess;
  /** The output of a program; empty when the program failed. */
  output(...command: string[]): Promise<string>;
  /** Sends each service N requests per second until `end`, which returns all answers. */
  load(rate: number, ...services: string[]): Load;
  /** Sends a service N requests, one after another. */
  ask(service: string, count: number): Promise<Asked[]>;
}

export interface Load {
  /** The answers so far. */
  answers: Asked[];
  end(): Promise<Asked[]>;
}

const LOAD = join(import.meta.dirname, 'pod/load.ts');

/**
 * A network namespace by its name, or the instance's own namespace with a pod's own resolv.conf, as containers with
 * host network have it.
 */
type Where = { netns: string } | { resolvConf: string };

/** @param where undefined for the instance itself. @param work folder for logs. */
export function placeOf(name: string, instance: Instance, work: string, where?: Where): Place {
  const within = (command: readonly string[]): [file: string, args: string[]] => {
    const [file = '', ...args] = [...prefixOf(where), ...command];
    return [file, args];
  };
  function start(what: string, command: readonly string[]): ChildProcess {
    const log = openSync(join(work, `${name}-${what}.log`), 'a');
    const child = instance.spawn(...within(command), { stdio: ['ignore', log, log] });
    closeSync(log);
    child.unref();
    return child;
  }
  function load(...args: string[]): Load {
    const answers: Asked[] = [];
    const child = instance.spawn(...within([process.execPath, LOAD, ...args]), {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    if (child.stdout === null) throw new Error('its output is a pipe');
    createInterface({ input: child.stdout }).on('line', (line) => answers.push(JSON.parse(line) as Asked));
    const closed = once(child, 'close');
    child.stdin?.on('error', () => {}); // its machine may be gone
    return {
      answers,
      end: async () => {
        child.stdin?.end();
        await closed;
        return answers;
      },
    };
  }
  return {
    name,
    start,
    output: async (...command) => (await instance.run(...within(command))).stdout,
    load: (rate, ...services) => load('--rate', String(rate), ...services),
    ask: (service, count) => load('--count', String(count), service).end(),
  };
}

function prefixOf(where: Where | undefined): string[] {
  if (where === undefined) return [];
  if ('netns' in where) return ['ip', 'netns', 'exec', where.netns];
  const script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"';
  return ['unshare', '--mount', 'sh', '-c', script, where.resolvConf];
}

/** Starts Envoy and resolves when Envoy has its configuration from its control plane. */
export async function startSidecar(
  place: Place,
  envoy: string,
  work: string,
  spec: SidecarSpec,
): Promise<ChildProcess> {
  const file = join(work, `${place.name}-envoy.json`);
  writeFileSync(file, bootstrap(spec));
  const child = place.start('envoy', [envoy, '-c', file, '--concurrency', '1', '--disable-hot-restart']);
  await until(`the sidecar of ${place.name}`, 30_000, async () => {
    const said = await place.output('curl', '-s', '--max-time', '2', `http://127.0.0.1:${ADMIN_PORT}/ready`);
    return said.startsWith('LIVE');
  });
  return child;
}

let patience = 1;

/** For a machine that is so many times slower. */
export function setPatience(times: number): void {
  patience = times;
}

/** A limit in milliseconds, as this machine has it. */
export function patient(ms: number): number {
  return ms * patience;
}

/** @throws when the condition does not hold in time. */
export async function until(
  what: string,
  withinMs: number,
  holds: () => Promise<boolean> | boolean,
): Promise<void> {
  const giveUpAt = performance.now() + patient(withinMs);
  while (!(await holds())) {
    if (performance.now() > giveUpAt) throw new Error(`${what}: not in ${patient(withinMs) / 1000} s`);
    await delay(25);
  }
}

/** Sends a signal, and resolves when the program has ended. */
export async function ended(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill(signal);
  await gone;
}
