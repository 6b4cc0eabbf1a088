// The calls of cni.ts, made inside the node, so that only the plugins' own time is between two looks at the clock.
import { spawn, spawnSync } from 'node:child_process';

interface Plan {
  rounds: number;
  conf: Record<string, unknown>;
  ours: string;
  theirs: string | undefined;
  path: string;
}

const plan = JSON.parse(process.argv[2] ?? '{}') as Plan;
const samples: Record<string, number[]> = {};
const theirConf = {
  cniVersion: '1.0.0',
  name: 'go',
  type: 'ptp',
  ipam: { type: 'host-local', subnet: '10.99.0.0/16', dataDir: '/run/host-local' },
};
const searchPath = `/run/stand-in/bin:/usr/sbin:/usr/bin:/sbin:/bin`;

function environmentOf(command: string, id: string): NodeJS.ProcessEnv {
  return {
    PATH: searchPath,
    CNI_COMMAND: command,
    CNI_CONTAINERID: id,
    CNI_NETNS: `/run/netns/${id}`,
    CNI_IFNAME: 'eth0',
    CNI_PATH: plan.path,
  };
}

function book(what: string, ms: number): void {
  const list = samples[what] ?? [];
  list.push(ms);
  samples[what] = list;
}

function call(what: string, file: string, command: string, id: string, conf: unknown): void {
  const started = performance.now();
  const result = spawnSync(file, [], { env: environmentOf(command, id), input: JSON.stringify(conf) });
  book(what, performance.now() - started);
  if (result.status !== 0)
    throw new Error(`${file} ${command}: ${result.stdout.toString()}${result.stderr.toString()}`);
}

function run(file: string, args: string[], input = ''): void {
  const result = spawnSync(file, args, { input, env: { PATH: searchPath } });
  if (result.status !== 0) throw new Error(`${file} ${args.join(' ')}: ${result.stderr.toString()}`);
}

for (let round = 0; round < plan.rounds; round += 1) {
  call('VERSION', plan.ours, 'VERSION', 'x', plan.conf);
  run('/sbin/ip', ['netns', 'add', `o${round}`]);
  call('ADD', plan.ours, 'ADD', `o${round}`, plan.conf);
  call('DEL', plan.ours, 'DEL', `o${round}`, plan.conf);
  run('/sbin/ip', ['netns', 'del', `o${round}`]);
  for (const [what, file] of [
    ['ip', '/sbin/ip'],
    ['ip of the stand-in', 'ip'],
  ] as const) {
    const started = performance.now();
    run(file, ['-batch', '-']);
    book(what, performance.now() - started);
  }
  if (plan.theirs === undefined) continue;
  call('ptp VERSION', plan.theirs, 'VERSION', 'x', theirConf);
  run('/sbin/ip', ['netns', 'add', `t${round}`]);
  call('ptp ADD', plan.theirs, 'ADD', `t${round}`, theirConf);
  call('ptp DEL', plan.theirs, 'DEL', `t${round}`, theirConf);
  run('/sbin/ip', ['netns', 'del', `t${round}`]);
}

await atOnce('30 ADDs at once', plan.ours, 'm', plan.conf);
if (plan.theirs !== undefined) await atOnce('ptp: 30 ADDs at once', plan.theirs, 'n', theirConf);
process.stdout.write(JSON.stringify(samples));

async function atOnce(what: string, file: string, prefix: string, conf: unknown): Promise<void> {
  const ids = Array.from({ length: 30 }, (_, at) => `${prefix}${at}`);
  for (const id of ids) run('/sbin/ip', ['netns', 'add', id]);
  const started = performance.now();
  await Promise.all(
    ids.map(
      (id) =>
        new Promise<void>((resolve, reject) => {
          const child = spawn(file, [], {
            env: environmentOf('ADD', id),
            stdio: ['pipe', 'ignore', 'inherit'],
          });
          child.stdin.end(JSON.stringify(conf));
          child.on('close', (code) => {
            book(what, performance.now() - started);
            if (code === 0) resolve();
            else reject(new Error(`${what}: exit ${code}`));
          });
        }),
    ),
  );
}
