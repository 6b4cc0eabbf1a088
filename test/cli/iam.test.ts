// The policies against the calls in the sources, the Service Authorization Reference, and a real boot.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Ec2, ec2Actions } from '../../agent/aws/ec2.ts';
import { fleetActions } from '../../agent/aws/fleet.ts';
import type { Policy } from '../../agent/aws/iam.ts';
import { imageActions } from '../../agent/aws/images.ts';
import type { ServiceName } from '../aws/fetch.ts';
import { type ApiCall, type Cloud, startCloud } from '../aws/index.ts';
import { joiningText, putToken, TOKEN_PARAMETER } from '../boot/join-material.ts';
import { configText, launchNode } from '../boot/node.ts';
import { eniboot, operatorEnvironment } from './executable.ts';
import { allowing, type Check, checksOf } from './policy.ts';

interface Reference {
  serviceKeys: string[];
  actions: Record<string, Record<string, string[]>>;
}
const reference = JSON.parse(
  readFileSync(join(import.meta.dirname, 'authorization.json'), 'utf8'),
) as Reference;

/** A configuration that needs every permission that a configuration can need. */
const everything = `
boot: { onFailure: terminate }
egress: { publicAddress: request }
kubernetes: { clusterDns: ["ssm:/eniboot/dns"] }
bundle: {}
${joiningText()}`;
const configFile = join(tmpdir(), `eniboot-iam-${process.pid}.yaml`);
const joiningFile = join(tmpdir(), `eniboot-iam-joining-${process.pid}.yaml`);
const everythingText = () => configText(cloud, everything, { ipFamily: 'dual-stack' });
const KEY = 'arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab';
let cloud: Cloud;
/** The permissions that each recorded call would have been checked for at that moment. */
const checks: Check[] = [];

test.before(async () => {
  cloud = await startCloud({ ipv6: true });
  const push = cloud.calls.push.bind(cloud.calls);
  cloud.calls.push = (...calls: ApiCall[]) => {
    checks.push(...calls.flatMap((call) => checksOf(cloud, call)));
    return push(...calls);
  };
  writeFileSync(configFile, everythingText());
});
test.after(async () => {
  for (const file of [configFile, joiningFile]) rmSync(file, { force: true });
  await cloud.stop();
});

test('the node policy holds exactly the actions the node calls', async () => {
  const sources = ['agent/boot', 'agent/pool'].flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => readFileSync(join(folder, name), 'utf8')),
  );
  const methods = sources.flatMap((text) =>
    [...text.matchAll(/\bec2\.(\w+)\(/g)].map((match) => match[1] ?? ''),
  );
  const called = [...new Set(methods)].filter((name): name is keyof Ec2 => name in ec2Actions);
  assert.ok(called.length > 10, `only ${called.join()} found`);
  const wanted = [...called.map((name) => `ec2:${ec2Actions[name]}`), 'ssm:GetParameters'];
  assert.equal(actionsOf(await policy(['--config', configFile])), [...new Set(wanted)].sort());
});

test('the sweep policy holds exactly the actions a sweep calls', async () => {
  const text = readFileSync('agent/aws/sweep.ts', 'utf8');
  const wanted = [...text.matchAll(/\bec2\.(\w+)\(/g)].map(
    (match) => `ec2:${ec2Actions[match[1] as keyof Ec2]}`,
  );
  assert.equal(actionsOf(await policy(['sweep'])), [...new Set(wanted)].sort());
});

test('the rollout policy holds exactly the actions a rollout can call', async () => {
  const wanted = Object.entries(fleetActions).map(([action, service]) => `${service}:${action}`);
  assert.equal(actionsOf(await policy(['rollout'])), wanted.sort());
});

test('the image policy holds exactly the actions of images', async () => {
  const wanted = Object.entries(imageActions).map(([action, service]) => `${service}:${action}`);
  assert.equal(actionsOf(await policy(['image'])), wanted.sort());
});

test("an alarm and a customer's key add their permissions, and no other option adds any", async () => {
  const added = async (whose: string, ...options: string[]) => {
    const plain = actionsOf(await policy([whose]));
    return actionsOf(await policy([whose, ...options])).filter((action) => !plain.includes(action));
  };
  assert.equal(await added('rollout', '--alarm'), ['iam:CreateServiceLinkedRole']);
  // Source: EBS user guide, "Requirements for Amazon EBS encryption"; kms:ReEncrypt* is these two.
  assert.equal(await added('image', '--kms-key', KEY), [
    'kms:CreateGrant',
    'kms:Decrypt',
    'kms:DescribeKey',
    'kms:GenerateDataKeyWithoutPlaintext',
    'kms:ReEncryptFrom',
    'kms:ReEncryptTo',
  ]);
  for (const wrong of [
    ['rollout', '--kms-key', KEY],
    ['image', '--alarm'],
    ['image', '--kms-key', 'alias/mine'],
  ])
    assert.is((await eniboot(['iam-policy', ...wrong])).code, 2, wrong.join(' '));
});

test('a policy allows only calls that the configuration needs', async () => {
  const plain = actionsOf(await policy(['node']));
  assert.not.ok(plain.includes('ec2:TerminateInstances'));
  assert.not.ok(plain.includes('ssm:GetParameters'));
  assert.not.ok(plain.includes('ec2:AssignIpv6Addresses'));
  writeFileSync(joiningFile, configText(cloud, joiningText()));
  const { Statement } = await policy([
    '--config',
    joiningFile,
    '--region',
    'eu-west-1',
    '--account',
    '123456789012',
  ]);
  assert.equal(
    Statement.filter(({ Action }) => Action.some((action) => action.startsWith('ssm:'))).map(
      ({ Action, Resource }) => [Action, Resource],
    ),
    [[['ssm:GetParameters'], [`arn:aws:ssm:eu-west-1:123456789012:parameter${TOKEN_PARAMETER}`]]],
  );
  const text = JSON.stringify(await policy(['--config', configFile, '--cluster', 'other']));
  assert.match(text, '"aws:ResourceTag/eniboot:cluster":"other"');
  assert.not.match(text, '"demo"');
});

test('the region selects the partition', async () => {
  for (const [region, partition] of [
    ['eu-west-1', 'aws'],
    ['cn-north-1', 'aws-cn'],
    ['us-gov-west-1', 'aws-us-gov'],
    ['eusc-de-east-1', 'aws-eusc'],
    ['us-iso-east-1', 'aws-iso'],
    ['us-isob-east-1', 'aws-iso-b'],
    ['eu-isoe-west-1', 'aws-iso-e'],
    ['us-isof-south-1', 'aws-iso-f'],
  ] as const) {
    const { Statement } = await policy(['--region', region]);
    const arns = Statement.flatMap((statement) => statement.Resource).filter((one) => one !== '*');
    assert.ok(arns.length > 0 && arns.every((arn) => arn.startsWith(`arn:${partition}:`)), arns.join());
  }
});

test('AWS documents every resource type and condition key for its action', async () => {
  for (const args of [
    ['node'],
    ['--config', configFile, '--region', 'eu-west-1'],
    ['sweep', '--cluster', 'c'],
    ['rollout', '--cluster', 'c'],
    ['rollout', '--alarm'],
    ['image', '--region', 'eu-west-1'],
    ['image', '--kms-key', KEY],
  ]) {
    const { Statement } = await policy(args);
    const covered = new Map<string, Set<string>>();
    for (const statement of Statement) {
      const used = keysOf(statement.Condition ?? {});
      for (const action of statement.Action) {
        const types = reference.actions[action];
        assert.ok(types !== undefined, `${action} is not in the reference`);
        for (const resource of statement.Resource) {
          const type = resource === '*' ? '' : (/:([\w-]+)\/[^:]*$/.exec(resource)?.[1] ?? '');
          const keys = types[`${type}*`] ?? types[type];
          assert.ok(keys !== undefined, `${action} has no resource type ${type}`);
          covered.set(action, (covered.get(action) ?? new Set()).add(type));
          const known = [...keys, ...(types[''] ?? []), ...reference.serviceKeys];
          for (const key of used)
            assert.ok(known.includes(key), `${statement.Sid}: ${action} does not have ${key}`);
        }
      }
    }
    // `*` covers every resource type.
    for (const [action, types] of covered)
      for (const required of Object.keys(reference.actions[action] ?? {}).filter((type) =>
        type.endsWith('*'),
      ))
        assert.ok(types.has(required.slice(0, -1)) || types.has(''), `${action} always needs a ${required}`);
  }
});

test('the policy allows every call of a real boot, and every statement is needed', async () => {
  cloud.ssm.put('/eniboot/dns', '10.96.0.10');
  putToken(cloud);
  checks.length = 0;
  const node = await launchNode(cloud, { publicIp: false, config: everythingText() });
  node.instance.bootEni.tags.set('eniboot:role', 'boot').set('eniboot:cluster', 'demo');
  const { status } = await node.boot();
  assert.is(status?.verdict, 'ready', JSON.stringify(status?.failure));
  const allowed = await policy([
    '--config',
    configFile,
    '--account',
    cloud.ec2.world.accountId,
    '--region',
    cloud.region,
  ]);
  const used = new Set<string>();
  const judge = () => {
    for (const check of checks.splice(0)) {
      const statement = allowing(allowed, check);
      assert.ok(statement !== undefined, `denied: ${JSON.stringify(check)}`);
      used.add(statement.Sid);
    }
  };
  judge();
  assert.ok(cloud.calls.some((call) => call.action === 'ModifyNetworkInterfaceAttribute'));

  cloud.faults.device.add({ never: true });
  const failing = await launchNode(cloud, {
    config: configText(cloud, 'boot: { onFailure: terminate, deadlineSeconds: 10 }'),
  });
  await failing.boot().catch(() => undefined); // its machine is terminated while it runs
  judge();
  assert.equal([...used].sort(), allowed.Statement.map((statement) => statement.Sid).sort());
});

test('calls with a stolen node credential are denied', async () => {
  const [first, second] = [
    await cloud.launch(),
    await cloud.launch({ podEnis: [{ tags: { 'eniboot:role': 'pods', 'eniboot:cluster': 'other' } }] }),
  ];
  const allowed = await policy(['--config', configFile]);
  const from = (action: string, request: object, service: ServiceName = 'ec2') =>
    checksOf(cloud, {
      service,
      action,
      instanceId: first.id,
      at: 0,
      mutating: true,
      accepted: true,
      request,
    }).every((check) => allowing(allowed, check) !== undefined);
  const subnet = [...cloud.subnets.values()];
  const tags = (all: Record<string, string>) => [
    { ResourceType: 'network-interface', Tags: Object.entries(all).map(([Key, Value]) => ({ Key, Value })) },
  ];
  const ours = { 'eniboot:role': 'pods', 'eniboot:cluster': 'demo' };
  const podSubnet = subnet.find((one) => one.tags.get('eniboot') === 'pods')?.id;
  assert.ok(from('TerminateInstances', { InstanceIds: [first.id] }), 'itself');
  assert.ok(from('CreateNetworkInterface', { SubnetId: podSubnet, TagSpecifications: tags(ours) }));

  const forbidden: [string, object][] = [
    ['TerminateInstances', { InstanceIds: [second.id] }],
    ['CreateNetworkInterface', { SubnetId: podSubnet }],
    [
      'CreateNetworkInterface',
      { SubnetId: podSubnet, TagSpecifications: tags({ ...ours, 'eniboot:cluster': 'other' }) },
    ],
    ['CreateNetworkInterface', { SubnetId: subnet[0]?.id, TagSpecifications: tags(ours) }],
    ['AttachNetworkInterface', { InstanceId: second.id, NetworkInterfaceId: second.enis[1]?.id }],
    ['DeleteNetworkInterface', { NetworkInterfaceId: second.enis[1]?.id }],
    ['ModifyNetworkInterfaceAttribute', { NetworkInterfaceId: second.bootEni.id }],
    ['AssignPrivateIpAddresses', { NetworkInterfaceId: second.bootEni.id }],
    ['AssignIpv6Addresses', { NetworkInterfaceId: second.bootEni.id }],
    ['UnassignPrivateIpAddresses', { NetworkInterfaceId: second.bootEni.id }],
    ['DetachNetworkInterface', { AttachmentId: second.bootEni.attachment?.id }],
    ['DetachNetworkInterface', { AttachmentId: second.enis[1]?.attachment?.id }],
    ['CreateTags', { Resources: [second.id], Tags: [{ Key: 'eniboot:verdict', Value: 'ready' }] }],
    ['CreateTags', { Resources: [first.id], Tags: [{ Key: 'Name', Value: 'x' }] }],
    ['CreateTags', { Resources: [second.enis[1]?.id], Tags: [{ Key: 'eniboot:cluster', Value: 'demo' }] }],
  ];
  for (const [action, request] of forbidden)
    assert.not.ok(from(action, request), `${action} ${JSON.stringify(request)}`);
  assert.not.ok(from('GetParameters', { Names: ['/other'] }, 'ssm'));
  assert.ok(from('GetParameters', { Names: ['/eniboot/dns', '/eniboot/bundle/euw1-az1'] }, 'ssm'));
});

test('the policy allows every call of a sweep', async () => {
  const old = new Date(Date.now() - 3_600_000).toISOString();
  for (const seen of [{}, { 'eniboot:sweep-seen': old }]) {
    const all = {
      'eniboot:role': 'pods',
      'eniboot:cluster': 'demo',
      'eniboot:instance': 'i-0dead0000000000aa',
      'eniboot:created': old,
      ...seen,
    };
    cloud.ec2.send('CreateNetworkInterface', {
      SubnetId: [...cloud.subnets.values()].at(-1)?.id,
      TagSpecifications: [
        {
          ResourceType: 'network-interface',
          Tags: Object.entries(all).map(([Key, Value]) => ({ Key, Value })),
        },
      ],
    });
  }
  await cloud.settled();
  checks.length = 0;
  const swept = await eniboot(['eni', 'sweep', '--apply'], { env: operatorEnvironment(cloud) });
  assert.match(swept.out, /1 deleted, 1 marked/, swept.err);
  const allowed = await policy(['sweep', '--cluster', 'demo']);
  const used = checks.map((check) => allowing(allowed, check)?.Sid ?? `denied: ${JSON.stringify(check)}`);
  assert.equal([...new Set(used)].sort(), allowed.Statement.map((statement) => statement.Sid).sort());
});

test('docs/iam.md explains every statement', async () => {
  const page = readFileSync('docs/iam.md', 'utf8');
  for (const { Sid } of [
    ...(await policy(['--config', configFile])).Statement,
    ...(await policy(['sweep'])).Statement,
    ...(await policy(['rollout', '--alarm'])).Statement,
    ...(await policy(['image', '--kms-key', KEY])).Statement,
  ])
    assert.match(page, `| \`${Sid}\` |`);
});

async function policy(args: string[]): Promise<Policy> {
  const { code, out, err } = await eniboot(['iam-policy', ...args]);
  assert.is(code, 0, err);
  return JSON.parse(out) as Policy;
}

function actionsOf({ Statement }: Policy): string[] {
  return [...new Set(Statement.flatMap((statement) => statement.Action))].sort();
}

/** Condition keys as the reference writes them, and keys used as variables. */
function keysOf(condition: Record<string, Record<string, string | string[]>>): string[] {
  const keys = Object.values(condition).flatMap((one) => Object.keys(one));
  const variables = [...JSON.stringify(condition).matchAll(/\$\{([^}]+)\}/g)].map((match) => match[1] ?? '');
  return [...keys, ...variables].map((key) =>
    key.replace(/^(aws:(?:RequestTag|ResourceTag)|ssm:resourceTag)\/.*/, '$1/${TagKey}'),
  );
}

test.run();
