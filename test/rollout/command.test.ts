// time limit: 450 s
// The commands an operator types, as the executable that ships, against the simulated AWS over HTTP; real nodes run the real
// `eniboot update` when Run Command reaches them.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Policy } from '../../agent/aws/iam.ts';
import { isSignedBy } from '../../agent/aws/signature.ts';
import { addImage } from '../aws/ec2/actions/images.ts';
import { startCloud } from '../aws/index.ts';
import { manage } from '../aws/managed.ts';
import { launchNode, type Node } from '../boot/node.ts';
import { eniboot, operatorEnvironment } from '../cli/executable.ts';
import { allowing, type Check, checksOf } from '../cli/policy.ts';
import { STAND_IN, serveBundles, UNHEALTHY } from './bundles.ts';

const cloud = await startCloud();
const bundles = await serveBundles(cloud);
/** What each call of the operator would have been checked for, in the moment of the call. */
const checks: Check[] = [];
const push = cloud.calls.push.bind(cloud.calls);
cloud.calls.push = (...calls) => {
  const operators = calls.filter((call) => call.instanceId === undefined);
  checks.push(...operators.flatMap((call) => checksOf(cloud, call)));
  return push(...calls);
};
const home = '/run/operator';
mkdirSync(home, { recursive: true });
const env = { ...operatorEnvironment(cloud), XDG_STATE_HOME: home };
const run = (...args: string[]) => eniboot(args, { env });
const of = (verb: string, ...more: string[]) => run('rollout', verb, '--cluster', 'demo', ...more);

const nodes: Node[] = [];
const subnets = [...cloud.subnets.values()].filter((subnet) => subnet.tags.get('Name')?.startsWith('nodes-'));
for (const at of [0, 0, 1]) {
  const node = await launchNode(cloud, {
    tags: { 'eniboot:cluster': 'demo' },
    subnet: subnets[at]?.id ?? '',
  });
  assert.is((await node.boot()).status?.verdict, 'ready');
  manage(cloud, node.instance);
  nodes.push(node);
}

function spec(version: string, ...more: string[]): string {
  const path = join(home, `${version}.yaml`);
  writeFileSync(
    path,
    [
      `what: { bundle: { version: ${version}, parameter: '/eniboot/bundle/demo/{zone-id}' } }`,
      'where: { cluster: demo }',
      'bake: { canarySeconds: 1, shareSeconds: 1, zoneSeconds: 1 }',
      ...more,
      '',
    ].join('\n'),
  );
  return path;
}

async function versions(): Promise<string[]> {
  return Promise.all(
    nodes.map(async ({ instance }) =>
      (await instance.run('readlink', ['/usr/libexec/eniboot/current'])).stdout.trim(),
    ),
  );
}

const codeIn = (out: string) =>
  (JSON.parse(out.trim().split('\n').at(-1) ?? '{}') as { failure?: { code: string } }).failure?.code;

test('what cannot be is refused before anything is changed', async () => {
  const wrong = await run('rollout', 'plan', spec('nonsense'));
  assert.is(wrong.code, 1);
  assert.match(wrong.err, /SPEC_INVALID: 1 problem/);
  assert.match(wrong.err, /what\.bundle\.version "nonsense" is not a version/);
  assert.is(codeIn((await run('rollout', 'run', spec('7.0.0'), '--json')).out), 'RELEASE_UNKNOWN');
  bundles.publish('7.1.0', STAND_IN);
  const other = join(home, 'other.yaml');
  writeFileSync(other, 'what: { bundle: { version: 7.1.0 } }\nwhere: { cluster: other }\n');
  assert.is(codeIn((await run('rollout', 'run', other, '--json')).out), 'ROLLOUT_NO_TARGETS');
  assert.is(codeIn((await of('status', '--json')).out), 'ROLLOUT_NONE');
  const changed = cloud.calls.filter((call) => call.mutating && call.service === 'ssm');
  assert.equal(changed, []);
});

test('a version is built, published once, and listed', async () => {
  const sha256 = bundles.publish('7.2.0', STAND_IN);
  const publish = (version: string, file: string) =>
    run('bundle', 'publish', '--x64', bundles.archive(file), '--x64-url', bundles.url(version));
  cloud.ssm.put('/eniboot/releases/7.2.0', 'what nobody can read does not stand in the way');
  const good = await publish('7.2.0', '7.2.0');
  assert.is(good.code, 0, good.err);
  const other = await publish('7.2.0', '7.1.0');
  assert.match(other.err, /BUNDLE_NOT_SERVED: .* serves an archive with SHA-256/);
  assert.match((await publish('7.9.9', '7.1.0')).err, /BUNDLE_NOT_SERVED: .*: the answer is 404/);
  const folder = join(home, 'arm');
  mkdirSync(folder);
  const manifest = { version: '7.9.8', arch: 'arm64', files: [], plugins: [] };
  writeFileSync(join(folder, 'manifest.json'), JSON.stringify(manifest));
  const archive = join(home, 'arm.tar.gz');
  execFileSync('tar', ['-C', folder, '-czf', archive, 'manifest.json']);
  const mistaken = await run('bundle', 'publish', '--x64', archive, '--x64-url', bundles.url('7.9.8'));
  assert.match(mistaken.err, /BUNDLE_UNUSABLE: .* is built for arm64, not for x64/);
  const list = await run('bundle', 'list', '--json');
  assert.is(list.err, '', 'the SDK warns of nothing');
  const { releases } = JSON.parse(list.out) as { releases: { version: string; x64: { sha256: string } }[] };
  assert.is(releases.find((one) => one.version === '7.2.0')?.x64.sha256, sha256);

  const key = join(home, 'key.pem');
  execFileSync('openssl', ['genpkey', '-algorithm', 'ed25519', '-out', key]);
  const signed = await run(
    ...[
      'bundle',
      'publish',
      '--x64',
      bundles.archive('7.2.0'),
      '--x64-url',
      bundles.url('7.2.0'),
      '--sign',
      key,
    ],
  );
  const publicKey = /in bundle\.keys of the nodes: (\S+)\n$/.exec(signed.out)?.[1] ?? signed.err;
  // Whoever publishes it again without the key takes nothing away.
  assert.is((await publish('7.2.0', '7.2.0')).code, 0);
  const value = cloud.ssm.parameters.get('/eniboot/releases/7.2.0')?.at(-1)?.value ?? '';
  const { signature } = (JSON.parse(value) as { x64: { signature: string } }).x64;
  assert.ok(isSignedBy([publicKey], { version: '7.2.0', arch: 'x64', sha256 }, signature));
  writeFileSync(key, 'nothing');
  const unusable = await run(
    'bundle',
    'publish',
    '--x64',
    key,
    '--x64-url',
    'https://x.example/',
    '--sign',
    key,
  );
  assert.match(unusable.err, /SIGNING_KEY_UNUSABLE/);
});

test('the plan shows waves and blast radius as table, picture and object', async () => {
  const svg = join(home, 'plan.svg');
  const plan = await run('rollout', 'plan', spec('7.2.0'), '--svg', svg);
  assert.is(plan.code, 0, plan.err);
  assert.match(plan.out, /7\.2\.0 to 3 nodes in 2 zones of demo/);
  assert.match(plan.out, /euw1-az2 +canary +1 +1 +1 \(100 % of the zone\)/);
  assert.match(readFileSync(svg, 'utf8'), /^<svg .*<\/svg>\n$/s);
});

test('a good version reaches real nodes, and the report says so', async () => {
  cloud.faults.denied.add('iam:CreateServiceLinkedRole');
  const refused = await run('rollout', 'run', spec('7.2.0', 'alarm: smoke'), '--json');
  assert.is(codeIn(refused.out), 'SSM_DENIED');
  assert.match(refused.out, 'iam-policy rollout --alarm');
  cloud.faults.denied.delete('iam:CreateServiceLinkedRole');
  const rolled = await of('resume');
  assert.is(rolled.code, 0, rolled.err + rolled.out);
  assert.match(rolled.out, /canary: 1 node in euw1-az2/);
  assert.match(rolled.out, /done\n$/);
  assert.equal(await versions(), ['7.2.0', '7.2.0', '7.2.0']);
  const status = JSON.parse((await of('status', '--json')).out) as Record<string, unknown>;
  assert.equal([status['state'], status['updated'], status['failed']], ['done', 3, 0]);
  assert.match((await of('report')).out, /Done: 3 of 3 nodes run 7\.2\.0/);
  const verified = await of('verify');
  assert.is(verified.code, 0, verified.err + verified.out);
  assert.match(verified.out, /^euw1-az2: 1 node, its parameter names 7\.2\.0; they run 7\.2\.0 \(1\)$/m);
  assert.match(verified.out, /^all 3 nodes run what they should$/m);
  const resumed = await of('resume');
  assert.is(resumed.code, 0);
  assert.is(resumed.out, 'there is nothing to go on with: it is done\n');
  const page = join(home, 'report.html');
  assert.is((await of('report', '--html', page)).code, 0);
  const html = readFileSync(page, 'utf8');
  assert.match(html, /<svg [^>]*Course of the rollout/);
  assert.not.match(html, /<script|src=|href=/);
});

test('a bad version stops at its canary, which goes back by itself; nothing else is touched', async () => {
  bundles.publish('7.3.0', UNHEALTHY);
  const rolled = await run('rollout', 'run', spec('7.3.0'), '--json');
  assert.is(rolled.code, 1);
  assert.is(codeIn(rolled.out), 'ROLLOUT_HALTED');
  assert.match(rolled.out, /UPDATE_WENT_BACK/);
  assert.equal(await versions(), ['7.2.0', '7.2.0', '7.2.0']);
  const status = await of('status');
  assert.is(status.code, 1);
  assert.match(status.out, /halted: the canary failed in euw1-az2/);
  // Nothing is under way, and the zone does not bake.
  assert.match(status.out, /^ {2}euw1-az2 .* halted$/m);
  assert.match(status.out, /^next: nothing by itself; `rollout resume` goes on with: /m);
  assert.is(codeIn((await of('resume', '--json')).out), 'ROLLOUT_HALTED');
  const planned = await run('rollout', 'plan', spec('7.2.0'));
  assert.is(planned.code, 1);
  assert.match(planned.err, /`run` would refuse it: ROLLOUT_BUSY: /);
  assert.is((await of('verify')).code, 1);
  const back = await of('rollback');
  assert.is(back.code, 0, back.err);
});

test('halt stops a rollout, rollback takes back what it touched', async () => {
  bundles.publish('7.4.0', STAND_IN);
  const path = spec('7.4.0', 'steps: { concurrency: 1 }');
  writeFileSync(
    path,
    readFileSync(path, 'utf8')
      .replace('canarySeconds: 1', 'canarySeconds: 60')
      .replace('zoneSeconds: 1', 'zoneSeconds: 60'),
  );
  let halted: Promise<unknown> | undefined;
  const rolled = await eniboot(['rollout', 'run', path], {
    env,
    watch: (out) => {
      if (halted === undefined && /wait 60 s/.test(out)) halted = of('halt', '--why', 'drill');
    },
  });
  await halted;
  assert.is(rolled.code, 1, rolled.out);
  assert.match(rolled.err, /ROLLOUT_HALTED: drill/);
  const touched = (await versions()).filter((version) => version === '7.4.0').length;
  assert.ok(touched >= 1 && touched < 3, rolled.out);
  const back = await of('rollback');
  assert.is(back.code, 0, back.err);
  assert.equal(await versions(), ['7.2.0', '7.2.0', '7.2.0']);
  assert.match((await of('report')).out, new RegExp(`Taken back: ${touched} nodes`));
});

test('an AMI becomes stable once a node that booted from it is READY, and is taken back', async () => {
  const path = join(home, 'image.yaml');
  writeFileSync(
    path,
    `what: { image: { id: ami-0123456789abcdef0, parameter: '/eniboot/image/demo/{zone-id}' } }
where: { cluster: demo, zones: [euw1-az2] }
bake: { canarySeconds: 1 }
`,
  );
  const id = 'ami-0123456789abcdef0';
  const image = addImage(cloud.ec2.world, { name: 'of-the-instances', architecture: 'x86_64' });
  cloud.ec2.world.images.set(id, { ...image, id });
  const untested = await eniboot(['rollout', 'run', path], { env });
  assert.match(untested.err, /IMAGE_UNTESTED: .*its boot test was never run/);
  image.tags.set('eniboot:boot-test', 'passed@2026-01-01T00:00:00Z');
  const name = '/eniboot/image/demo/euw1-az2';
  const stable = () => cloud.ssm.parameters.get(name)?.find((version) => version.labels.has('stable'))?.value;
  let booted: Promise<unknown> | undefined;
  const rolled = await eniboot(['rollout', 'run', path], {
    env,
    watch: (out) => {
      if (booted !== undefined || !/canary: 1 node/.test(out)) return;
      assert.is(stable(), undefined);
      booted = launchNode(cloud, { tags: { 'eniboot:cluster': 'demo' }, subnet: subnets[1]?.id ?? '' }).then(
        (node) => node.boot(),
      );
    },
  });
  await booted;
  assert.is(rolled.code, 0, rolled.err + rolled.out);
  assert.is(stable(), 'ami-0123456789abcdef0');
  const back = await of('rollback');
  assert.is(back.code, 0, back.err);
  assert.is(stable(), undefined);
});

test('events go to a file and into a program, and Prometheus reads how it stands', async () => {
  bundles.publish('7.2.9', STAND_IN);
  const [file, piped] = [join(home, 'events.jsonl'), join(home, 'piped.jsonl')];
  const rolled = await run('rollout', 'run', spec('7.2.9'), '--on-event', file);
  assert.is(rolled.code, 0, rolled.err);
  const back = await of('rollback', '--on-event', `|cat >${piped}`);
  assert.is(back.code, 0, back.err);
  for (const path of [file, piped]) {
    const events = readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { kind: string; atMs: number });
    assert.ok(events.every((one) => one.atMs > 0));
    assert.is(events.at(-1)?.kind, 'ended');
  }
  const text = (await of('status', '--prometheus')).out;
  assert.match(
    text,
    /^eniboot_rollout_info\{cluster="demo",id="[^"]+",version="7\.2\.9",direction="back",state="rolled-back"\} 1$/m,
  );
  assert.match(text, /^eniboot_rollout_nodes\{cluster="demo",id="[^"]+",outcome="restored"\} [1-9]\d*$/m);
  assert.match(
    (await run('rollout', 'run', spec('7.2.9'), '--on-event', '/nowhere/events')).err,
    /FILE_WRITE/,
  );
  const gone = await of('rollback', '--on-event', '|exit 3');
  assert.is(gone.code, 0);
});

test('a halted rollout is abandoned or taken over, and a mended version goes over it', async () => {
  bundles.publish('7.2.1', UNHEALTHY);
  bundles.publish('7.2.2', STAND_IN);
  const bad = await run('rollout', 'run', spec('7.2.1'));
  assert.match(bad.err, /ROLLOUT_HALTED/);
  const { id } = JSON.parse((await of('status', '--json')).out) as { id: string };
  const busy = await run('rollout', 'run', spec('7.2.2'));
  assert.match(busy.err, /ROLLOUT_BUSY/);
  assert.match(busy.err, /--over ID/);
  assert.match((await run('rollout', 'run', spec('7.2.2'), '--over', 'another')).err, /ROLLOUT_BUSY/);
  const mended = await run('rollout', 'run', spec('7.2.2'), '--over', id);
  assert.is(mended.code, 0, mended.err);
  assert.equal([...new Set(await versions())], ['7.2.2']);
  assert.is((await of('takeover')).code, 0);
  assert.is((await of('rollback')).code, 0);
  assert.match((await run('rollout', 'run', spec('7.2.1'))).err, /ROLLOUT_HALTED/);
  assert.match((await of('abandon')).out, /7\.2\.1 in demo: abandoned; 0 of \d+ nodes run it/);
  assert.match((await of('resume')).out, /nothing to go on with: it was abandoned/);
});

test('the policy allows all of it, and every statement of it is needed', async () => {
  const scope = ['--cluster', 'demo', '--account', cloud.ec2.world.accountId, '--region', cloud.region];
  const policyOf = async (...options: string[]) =>
    JSON.parse((await run('iam-policy', 'rollout', ...options, ...scope)).out) as Policy;
  const usedOf = (policy: Policy) =>
    checks
      .filter((check) => !check.resource.includes('/rollout/other/'))
      .map((check) => allowing(policy, check)?.Sid ?? `denied: ${check.action}`);
  const policy = await policyOf('--alarm');
  assert.equal(
    [...new Set(usedOf(policy))].sort(),
    policy.Statement.map((statement) => statement.Sid).sort(),
  );
  const plain = usedOf(await policyOf()).filter((one) => one.startsWith('denied'));
  assert.equal([...new Set(plain)], ['denied: iam:CreateServiceLinkedRole']);

  // Who writes a zone's parameter decides what its nodes run: not those of other clusters.
  const writes = (allowed: Policy, Name: string) =>
    checksOf(cloud, {
      ...{
        service: 'ssm',
        action: 'PutParameter',
        instanceId: undefined,
        at: 0,
        mutating: true,
        accepted: true,
      },
      request: { Name },
    }).every((check) => allowing(allowed, check) !== undefined);
  const named = await policyOf('--parameter', '/eniboot/bundle/{zone-id}');
  for (const [name, own, other] of [
    ['/eniboot/bundle/demo/euw1-az1', true, true],
    ['/eniboot/image/demo/euw1-az1', true, false],
    ['/eniboot/bundle/production/euw1-az1', false, true],
    ['/eniboot/image/production/euw1-az1', false, false],
    ['/eniboot/bundle/demonstration/euw1-az1', false, true],
    ['/eniboot/bundle/euw1-az1', false, true],
    ['/eniboot/rollout/production/state', false, false],
  ] as const) {
    assert.is(writes(policy, name), own, name);
    assert.is(writes(named, name), other, `${name}, with --parameter`);
  }
});

test('a halt of a cluster without a rollout says that it stopped nothing', async () => {
  const { code, err } = await run('rollout', 'halt', '--cluster', 'demmo');
  assert.is(code, 1);
  assert.match(err, /ROLLOUT_NONE: the halt flag of demmo is raised, but no rollout of demmo is recorded/);
});

test.after(async () => {
  bundles.stop();
  await cloud.stop();
});
test.run();
