// The rollout demo itself, inside the sandbox.
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { table } from '../../agent/cli/table.ts';
import { startCloud } from '../aws/index.ts';
import { manage } from '../aws/managed.ts';
import { launchNode } from '../boot/node.ts';
import { EXECUTABLE, operatorEnvironment } from '../cli/executable.ts';
import { SICKENS, STAND_IN, serveBundles, UNHEALTHY } from '../rollout/bundles.ts';

const asJson = process.argv.includes('--json');
const colour = process.stdout.isTTY === true && process.env['NO_COLOR'] === undefined;
const paint = (code: number, text: string) => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
const say = (text: string) => {
  if (!asJson) process.stdout.write(`${text}\n`);
};
const proofs: { what: string; holds: boolean; seen: string }[] = [];
function prove(what: string, holds: boolean, seen: string): void {
  proofs.push({ what, holds, seen });
  say(`  ${holds ? paint(32, 'yes') : paint(31, 'NO ')}  ${what}\n       ${seen}`);
}

const CLUSTER = 'demo';
const started = performance.now();
const zones = ['a', 'b', 'c'];
const cloud = await startCloud({
  subnets: zones.flatMap((letter, at) => [
    {
      cidr: `10.0.${at}.0/24`,
      zone: `eu-west-1${letter}`,
      mapPublicIp: true,
      tags: { Name: `nodes-${letter}` },
    },
    {
      cidr: `10.0.${64 + 16 * at}.0/20`,
      zone: `eu-west-1${letter}`,
      tags: { Name: `pods-${letter}`, eniboot: 'pods' },
    },
  ]),
});
const bundles = await serveBundles(cloud);
const subnets = [...cloud.subnets.values()].filter((subnet) => subnet.mapPublicIp);
say(paint(1, '\nA simulated region with three zones; six nodes power on and boot.'));
const nodes = await Promise.all(
  subnets.flatMap((subnet) =>
    [1, 2].map(async () => {
      const node = await launchNode(cloud, { tags: { 'eniboot:cluster': CLUSTER }, subnet: subnet.id });
      const { status } = await node.boot();
      if (status?.verdict !== 'ready') throw new Error(`${node.instance.id} did not boot`);
      manage(cloud, node.instance);
      return { zone: subnet.zoneId, instance: node.instance };
    }),
  ),
);
const home = '/run/operator';
mkdirSync(home, { recursive: true });
const env = { PATH: process.env['PATH'] ?? '', ...operatorEnvironment(cloud), XDG_STATE_HOME: home };
for (const [version, executable] of [
  ['1.1.0', STAND_IN],
  ['1.2.0', UNHEALTHY],
] as const)
  bundles.publish(version, executable);

const before = await versions();
await showFleet();
prove(
  'every node is READY',
  before.every((one) => one !== ''),
  before.join(' '),
);

say(paint(1, '\nA good version. The plan, and the nodes that a failure at each step would reach:'));
const good = spec('1.1.0');
await eniboot('rollout', 'plan', good);
const rolled = await eniboot('rollout', 'run', good);
await showFleet();
const after = await versions();
prove(
  'the good version runs on every node, zone after zone',
  rolled.code === 0 && after.every((one) => one === '1.1.0'),
  after.join(' '),
);

say(paint(1, '\nA bad version: its health check fails.'));
const bad = await eniboot('rollout', 'run', spec('1.2.0'));
const caught = await versions();
const touched = commandsOf('1.2.0');
prove(
  'it stopped at its canary, which is back on the good version by itself',
  bad.code === 1 && caught.every((one) => one === '1.1.0'),
  caught.join(' '),
);
prove('no other node was touched', touched.length === 1, `commands went to ${touched.join(', ')}`);
await eniboot('rollout', 'status', '--cluster', CLUSTER);
await eniboot('rollout', 'rollback', '--cluster', CLUSTER);

say(paint(1, '\nA version that is healthy at first, and unhealthy after some seconds.'));
bundles.publish('1.2.5', SICKENS);
const sick = await eniboot('rollout', 'run', spec('1.2.5', 8));
const waited = await versions();
prove(
  'the gate after the wait stopped it at its canary',
  sick.code === 1 && waited.filter((one) => one === '1.2.5').length === 1,
  waited.join(' '),
);
await eniboot('rollout', 'rollback', '--cluster', CLUSTER);

say(paint(1, '\nA fourth version: an operator halts it after its canary, and rolls it back.'));
bundles.publish('1.3.0', STAND_IN);
const halted = await haltedRun(spec('1.3.0', 20), /wait 20 s after the canary/);
const half = await versions();
const back = await eniboot('rollout', 'rollback', '--cluster', CLUSTER);
await showFleet();
const last = await versions();
prove(
  'a halt stopped it after its canary',
  halted.code === 1 && half.filter((one) => one === '1.3.0').length === 1,
  half.join(' '),
);
prove(
  'the rollback took back exactly the nodes that were touched',
  back.code === 0 && last.every((one) => one === '1.1.0'),
  last.join(' '),
);

const seconds = (performance.now() - started) / 1000;
const failed = proofs.filter((one) => !one.holds).length;
if (asJson)
  process.stdout.write(`${JSON.stringify({ seconds, proofs, passed: proofs.length - failed, failed })}\n`);
else
  say(
    `\n${seconds.toFixed(0)} s. docs/rollouts.md: the spec, what counts, and what to do when it halts.\n${proofs.length - failed} passed, ${failed} failed`,
  );
bundles.stop();
await cloud.stop();
process.exit(failed === 0 ? 0 : 1);

function spec(version: string, canarySeconds = 1): string {
  const path = join(home, `${version}.yaml`);
  const lines = [
    `what: { bundle: { version: ${version} } }`,
    `where: { cluster: ${CLUSTER} }`,
    `bake: { canarySeconds: ${canarySeconds}, shareSeconds: 1, zoneSeconds: 1 }`,
    'steps: { zonePercent: 100 }',
  ];
  writeFileSync(path, `${lines.join('\n')}\n`);
  return path;
}

/** Shows a command and its output. */
function eniboot(...args: string[]): Promise<{ code: number | null }> {
  return shown(args, () => {});
}

/** Runs a rollout that another operator halts after its output matches `when`. */
async function haltedRun(path: string, when: RegExp): Promise<{ code: number | null }> {
  let halting: Promise<unknown> | undefined;
  const ended = await shown(['rollout', 'run', path], (said) => {
    if (when.test(said)) halting ??= eniboot('rollout', 'halt', '--cluster', CLUSTER, '--why', 'an alarm');
  });
  await halting;
  return ended;
}

function shown(args: string[], heard: (said: string) => void): Promise<{ code: number | null }> {
  say(paint(1, `\n$ eniboot ${args.map((arg) => arg.replace(`${home}/`, '')).join(' ')}`));
  const child = spawn(EXECUTABLE, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (piece: Buffer) => {
      said += piece.toString();
      if (!asJson) process.stdout.write(piece);
      heard(said);
    });
  return new Promise((resolve) => child.once('close', (code) => resolve({ code })));
}

function versions(): Promise<string[]> {
  return Promise.all(
    nodes.map(async ({ instance }) =>
      (await instance.run('readlink', ['/usr/libexec/eniboot/current'])).stdout.trim(),
    ),
  );
}

async function showFleet(): Promise<void> {
  const all = await versions();
  say(
    table([
      ['zone', 'node', 'version'],
      ...nodes.map(({ zone, instance }, at) => [zone, instance.id, all[at] ?? '']),
    ]).trimEnd(),
  );
}

/** Instances that Run Command was told to update to a version. */
function commandsOf(version: string): string[] {
  const asked = cloud.calls.filter((call) => call.action === 'SendCommand');
  const bodies = asked.map((call) => JSON.stringify(call));
  return [
    ...new Set(
      bodies
        .filter((body) => body.includes(version))
        .flatMap((body) => nodes.map(({ instance }) => instance.id).filter((id) => body.includes(id))),
    ),
  ];
}
