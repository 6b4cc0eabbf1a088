// time limit: 300 s
// The commands that an operator types, by the shipped executable, against the simulated AWS over HTTP, with real nodes.
// ways-out.test.ts tests halts and what follows them.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Policy } from '../../agent/aws/iam.ts';
import { isSignedBy } from '../../agent/aws/signature.ts';
import { addImage } from '../aws/ec2/actions/images.ts';
import { launchNode } from '../boot/node.ts';
import { eniboot } from '../cli/executable.ts';
import { allowing, checksOf } from '../cli/policy.ts';
import { STAND_IN, UNHEALTHY } from './bundles.ts';
import { codeIn, startOperator, WAITS } from './operator.ts';

const { cloud, bundles, subnets, checks, home, env, run, of, spec, versions, stop } = await startOperator();
cloud.cloudwatch.set('smoke', 'OK');

test('an impossible request is refused before anything is changed', async () => {
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
  cloud.ssm.put('/eniboot/releases/7.2.0', 'not a release, and still no obstacle');
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
  // One cluster has parameters of its own, one has not.
  const release = cloud.ssm.parameters.get('/eniboot/releases/7.2.0')?.at(-1)?.value ?? '';
  for (const zone of ['production/euw1-az9', 'euw1-az8']) cloud.ssm.put(`/eniboot/bundle/${zone}`, release);
  assert.match((await run('bundle', 'list')).out, /^7\.2\.0 .* euw1-az8 production\/euw1-az9$/m);
  const list = await run('bundle', 'list', '--json');
  assert.is(list.err, '', 'the SDK prints no warning');
  const { releases, zones } = JSON.parse(list.out) as {
    releases: { version: string; x64: { sha256: string } }[];
    zones: object[];
  };
  assert.equal(zones[1], {
    zoneId: 'euw1-az9',
    parameter: '/eniboot/bundle/production/euw1-az9',
    version: '7.2.0',
  });
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
  // Publishing it again without the key keeps the signature.
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

test('the plan shows waves and blast radius as a table, a picture and an object', async () => {
  const svg = join(home, 'plan.svg');
  const plan = await run('rollout', 'plan', spec('7.2.0'), '--svg', svg);
  assert.is(plan.code, 0, plan.err);
  assert.match(plan.out, /7\.2\.0 to 3 nodes in 2 zones of demo/);
  assert.match(plan.out, /euw1-az2 +canary +1 +1 +1 \(100 % of the zone\)/);
  assert.match(readFileSync(svg, 'utf8'), /^<svg .*<\/svg>\n$/s);
});

test('a good version reaches real nodes, and the report shows it', async () => {
  cloud.faults.denied.add('iam:CreateServiceLinkedRole');
  const refused = await run('rollout', 'run', spec('7.2.0', WAITS, 'alarm: smoke'), '--json');
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

test('a bad version stops at its canary, which goes back by itself; no other node is touched', async () => {
  bundles.publish('7.3.0', UNHEALTHY);
  const rolled = await run('rollout', 'run', spec('7.3.0'), '--json');
  assert.is(rolled.code, 1);
  assert.is(codeIn(rolled.out), 'ROLLOUT_HALTED');
  assert.match(rolled.out, /UPDATE_WENT_BACK/);
  assert.equal(await versions(), ['7.2.0', '7.2.0', '7.2.0']);
  const status = await of('status');
  assert.is(status.code, 1);
  assert.match(status.out, /halted: the canary failed in euw1-az2/);
  // No batch is under way, and the zone does not bake.
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

test('an AMI becomes stable once a node that booted from it is READY, and is rolled back', async () => {
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
      booted = launchNode(cloud, { tags: { 'eniboot:cluster': 'demo' }, subnet: subnets[1] ?? '' }).then(
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

test('the policy allows every call of a rollout, and every statement of it is needed', async () => {
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

  // A principal that writes a zone's parameter decides which version its nodes run. So only its own cluster's may be allowed.
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

test('a halt of a cluster without a rollout tells that it stopped nothing', async () => {
  const { code, err } = await run('rollout', 'halt', '--cluster', 'demmo');
  assert.is(code, 1);
  assert.match(err, /ROLLOUT_NONE: the halt flag of demmo is raised, but no rollout of demmo is recorded/);
});

test.after(stop);
test.run();
