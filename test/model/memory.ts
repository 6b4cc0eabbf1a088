// The driver without a machine: the product's plugin, refill, collect, egress and attach run in this process, on real pool
// files, on a modelled kernel, virtual time and the simulated EC2's state machine. A kill happens between two changes of a
// file, of the kernel or of EC2. So a sequence is the same each time it is played.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { setImmediate as breathe } from 'node:timers/promises';
import type { PodEni } from '../../agent/boot/facts/facts.ts';
import type { Phase } from '../../agent/boot/phase.ts';
import { leaksOf } from '../aws/cloud.ts';
import { seeded } from '../boot/kill.ts';
import { beforeChanges, Crash } from '../pool/crash.ts';
import { replaceModules } from '../replace-modules.ts';
import { tracesOf } from './kernel.ts';
import { assignedBy, poolOf, rangesOf } from './look.ts';
import type { Called, Machine } from './machine.ts';
import type { Life } from './memory-node.ts';
import { marks } from './model.ts';
import { operations } from './operations.ts';
import { type Played, play } from './play.ts';

const instead = new URL('memory-node.ts', import.meta.url).href;
const replaced = [
  'port/clock',
  'port/exec',
  'port/exec-sync',
  'host/links',
  'host/routes',
  'kernel/execute',
  'host/nft',
  'host/sysctl',
  'host/lock',
  'boot/phases/identify',
  'aws/metadata',
];
replaceModules([
  ...replaced.map((module) => ({ module, instead })),
  { module: '@aws-sdk/client-ec2', from: 'aws/ec2-sdk', instead },
]);
// The model replaces the host's devices and the files that outlive a boot.
for (const path of ['/sys/class/net', '/var/lib']) execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', path]);

const { lives, node, powerOn, silently, systemClock } = await import('./memory-node.ts');
const { runPlugin } = await import('../../cni/main.ts');
const { refill } = await import('../../agent/boot/refill/refill.ts');
const { collect } = await import('../../agent/pool/collect.ts');
const { openContext } = await import('../../agent/boot/context.ts');
const { converge } = await import('../../agent/boot/converge.ts');
const { egress } = await import('../../agent/boot/phases/egress/egress.ts');
const { attach } = await import('../../agent/boot/phases/attach/attach.ts');
const { nodeFile } = await import('../../agent/boot/phases/node-file.ts');
const { BOOTED_CONFIG } = await import('../../agent/boot/facts/booted.ts');
const { NODE_FILE } = await import('../../agent/host/node-file.ts');
const { writeIfChanged } = await import('../../agent/port/fs.ts');
const { isFailure } = await import('../../agent/messages/failure.ts');
const { loadConfig } = await import('../../agent/config/load.ts');
const { addressOfHostLink } = await import('../../agent/host/pod-link-name.ts');

/** The most changes of a call. The generator's milliseconds of a kill are mapped to one of them. */
const CALL_CHANGES = 50;
const RUN_CHANGES = 90;

/** Plays the operations of a seed on the node of this process, which can be used only once. */
export async function playInMemory(
  ops: number,
  seed: number,
  onStep?: (done: number, last: string) => void,
): Promise<Played> {
  // The agent's jitter.
  Math.random = seeded(seed);
  return play(operations(ops, seed), await memoryMachine(), onStep);
}

/** Operations that a killed run had begun end at their next change, at any later time. */
function keepDead(): void {
  if (lives.getStore()?.dead === true) throw new Crash();
}

/** Whether this process waits for a real file or socket: virtual time must then wait, too. */
function isBusy(): boolean {
  return process.getActiveResourcesInfo().some((kind) => /Req|ConnectWrap/.test(kind));
}

async function memoryMachine(): Promise<Machine> {
  beforeChanges(keepDead);
  const { scheduler, ec2, faults, instance } = node;
  const { target, lowWater, surplus } = marks;
  const text = `cluster: model
pods: { subnets: { tags: { eniboot: pods } } }
pool: { target: ${target}, lowWater: ${lowWater}, surplus: ${surplus} }
`;
  node.config = loadConfig([{ name: 'model', content: text }]).config;
  mkdirSync('/run/crio');
  const listener = createServer().listen('/run/crio/crio.sock');
  listener.unref();
  let running = false;
  /** Pauses of pods' calls that run beside the agent. */
  const pauses = { open: 0 };

  /** Runs one of the agent's programs to its end, or to its kill at a change. */
  async function live(work: () => Promise<object>, killAfterMs: number | undefined): Promise<Called> {
    const life: Life = { dead: false };
    const at = killAfterMs === undefined ? Number.POSITIVE_INFINITY : killAfterMs % RUN_CHANGES;
    let changes = 0;
    const earlier = beforeChanges(() => {
      keepDead();
      changes += 1;
      if (!life.dead && changes <= at) return;
      life.dead = true;
      throw new Crash();
    });
    let ended: Called | undefined;
    async function run(): Promise<void> {
      try {
        ended = { exit: 0, stdout: JSON.stringify(await work()), stderr: '', killed: false };
      } catch (error) {
        if (life.dead) return;
        if (!isFailure(error)) throw error;
        const { code, message } = error;
        ended = {
          exit: 1,
          stdout: JSON.stringify({ failure: { code, message } }),
          stderr: '',
          killed: false,
        };
      }
    }
    void lives.run(life, run);
    running = true;
    while (!life.dead) {
      do await breathe();
      while (isBusy());
      if (ended !== undefined || life.dead) break;
      if (!scheduler.step()) throw new Error('no task is left to wait for');
    }
    running = false;
    beforeChanges(earlier);
    while (pauses.open > 0 && scheduler.step()) await breathe();
    return ended ?? { exit: null, stdout: '', stderr: '', killed: true };
  }

  /** Runs the phases of a boot, or of a repair, that concern pods. */
  async function phases(kind: 'boot' | 'repair'): Promise<object> {
    const mode = { kind, asBooted: kind === 'repair' };
    const context = openContext({ clock: systemClock, log: silent, mode });
    context.phaseEndsAt = systemClock.bootMs() + 300_000;
    const { identify, readEni } = await import('./memory-node.ts');
    const { node: facts } = await identify(context).observe();
    const { vpc } = await settled(egress(context, facts));
    const { pods } = await settled(attach(context, facts, vpc));
    const told: PodEni[] = [];
    for (const pod of pods)
      told.push({
        ...pod,
        subnetCidr: pod.subnetCidr || ((await readEni(context.imds, pod.mac))?.subnetCidr ?? ''),
      });
    writeIfChanged(NODE_FILE, nodeFile(facts, vpc.cidrs, told));
    writeIfChanged(BOOTED_CONFIG, '{}');
    return { changes: [] };

    /** Runs a phase until a further observation finds nothing to do. */
    async function settled<Observed>(phase: Phase<Observed>): Promise<Observed> {
      const observed = await converge(phase, context);
      const left = phase.plan?.(await phase.observe()).map((change) => change.summary) ?? [];
      if (left.length > 0) throw new Error(`${kind}, ${phase.name} converged, and yet: ${left.join('; ')}`);
      return observed;
    }
  }

  async function reboot(killBootAfterMs: number | undefined): Promise<void> {
    powerOn();
    if (killBootAfterMs !== undefined) await live(() => phases('boot'), killBootAfterMs);
    const { exit, stdout } = await live(() => phases('boot'), undefined);
    if (exit !== 0) throw new Error(`the node did not boot: ${stdout}`);
  }

  const space = (name: string) => node.kernel.spaces.get(`/run/netns/${name}`);
  const insideOf = (name: string) => {
    const found = space(name);
    if (found === undefined) return undefined;
    return [...found.links].map(([link, { addresses }]) => [link, ...addresses].join(' '));
  };

  const machine: Machine = {
    cloud: {
      vpc: ec2.world.vpc,
      ec2,
      faults,
      calls: ec2.calls,
      latency: { imdsLagMs: 0 } as never,
      async settled() {
        if (!running) scheduler.advance(4_000);
      },
      leakReport: () => leaksOf(ec2),
    },
    instance: {
      id: instance.id,
      get enis() {
        return node.enis();
      },
    },
    lacks: new Set(['check', 'imds-lag']),
    async cni(command, variables, config, killAfterMs) {
      const at = killAfterMs === undefined ? Number.POSITIVE_INFINITY : killAfterMs % CALL_CHANGES;
      let changes = 0;
      let dead = false;
      let stdout = '';
      const all: Record<string, string> = { CNI_COMMAND: command, CNI_PATH: '/opt/cni/bin', ...variables };
      const earlier = beforeChanges(() => {
        changes += 1;
        if (!dead && changes <= at) return;
        dead = true;
        throw new Crash();
      });
      let exit: number | null = null;
      try {
        exit = runPlugin({
          name: 'eniboot',
          environment: (name) => all[name],
          input: () => JSON.stringify(config),
          stdout: (written) => {
            stdout += written;
          },
        });
      } finally {
        beforeChanges(earlier);
      }
      if (!running) scheduler.advance(40);
      return dead
        ? { exit: null, stdout: '', stderr: '', killed: true }
        : { exit, stdout, stderr: '', killed: false };
    },
    eniboot(args, killAfterMs) {
      const [name, action] = args;
      if (name === 'repair') return live(() => phases('repair'), killAfterMs);
      return live(action === 'refill' ? refill : () => collect(systemClock), killAfterMs);
    },
    // A killed run has no children that go on.
    async settle() {},
    async addNamespaces(names) {
      silently(() => {
        for (const name of names) {
          // A path of any other namespace: the model has its contents.
          symlinkSync('/proc/self/ns/uts', `/run/netns/${name}`);
          node.kernel.addSpace(`/run/netns/${name}`);
        }
      });
    },
    async endNamespace(name) {
      const inside = insideOf(name) ?? [];
      silently(() => rmSync(`/run/netns/${name}`, { force: true }));
      node.kernel.endSpace(`/run/netns/${name}`);
      return inside;
    },
    async flushNft() {
      node.egress = undefined;
    },
    async sandboxes(ids) {
      node.sandboxes = ids;
    },
    async look(namespaces) {
      const kernel = new Map<string, Set<string>>();
      for (const [address, name] of tracesOf(node.kernel.host, addressOfHostLink))
        kernel.set(address, (kernel.get(address) ?? new Set()).add(name));
      const set = /set pool4 \{[^}]*?elements = \{([^}]*)\}/.exec(node.egress ?? '')?.[1] ?? '';
      return {
        nowMs: systemClock.bootMs(),
        ...poolOf(filesBelow('/run/eniboot/pool', '')),
        kernel,
        egress:
          node.egress === undefined
            ? undefined
            : rangesOf(
                set
                  .split(',')
                  .map((one) => one.trim())
                  .filter(Boolean),
              ),
        podEnis: (
          JSON.parse(readFileSync(NODE_FILE, 'utf8')) as { podEnis: { eniId: string }[] }
        ).podEnis.map((eni) => eni.eniId),
        inside: new Map(namespaces.map((name) => [name, insideOf(name)])),
        ec2: assignedBy(machine.instance),
      };
    },
    async pause(ms) {
      if (!running) return scheduler.advance(ms);
      pauses.open += 1;
      await new Promise<void>((resolve) => scheduler.after(ms, resolve));
      pauses.open -= 1;
    },
    async wait(seconds) {
      scheduler.advance(seconds * 1000);
    },
    reboot,
  };
  await reboot(undefined);
  return machine;
}

function filesBelow(root: string, below: string): string[] {
  return readdirSync(`${root}/${below}`, { withFileTypes: true }).flatMap((entry) => {
    const path = below === '' ? entry.name : `${below}/${entry.name}`;
    return entry.isDirectory() ? filesBelow(root, path) : [path];
  });
}

const nothing = () => silent;
const silent = { debug: nothing, info: nothing, warn: nothing, error: nothing } as never;
