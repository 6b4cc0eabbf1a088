// time limit: 450 s
// Several Regions, by the commands that an operator types: the shipped executable, against a simulated EC2 and SSM for each
// Region. AWS has an address for each Region. Here one address serves all, and the Region in a request's signature tells which
// one is meant (SigV4's credential scope).
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createCloudWatch } from '../aws/cloudwatch/cloudwatch.ts';
import { createEc2 } from '../aws/ec2/ec2.ts';
import { realScheduler } from '../aws/ec2/scheduler.ts';
import { createFaults } from '../aws/faults.ts';
import { createApi } from '../aws/http/server.ts';
import { launchRecord } from '../aws/launch.ts';
import { type ModelledNode, modelledNode } from '../aws/ssm/modelled-node.ts';
import { createSsm } from '../aws/ssm/ssm.ts';
import { eniboot } from '../cli/executable.ts';

const OLD = '1.0.0';
const KEY = {
  accessKeyId: 'AKIASIMULATEDOPERATR',
  secretAccessKey: 'simulated/secret/of/the/operator/0000000',
};

function startRegion(region: string, count: number) {
  const ec2 = createEc2({
    region,
    scheduler: realScheduler,
    subnets: [{ cidr: '10.0.0.0/24', zone: `${region}a`, tags: { Name: 'nodes-a' } }],
  });
  const { world } = ec2;
  const { calls } = ec2;
  const denied = new Set<string>();
  const cloudwatch = createCloudWatch({ scheduler: realScheduler, calls, denied });
  const ssm = createSsm({
    scheduler: realScheduler,
    calls,
    denied,
    arnPrefix: `arn:aws:ssm:${region}:${world.accountId}`,
    accountId: world.accountId,
    tagsOf: (id) => world.instances.get(id)?.tags,
    imageExists: () => true,
    isInAlarm: cloudwatch.isInAlarm,
  });
  const nodes = Array.from({ length: count }, () => {
    const { id } = launchRecord(ec2, { tags: { 'eniboot:cluster': 'demo' }, publicIp: false });
    const node = modelledNode(
      id,
      { version: OLD },
      {
        scheduler: realScheduler,
        updateMs: () => 200,
        parameter: (name) => ssm.parameters.get(name)?.at(-1)?.value,
      },
    );
    ssm.nodes.set(id, node);
    return node;
  });
  const api = createApi({
    ec2,
    ssm,
    cloudwatch,
    faults: createFaults(),
    keyOf: (id) => (id === KEY.accessKeyId ? { secretAccessKey: KEY.secretAccessKey } : undefined),
    latencyMs: () => 0,
  });
  const publish = (version: string) =>
    ssm.put(
      `/eniboot/releases/${version}`,
      JSON.stringify({ version, x64: { url: `https://b.example/${version}`, sha256: 'a'.repeat(64) } }),
    );
  return { region, ssm, denied, nodes, api, publish, calls };
}

const regions = [startRegion('eu-west-1', 2), startRegion('us-east-1', 1), startRegion('ap-south-1', 1)];
const [first, second, third] = regions as [
  ReturnType<typeof startRegion>,
  ReturnType<typeof startRegion>,
  ReturnType<typeof startRegion>,
];
const front = createServer((request, response) => {
  const scope = /Credential=[^/]+\/\d+\/([^/]+)\//.exec(request.headers.authorization ?? '')?.[1];
  const { api } = regions.find((one) => one.region === scope) ?? first;
  api.emit('request', request, response);
});
await new Promise<void>((done) => front.listen(0, '127.0.0.1', done));

const home = '/run/operator';
mkdirSync(home, { recursive: true });
const env = {
  AWS_ACCESS_KEY_ID: KEY.accessKeyId,
  AWS_SECRET_ACCESS_KEY: KEY.secretAccessKey,
  AWS_ENDPOINT_URL: `http://127.0.0.1:${(front.address() as AddressInfo).port}`,
  XDG_STATE_HOME: home,
};
const run = (verb: string, ...args: string[]) =>
  eniboot(['rollout', verb, ...args], { env, timeoutMs: 120_000 });

/** The specs of a version, one for each Region. `lines`: their other lines. */
function specs(version: string, ...lines: string[]): string[] {
  return regions.map(({ region }) => {
    const path = join(home, `${region}-${version}.yaml`);
    writeFileSync(
      path,
      `what: { bundle: { version: ${version} } }
where: { cluster: demo, region: ${region} }
${lines.length === 0 ? 'bake: { canarySeconds: 1, shareSeconds: 1, zoneSeconds: 1 }\n' : lines.join('\n')}
`,
    );
    return path;
  });
}

interface Line {
  region?: string;
  kind?: string;
  atMs?: number;
  outcome?: string;
  regions?: { region: string; state: string }[];
  failure?: { code: string; message: string; facts: { regions?: { region: string; state: string }[] } };
}
const linesOf = (out: string) =>
  out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
const statesOf = (line: Line | undefined) =>
  (line?.regions ?? line?.failure?.facts.regions ?? []).map((one) => `${one.region} ${one.state}`);
const versions = () =>
  regions.map(({ nodes }) => [...new Set(nodes.map((node: ModelledNode) => node.version))].join());
const changes = () =>
  regions.flatMap(({ calls }) =>
    calls.filter((call) => call.mutating && call.accepted && call.action !== 'RunInstances'),
  );

test('specs that do not make a list are wrong usage or a wrong spec, and nothing is changed', async () => {
  const [a = '', b = '', c = ''] = specs('1.1.0');
  for (const [args, says] of [
    [
      ['run', a, b, '--region', 'eu-west-1'],
      /--region is for one spec: each of several specs names its Region/,
    ],
    [['run', a, '--region', 'us-east-1'], /--region us-east-1 is not that of the spec, eu-west-1/],
    [['status', a, '--cluster', 'demo'], /--cluster or specs, not both/],
    [['watch', a, b], /rollout watch: it is for one spec; `rollout status` with all/],
    [['plan', a, b, '--svg', join(home, 'x.svg')], /--svg is for one spec/],
    [['run'], /the file with the spec is missing/],
    [['halt'], /--cluster, or the files with the specs, are missing/],
  ] as const) {
    const { code, err } = await run(args[0], ...args.slice(1));
    assert.is(code, 2, args.join(' '));
    assert.match(err, says);
  }
  const twice = await run('run', a, b, c, a, '--json');
  assert.is(twice.code, 1);
  assert.is(linesOf(twice.out).at(-1)?.failure?.code, 'SPEC_INVALID');
  assert.match(twice.err, /where\.region "eu-west-1" and where\.cluster demo are those of/);
  assert.equal(changes(), []);
});

test('all Regions are planned before the first begins: a Region without the version refuses them all', async () => {
  const list = specs('1.1.0');
  first.publish('1.1.0');
  second.publish('1.1.0');
  for (const verb of ['plan', 'run']) {
    const { code, err, out } = await run(verb, ...list, '--json');
    assert.is(code, 1);
    assert.match(err, /RELEASE_UNKNOWN: in ap-south-1: version 1\.1\.0 is not published/);
    assert.is(linesOf(out).at(-1)?.failure?.code, 'RELEASE_UNKNOWN');
  }
  assert.is((await run('resume', ...list)).code, 1);
  assert.equal(changes(), []);
  third.publish('1.1.0');
  const plan = await run('plan', ...list);
  assert.is(plan.code, 0, plan.err);
  assert.match(plan.out, /^eu-west-1\n1\.1\.0 to 2 nodes .*^us-east-1\n1\.1\.0 to 1 nodes .*^ap-south-1\n/ms);
});

test('with --json a pipeline gets a line for each event with its Region, and the outcome as the last line', async () => {
  const events = join(home, 'events.jsonl');
  const { code, out, err } = await run('run', ...specs('1.1.0'), '--json', '--on-event', events);
  assert.is(code, 0, err + out);
  const lines = linesOf(out);
  const outcome = lines.pop();
  assert.is(outcome?.outcome, 'ended');
  assert.equal(statesOf(outcome), ['eu-west-1 done', 'us-east-1 done', 'ap-south-1 done']);
  assert.ok(lines.every((line) => line.kind !== undefined && (line.atMs ?? 0) > 0));
  const order = lines.map((line) => line.region).filter((one, at, all) => one !== all[at - 1]);
  assert.equal(order, ['eu-west-1', 'us-east-1', 'ap-south-1']);
  assert.is(lines.filter((line) => line.kind === 'ended').length, 3);
  assert.is(readFileSync(events, 'utf8'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  assert.equal(versions(), ['1.1.0', '1.1.0', '1.1.0']);
});

test('status, verify and report show all Regions, as text and as one object', async () => {
  const list = specs('1.1.0');
  const status = await run('status', ...list);
  assert.is(status.code, 0);
  assert.is((status.out.match(/^1\.1\.0 in demo: done$/gm) ?? []).length, 3);
  const object = JSON.parse((await run('status', ...list, '--json')).out) as Line;
  assert.equal(statesOf(object), ['eu-west-1 done', 'us-east-1 done', 'ap-south-1 done']);
  const metrics = (await run('status', ...list, '--prometheus')).out;
  assert.is((metrics.match(/^# TYPE eniboot_rollout_info gauge$/gm) ?? []).length, 1);
  assert.match(metrics, /^eniboot_rollout_info\{region="us-east-1",cluster="demo",.*state="done"\} 1$/m);
  const alone = JSON.parse(
    (await run('status', '--cluster', 'demo', '--region', 'us-east-1', '--json')).out,
  ) as Line;
  assert.is(alone.region, 'us-east-1');
  const verified = await run('verify', ...list);
  assert.is(verified.code, 0, verified.out);
  assert.is((verified.out.match(/^all \d nodes run what they should$/gm) ?? []).length, 3);
  const page = join(home, 'report.html');
  assert.is((await run('report', ...list, '--html', page)).code, 0);
  assert.match(readFileSync(page, 'utf8'), /<h1>1\.1\.0 in 3 Regions<\/h1>/);
  assert.match(
    (await run('report', ...list)).out,
    /^\| ap-south-1 \| demo \| Done: 1 of 1 nodes run 1\.1\.0/m,
  );
  const report = JSON.parse((await run('report', ...list, '--json')).out) as {
    regions: { summary: object }[];
  };
  assert.is(report.regions.length, 3);
  const again = await run('resume', ...list, '--json');
  assert.is(again.code, 0);
  assert.equal(statesOf(linesOf(again.out).at(-1)), ['eu-west-1 done', 'us-east-1 done', 'ap-south-1 done']);
});

test('a rollback names each Region and goes in reverse', async () => {
  const { code, out, err } = await run('rollback', ...specs('1.1.0'));
  assert.is(code, 0, err);
  const order = [...out.matchAll(/^(\S+): demo$/gm)].map((match) => match[1]);
  assert.equal(order, ['ap-south-1', 'us-east-1', 'eu-west-1']);
  assert.match(out, /eu-west-1: taken back\nus-east-1: taken back\nap-south-1: taken back\n$/);
  assert.equal(versions(), [OLD, OLD, OLD]);
});

test('after a halt in one Region the next has not begun, every command tells so, and a corrected version can follow', async () => {
  for (const { publish } of regions) for (const version of ['1.2.0', '1.2.1']) publish(version);
  const [node] = second.nodes;
  if (node !== undefined) node.behaviour = 'goes-back';
  const list = specs('1.2.0');
  const { code, out, err } = await run('run', ...list, '--json');
  assert.is(code, 1);
  const last = linesOf(out).at(-1);
  assert.is(last?.failure?.code, 'ROLLOUT_HALTED');
  assert.match(
    err,
    /ROLLOUT_HALTED: in us-east-1: the canary failed in use1-az1.*; not reached: ap-south-1 \(not begun\)/,
  );
  assert.equal(statesOf(last), ['eu-west-1 done', 'us-east-1 halted', 'ap-south-1 not-begun']);
  assert.equal(versions(), ['1.2.0', OLD, OLD]);
  const status = await run('status', ...list);
  assert.is(status.code, 1);
  assert.match(status.out, /^ap-south-1\n1\.2\.0 has not begun in demo; recorded is 1\.1\.0: rolled-back$/m);
  assert.is((await run('verify', ...list)).code, 1);
  assert.match(
    (await run('report', ...list)).out,
    /\| ap-south-1 \| demo \| Not begun: 1\.2\.0 has reached no node/,
  );
  const stuck = await run('resume', ...list);
  assert.match(
    stuck.err,
    /ROLLOUT_HALTED: in us-east-1: it would halt again at once.*; not begun: ap-south-1/,
  );
  const { regions: parts = [] } = JSON.parse((await run('status', ...list, '--json')).out) as {
    regions?: { id?: string }[];
  };
  if (node !== undefined) node.behaviour = 'good';
  const mended = await run('run', ...specs('1.2.1'), '--over', parts[1]?.id ?? '');
  assert.is(mended.code, 0, mended.err);
  assert.equal(versions(), ['1.2.1', '1.2.1', '1.2.1']);
});

test('an operator that is interrupted in one Region begins no other; a halt reaches all; a resume carries the list to its end', async () => {
  for (const { publish } of regions) publish('1.3.0');
  const list = specs('1.3.0', 'bake: { canarySeconds: 20, shareSeconds: 0, zoneSeconds: 0 }');
  const stopped = await eniboot(['rollout', 'run', ...list, '--json'], {
    env,
    timeoutMs: 120_000,
    watch: (out, kill) => {
      if (out.includes('"do":"bake"')) kill('SIGINT');
    },
  });
  assert.is(stopped.code, 130, stopped.err);
  const last = linesOf(stopped.out).at(-1);
  assert.is(last?.outcome, 'interrupted');
  assert.equal(statesOf(last), ['eu-west-1 running', 'us-east-1 not-begun', 'ap-south-1 not-begun']);
  assert.match(stopped.err, /stopped here; `eniboot rollout resume` goes on/);
  const halted = await run('halt', ...list, '--why', 'drill');
  assert.is(halted.code, 0, halted.err);
  assert.match(halted.out, /^demo in eu-west-1, demo in us-east-1, demo in ap-south-1 is halted/);
  for (const { ssm } of regions)
    assert.match(ssm.parameters.get('/eniboot/rollout/demo/halt')?.at(-1)?.value ?? '', /drill/);
  const resumed = await run('takeover', ...list);
  assert.is(resumed.code, 0, resumed.err);
  assert.match(resumed.out, /eu-west-1: done\nus-east-1: done\nap-south-1: done\n$/);
  assert.equal(versions(), ['1.3.0', '1.3.0', '1.3.0']);
  const abandoned = await run('abandon', ...list);
  assert.is((abandoned.out.match(/: done; \d of \d nodes run it/g) ?? []).length, 3);
});

test('a Region that cannot be halted is named, and the others are halted nevertheless', async () => {
  second.denied.add('PutParameter');
  const { code, err } = await run('halt', ...specs('1.3.0'), '--why', 'no more');
  second.denied.clear();
  assert.is(code, 1);
  assert.match(err, /SSM_DENIED: not halted in us-east-1: /);
  const why = ({ ssm }: typeof first) =>
    ssm.parameters.get('/eniboot/rollout/demo/halt')?.at(-1)?.value ?? '';
  assert.equal(
    regions.map((one) => why(one).includes('no more')),
    [true, false, true],
  );
});

test('exit codes have the same meaning in the help and in docs/rollouts.md', async () => {
  const { out } = await run('--help');
  const listed = (out.split('Exit codes:\n')[1] ?? '').replace(/\n {7}/g, ' ');
  const inHelp = [...listed.matchAll(/^ {2}(\d+) +(.+)$/gm)].map(([, code, means]) => [code, means]);
  assert.ok(inHelp.length >= 5);
  const page = readFileSync(join(import.meta.dirname, '../../docs/rollouts.md'), 'utf8');
  const section = page.split('## Exit codes\n')[1]?.split('\n## ')[0] ?? '';
  const inDocs = [...section.matchAll(/^\| (\d+) \| (.+) \|$/gm)].map(([, code, means]) => [code, means]);
  assert.equal(inDocs, inHelp);
});

test.after(() => {
  front.closeAllConnections();
  front.close();
});
test.run();
