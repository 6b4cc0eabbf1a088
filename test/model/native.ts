// The driver for this kernel: a simulated instance, the shipped executable. The boot clock is a time namespace, so that a rest
// of a minute costs no time. Where the kernel has no ipvlan, the stand-in of test/cni replaces it.
import { setTimeout as delay } from 'node:timers/promises';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText, ENIBOOT, launchNode, type Node, type NodeOptions } from '../boot/node.ts';
import type { Plan } from '../boot/planned.ts';
import { STAND_IN_BUILD } from '../build/stand-in.ts';
import { podNode } from '../cni/rig.ts';
import type { Called, Machine } from './machine.ts';
import { marks } from './model.ts';
import { operations } from './operations.ts';
import { type Played, play } from './play.ts';
import { type CallOptions, type Shell, throughShell } from './shell.ts';

const TIME = '/run/model/time';
/** Seconds between power-on and the agent's start. */
const POWER_ON_S = 5;
const BIN = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const PATH = `/run/model/bin:${BIN}`;

/** Plays the operations of a seed on a node of its own. */
export async function playNatively(
  ops: number,
  seed: number,
  onStep?: (done: number, last: string) => void,
): Promise<Played> {
  const cloud = await startCloud();
  const { target, lowWater, surplus } = marks;
  const pool = `pool: { target: ${target}, lowWater: ${lowWater}, surplus: ${surplus} }\n`;
  const machine = await nativeMachine(cloud, { type: 't3.small', config: configText(cloud, pool) });
  const played = await play(operations(ops, seed), machine, onStep);
  await cloud.stop();
  return played;
}

async function nativeMachine(cloud: Cloud, options: NodeOptions): Promise<Machine> {
  const { node, wait, boot, ...shell } = await nativeNode(cloud, options);
  const { instance } = node;
  return {
    cloud,
    instance,
    lacks: new Set(),
    ...throughShell(shell, instance),
    wait,
    async reboot(killBootAfterMs) {
      await node.reboot();
      await boot(killBootAfterMs);
    },
  };
}

interface NativeNode extends Shell {
  node: Node;
  /** Moves the boot clock on. */
  wait(seconds: number): Promise<void>;
  /** eniboot's boot up to READY after a power-on, with a new boot clock; its first run may be killed. */
  boot(killAfterMs: number | undefined): Promise<void>;
}

/** A node that has booted under a boot clock of its own. */
export async function nativeNode(cloud: Cloud, options: NodeOptions): Promise<NativeNode> {
  const node = await launchNode(cloud, { built: STAND_IN_BUILD, ...options });
  const { instance } = node;
  /** Seconds between this kernel's boot clock and the machine's. */
  let offset = 0;

  async function setClock(seconds: number): Promise<void> {
    offset = seconds;
    const script = `mkdir -p /run/model; umount -q ${TIME} || :; : > ${TIME}
      unshare --time=${TIME} --boottime=${offset} true`;
    const result = await instance.run('sh', ['-ec', script]);
    if (result.exitCode !== 0) throw new Error(`no time namespace: ${result.stderr}`);
  }

  async function call(
    file: string,
    args: string[],
    { env, input, killAfterMs, endAfterMs = 150_000 }: CallOptions,
  ): Promise<Called> {
    const child = instance.spawn('nsenter', [`--time=${TIME}`, '--', file, ...args], {
      env: { PATH, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const output = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const)
      child[name]?.on('data', (chunk: Buffer) => {
        output[name] += chunk.toString();
      });
    child.stdin?.on('error', () => {}); // the program may end before it has read its input
    child.stdin?.end(input ?? '');
    let killed = false;
    const kill = () => {
      killed = true;
      child.kill('SIGKILL');
    };
    const timers = [setTimeout(() => child.kill('SIGKILL'), endAfterMs)];
    if (killAfterMs !== undefined) timers.push(setTimeout(kill, killAfterMs));
    // Not `close`: children that outlive the program keep its output open.
    const exit = await new Promise<number | null>((resolve) =>
      child.once(killAfterMs === undefined ? 'close' : 'exit', (code) => resolve(code)),
    );
    for (const timer of timers) clearTimeout(timer);
    return { exit, ...output, killed };
  }

  async function boot(killAfterMs: number | undefined): Promise<void> {
    const uptime = await instance.run('cat', ['/proc/uptime']);
    await setClock(POWER_ON_S - Math.floor(Number.parseFloat(uptime.stdout)));
    if (killAfterMs !== undefined) {
      await call(ENIBOOT, ['boot'], { killAfterMs });
      await delay(50);
    }
    const { exit, stdout, stderr } = await call(ENIBOOT, ['boot', '--json'], {});
    if (exit !== 0) throw new Error(`the node did not boot: ${stderr}${stdout.slice(0, 2_000)}`);
    const plan = await call(ENIBOOT, ['plan', '--json'], {});
    const left = (JSON.parse(plan.stdout) as Plan).phases.flatMap((phase) => phase.changes);
    if (left.length > 0) throw new Error(`the node has booted, and yet: ${left.join('; ')}`);
    podNode(node);
    instance.write('/run/model/bin/crictl', '#!/bin/sh\nexec cat /run/model/sandboxes.json\n', 0o755);
    // The socket file stays when its process is gone.
    const listen = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
    await instance.run('sh', [
      '-c',
      `mkdir -p /run/crio; exec "$@"`,
      'sh',
      process.execPath,
      '-e',
      listen,
      '/run/crio/crio.sock',
    ]);
  }

  async function sh(script: string): Promise<string> {
    const { exit, stdout, stderr } = await call('sh', ['-c', script], {});
    if (exit !== 0) throw new Error(`${script}: exit ${exit}: ${stderr}`);
    return stdout;
  }

  await boot(undefined);
  return { node, call, sh, boot, wait: (seconds) => setClock(offset + seconds) };
}
