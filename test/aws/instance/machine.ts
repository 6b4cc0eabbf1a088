// A simulated machine: network, mount, UTS, IPC and PID namespaces that share the host's programs and libraries.
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { ExecOptions, ExecResult } from '../../../agent/port/exec-result.ts';
import { feed } from '../network/programs.ts';

export interface Machine {
  /** PID of its init, seen from outside; 0 while it is off. */
  readonly pid: number;
  /** Where its file tree can be reached from outside. */
  readonly root: string;
  /** Everything written to /dev/console since the machine was made. */
  console(): string;
  /** Makes new namespaces, a new boot ID and an empty /run; /etc, /var, /opt and /usr/libexec/eniboot stay as they are. */
  powerOn(): Promise<void>;
  powerOff(): Promise<void>;
  /** Runs `ip -batch` inside its network namespace, as the machine's own network manager would. */
  configure(batch: string): Promise<void>;
  run(file: string, args: string[], options?: ExecOptions): Promise<ExecResult>;
  spawn(file: string, args: string[], options?: SpawnOptions): ChildProcess;
  read(path: string): string | undefined;
  write(path: string, text: string, mode?: number): void;
  /** Deletes everything that the machine kept. */
  destroy(): Promise<void>;
}

export interface MachineSpec {
  id: string;
  hostname: string;
  resolvConf: string;
}

const home = '/run/eniboot-aws';
/** Environment of a process in the machine, unless the caller gives another. */
const environment = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  LC_ALL: 'C.UTF-8',
};

export function createMachine(spec: MachineSpec): Machine {
  const base = join(home, spec.id);
  for (const directory of [
    'etc',
    'etc.work',
    'usr-libexec',
    'usr-libexec.work',
    'libexec',
    'opt',
    'var/lib',
    'var/log',
    'var/cache',
    'var/tmp',
  ])
    mkdirSync(join(base, directory), { recursive: true });
  symlinkSync('/run', join(base, 'var/run'));
  const file = (name: string, text: string): void => writeFileSync(join(base, name), text);
  file('console', '');
  file('hostname', `${spec.hostname}\n`);
  file('machine-id', `${randomUUID().replaceAll('-', '')}\n`);
  file('resolv.conf', spec.resolvConf);
  let supervisor: ChildProcess | undefined;
  let pid = 0;

  function enter(program: string, args: string[]): string[] {
    if (pid === 0) throw new Error(`${spec.id} is off`);
    // Without pdeathsig, the program inside would outlive a killed nsenter.
    return [
      `--target=${pid}`,
      '--mount',
      '--uts',
      '--ipc',
      '--net',
      '--pid',
      '--wd',
      '--',
      'setpriv',
      '--pdeathsig',
      'KILL',
      '--',
      program,
      ...args,
    ];
  }

  function start(program: string, args: string[], options: SpawnOptions = {}): ChildProcess {
    const child = spawn('nsenter', enter(program, args), {
      ...options,
      env: { ...environment, ...options.env },
    });
    const killNsenter = child.kill.bind(child);
    // A signal goes to the program inside, not to nsenter, its parent.
    child.kill = (signal) => {
      const inner = firstChild(child.pid ?? 0);
      if (inner === 0) return killNsenter(signal);
      try {
        return process.kill(inner, signal ?? 'SIGTERM');
      } catch {
        return false;
      }
    };
    return child;
  }

  const machine: Machine = {
    get pid() {
      return pid;
    },
    get root() {
      return `/proc/${pid}/root`;
    },
    console: () => readFileSync(join(base, 'console'), 'utf8'),
    powerOn: async () => {
      file('boot_id', `${randomUUID()}\n`);
      const script = join(import.meta.dirname, 'init.sh');
      const flags = ['--net', '--mount', '--uts', '--ipc', '--pid', '--fork', '--kill-child=KILL'];
      const child = spawn('unshare', [...flags, '--', 'sh', script, base, ...keptPaths()], {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: environment,
      });
      let errors = '';
      child.stderr.on('data', (chunk: Buffer) => {
        errors += chunk.toString();
      });
      await new Promise<void>((done, fail) => {
        createInterface({ input: child.stdout }).once('line', () => done());
        child.once('error', fail);
        child.once('exit', (code) =>
          fail(new Error(`the init of ${spec.id} ended with ${code}: ${errors.trim()}`)),
        );
      });
      supervisor = child;
      child.unref();
      pid = firstChild(child.pid ?? 0);
    },
    powerOff: async () => {
      const child = supervisor;
      if (child === undefined) return;
      supervisor = undefined;
      const gone = new Promise((done) => child.once('exit', done));
      child.ref();
      const initPid = pid;
      pid = 0;
      process.kill(initPid, 'SIGKILL');
      await gone;
    },
    configure: async (batch) => {
      await feed('nsenter', [`--target=${pid}`, '--net', '--', 'ip', '-batch', '-'], batch);
    },
    run: (program, args, options = {}) => collect(start, program, args, options),
    spawn: start,
    read: (path) => {
      try {
        return readFileSync(join(machine.root, path), 'utf8');
      } catch (error) {
        if (
          error instanceof Error &&
          'code' in error &&
          (error.code === 'ENOENT' || error.code === 'ENOTDIR')
        )
          return undefined;
        throw error;
      }
    },
    write: (path, text, mode = 0o644) => {
      const target = join(machine.root, path);
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, text, { mode });
    },
    destroy: async () => {
      await machine.powerOff();
      rmSync(base, { recursive: true, force: true });
    },
  };
  return machine;
}

async function collect(
  start: Machine['spawn'],
  program: string,
  args: string[],
  options: ExecOptions,
): Promise<ExecResult> {
  const started = performance.now();
  const child = start(program, args, {
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    env: options.env,
  });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
  child.stdin?.on('error', () => {}); // the program may end without reading its input
  child.stdin?.end(options.input);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill('SIGKILL');
  }, options.timeoutMs ?? 10_000);
  const abort = (): void => void child.kill('SIGKILL');
  options.signal?.addEventListener('abort', abort, { once: true });
  const [code, signal] = await new Promise<[number | null, string | null]>((done, fail) => {
    child.once('error', fail);
    child.once('close', (...end) => done(end));
  });
  clearTimeout(timer);
  options.signal?.removeEventListener('abort', abort);
  const stderr = Buffer.concat(err).toString();
  return {
    command: [program, ...args],
    exitCode: signal === null ? code : null,
    signal,
    missing: code === 127 && stderr.startsWith('setpriv: failed to execute'),
    stdout: Buffer.concat(out).toString(),
    stderr,
    timedOut,
    ms: performance.now() - started,
  };
}

/** The only child of a process; 0 when it has none (yet). */
function firstChild(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0] ?? 0);
  } catch {
    return 0;
  }
}

/** The checkout and the runtime stay visible where the instance mounts a directory of its own. */
function keptPaths(): string[] {
  const checkout = resolve(import.meta.dirname, '../../..');
  return [checkout, dirname(process.execPath)].filter((path) => /^\/(var|opt)\//.test(path));
}
