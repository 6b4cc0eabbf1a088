// time limit: 180 s
// repair and refill use the configuration and the facts of the boot that made the node READY. A later run, an edited file, a
// service that does not answer or one incomplete answer does not change them.
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { POD_ROLE, ROLE_TAG } from '../../agent/aws/tags.ts';
import type { Check } from '../../agent/boot/phase.ts';
import { POOL } from '../../agent/pool/entry.ts';
import { type Instance, startCloud } from '../aws/index.ts';
import { lease } from '../pool/node.ts';
import { configText, ENIBOOT, launchNode, type Node, type NodeOptions } from './node.ts';

const cloud = await startCloud();
const STAND_INS = 'PATH=/opt/stand-ins:/usr/sbin:/usr/bin:/sbin:/bin';

test.after.each(() => cloud.faults.clear());
test.after(() => cloud.stop());

async function readyNode(options: NodeOptions = {}): Promise<Node> {
  const node = await launchNode(cloud, options);
  const { status, result } = await node.boot();
  assert.is(status?.verdict, 'ready', result.stderr);
  return node;
}

interface Repaired {
  exitCode: number | null;
  changes: string[];
  failures: { phase: string; code: string }[];
}

async function repair({ instance }: Node): Promise<Repaired> {
  const { exitCode, stdout, stderr } = await instance.run('env', [STAND_INS, ENIBOOT, 'repair', '--json'], {
    timeoutMs: 60_000,
  });
  assert.ok(stdout.startsWith('{"changes"'), `${stdout}${stderr}`);
  return { exitCode, ...(JSON.parse(stdout) as Omit<Repaired, 'exitCode'>) };
}

const NOTHING = { exitCode: 0, changes: [], failures: [] };

async function checks(instance: Instance): Promise<Check[]> {
  const { stdout } = await instance.run('env', [STAND_INS, ENIBOOT, 'check', '--json'], {
    timeoutMs: 60_000,
  });
  return (JSON.parse(stdout) as { checks: Check[] }).checks;
}

async function table(instance: Instance): Promise<string> {
  return (await instance.run('nft', ['list', 'table', 'inet', 'eniboot'])).stdout;
}

test('a later run that fails, a half-edited file, a silent Parameter Store: repair and refill use the booted configuration', async () => {
  const booted = configText(cloud, 'kubernetes: { clusterDns: ["ssm:/demo/dns"] }\n');
  cloud.ssm.put('/demo/dns', '10.96.0.10');
  const node = await readyNode({ config: booted });
  assert.is(statSync(join(node.instance.root, 'run/eniboot/config.json')).mode & 0o777, 0o600);
  node.instance.write('/etc/eniboot/config.yaml', `${booted}pods: [\n`);
  assert.is((await node.boot()).status?.verdict, 'failed');
  cloud.faults.ssm.add({ action: '*', unanswered: true });
  assert.equal(await repair(node), NOTHING);
  await node.instance.run('nft', ['flush', 'ruleset']);
  assert.equal((await repair(node)).failures, []);
  assert.match(await table(node.instance), 'chain');
  const refill = await node.eniboot(['pool', 'refill']);
  assert.is(refill.exitCode, 0, refill.stderr);
  const collect = await node.eniboot(['pool', 'collect', '--json']);
  assert.not.match(collect.stdout, 'NOT_BOOTED');
  assert.equal(
    (await checks(node.instance)).filter((check) => check.result === 'fail'),
    [],
  );
});

test('one incomplete answer about a pod ENI changes nothing on the node', async () => {
  const tags = { [ROLE_TAG]: POD_ROLE };
  const podEnis = [
    { prefixes: 4, tags },
    { prefixes: 4, tags },
  ];
  const node = await readyNode({ podEnis });
  const before = node.instance.read('/run/eniboot/node.json');
  const tableBefore = await table(node.instance);
  for (const eni of node.instance.enis.slice(1)) {
    const fault = cloud.faults.imds.add({
      path: new RegExp(`${eni.mac}/subnet-ipv4-cidr-block`),
      status: 404,
    });
    assert.equal(await repair(node), NOTHING, eni.id);
    assert.ok(fault.hits > 0);
    fault.remove();
  }
  const empty = cloud.faults.imds.add({ path: /vpc-ipv4-cidr-blocks/, status: 404 });
  await node.instance.run('rm', ['/run/eniboot/vpc-cidrs.json']);
  assert.equal(await repair(node), NOTHING, 'nor are CIDRs of the VPC removed');
  assert.ok(empty.hits > 0);
  assert.is(node.instance.read('/run/eniboot/node.json'), before);
  assert.is(await table(node.instance), tableBefore);
});

test('ENIs on other network cards take no room from pods, whether EC2 is asked or not', async () => {
  const podEnis = [{ prefixes: 1, tags: { [ROLE_TAG]: POD_ROLE } }, ...otherCards()];
  const pods = { addressing: 'addresses', max: '110' };
  const config = configText(cloud, 'pool: { target: 16 }\n', pods);
  const node = await readyNode({ type: 'trn1.32xlarge', podEnis, config });
  assert.equal(await repair(node), NOTHING);
  cloud.faults.ec2.add({ action: '*', unanswered: true });
  const { status } = await node.boot();
  assert.is(status?.verdict, 'ready');
  assert.is(status?.capacity?.maxPods, 110);
});

test('the first boot leaves ENIs on other network cards alone when EC2 is silent', async () => {
  cloud.faults.ec2.add({ action: '*', unanswered: true });
  const config = configText(cloud, 'boot: { deadlineSeconds: 20 }\n');
  const node = await launchNode(cloud, { type: 'trn1.32xlarge', podEnis: otherCards(), config });
  const { status } = await node.boot();
  assert.is(status?.failure?.code, 'EC2_UNAVAILABLE');
  const links = await node.instance.run('ip', ['-j', 'link']);
  for (const { mac } of node.instance.enis.slice(1))
    assert.not.match(links.stdout, new RegExp(`"UP"[^{]*${mac}`), 'its device is as it was');
});

/** ENIs of EFA: one on each further card of a trn1.32xlarge. */
function otherCards() {
  return [1, 2, 3, 4, 5, 6, 7].map((networkCard) => ({ networkCard, deviceIndex: 1 }));
}

/** A stand-in for systemctl: systemd does not run in a simulated instance. */
function systemctl(instance: Instance, start: string): void {
  instance.write(
    '/opt/stand-ins/systemctl',
    `#!/bin/sh
case "$1" in
start) echo "$*" >> /run/starts; ${start} ;;
show)
  printf 'Id=crio.service\\nLoadState=loaded\\nActiveState=active\\n\\n'
  printf 'Id=kubelet.service\\nLoadState=loaded\\nActiveState=inactive\\n' ;;
esac
`,
    0o755,
  );
}

test('out of the warm pool: kubelet is started once, and again only while systemd refuses to start it', async () => {
  const node = await readyNode({ lifecycleState: 'Warmed:Running' });
  const { instance } = node;
  const starts = () => (instance.read('/run/starts') ?? '').split('\n').length - 1;
  instance.write('/run/starts', '');
  systemctl(instance, 'exit 1');
  const kubelet = async () => (await checks(instance)).find((check) => check.id === 'kubelet');
  assert.is((await kubelet())?.result, 'pass', 'a node in the warm pool is healthy without kubelet');
  assert.equal(await repair(node), NOTHING);
  assert.is(starts(), 0);
  instance.record.lifecycleState = 'InService';
  for (const tries of [1, 2]) {
    const { exitCode, failures } = await repair(node);
    assert.is(exitCode, 1);
    assert.equal(
      failures.map((failure) => failure.code),
      ['KUBELET_DOWN'],
    );
    assert.is(starts(), tries);
  }
  assert.is((await kubelet())?.code, 'KUBELET_DOWN', 'kubelet is released and does not run');
  systemctl(instance, 'exit 0');
  assert.equal(await repair(node), NOTHING);
  assert.is(starts(), 3);
  // An operator who stops kubelet from now on has the last word.
  assert.equal(await repair(node), NOTHING);
  assert.is(starts(), 3);
});

test('a boot by hand starts kubelet where systemd runs; a boot by its unit does not', async () => {
  const systemd = { '/run/systemd/system/present': '' };
  for (const [by, expected] of [
    ['NOTIFY_SOCKET=/run/nobody', 0],
    ['BY=hand', 1],
  ] as const) {
    const { instance } = await launchNode(cloud, { files: systemd });
    systemctl(instance, 'exit 0');
    instance.write('/run/starts', '');
    const boot = () => instance.run('env', [STAND_INS, by, ENIBOOT, 'boot', '--json'], { timeoutMs: 60_000 });
    for (let runs = 0; runs < 2; runs += 1) {
      const { exitCode, stdout } = await boot();
      assert.is(exitCode, 0, stdout);
      assert.is((instance.read('/run/starts') ?? '').split('\n').length - 1, expected, `${by}, run ${runs}`);
    }
  }
});

test('a type newer than the table: EC2 is asked for its limits once, and a boot without EC2 uses the answer', async () => {
  const node = await readyNode({ type: 'z9.large' });
  const limits = () => cloud.calls.filter((call) => call.action === 'DescribeInstanceTypes').length;
  assert.is(limits(), 1);
  assert.equal(await repair(node), NOTHING);
  assert.is(limits(), 1, 'repair does not ask EC2');
  cloud.faults.ec2.add({ action: '*', unanswered: true });
  await node.reboot();
  const { status } = await node.boot();
  assert.is(status?.verdict, 'ready');
  assert.ok((status?.degraded ?? []).length > 0, 'without EC2');
  assert.is(status?.capacity?.maxPods, 110);
});

test('check asks the runtime, which must answer, and compares leases with sandboxes', async () => {
  const { instance } = await readyNode();
  systemctl(instance, 'exit 0');
  const script = 'import socket; socket.socket(socket.AF_UNIX).bind("/run/crio/crio.sock")';
  await instance.run('sh', ['-c', `mkdir -p /run/crio && python3 -c '${script}'`]);
  const crictl = (text: string) => instance.write('/opt/stand-ins/crictl', `#!/bin/sh\n${text}\n`, 0o755);
  const found = async () =>
    Object.fromEntries((await checks(instance)).map((check) => [check.id, check.code ?? check.result]));

  crictl('echo "connection refused" >&2; exit 1');
  assert.is((await found())['runtime-answers'], 'RUNTIME_DOWN');
  lease(instance, 2);
  const [first, second] = spawnSync('ls', [join(instance.root, 'run/eniboot/pool/leased')], {
    encoding: 'utf8',
  })
    .stdout.trim()
    .split('\n')
    .map((name) => ({ id: name.split(',')[2] }));
  crictl(`echo '${JSON.stringify({ items: [first] })}'`);
  const one = await found();
  assert.is(one['runtime-answers'], 'pass');
  assert.is(one['leases'], 'warn');
  crictl(`echo '${JSON.stringify({ items: [first, second] })}'`);
  assert.is((await found())['leases'], 'pass');
});

test('check tells which network containerd uses, and skips this row on a node with cri-o', async () => {
  const { instance } = await readyNode();
  const order = async () => (await checks(instance)).find(({ id }) => id === 'conflist-order');
  const sh = (script: string) => instance.run('sh', ['-ec', script]);
  const put = (name: string) => instance.write(`/etc/cni/net.d/${name}`, '{}');
  assert.is(await order(), undefined);
  await sh('mount -t tmpfs tmpfs /usr/local/bin; touch /usr/local/bin/containerd');
  put('00-notes.txt');
  put('87-podman-bridge.conflist');
  assert.is((await order())?.result, 'pass');
  put('05-other.conf');
  const found = await order();
  assert.is(found?.result, 'warn');
  assert.match(
    found?.summary ?? '',
    /^containerd takes 05-other\.conf, which sorts before 10-eniboot\.conflist/,
  );
  await sh('touch /usr/local/bin/crio');
  assert.is(await order(), undefined);
});

test('a file that cannot be read is one failure with a code, and repair goes on with the other phases', async () => {
  const node = await readyNode();
  const dropIn = '/etc/kubernetes/kubelet.conf.d/10-eniboot.conf';
  await node.instance.run('sh', ['-c', `rm ${dropIn} /etc/cni/net.d/10-eniboot.conflist && mkdir ${dropIn}`]);
  const { exitCode, failures, changes } = await repair(node);
  assert.is(exitCode, 1);
  assert.equal(
    failures.map(({ phase, code }) => [phase, code]),
    [['kubelet', 'FILE_WRITE']],
  );
  assert.is(changes.length, 1);
  assert.ok(node.instance.read('/etc/cni/net.d/10-eniboot.conflist'));
});

test('a new CIDR of the VPC is routed by the next boot, and repair keeps it while EC2 does not answer', async () => {
  const node = await readyNode();
  const added = '10.99.0.0/16';
  assert.not.match(await table(node.instance), added);
  cloud.faults.ec2.add({
    action: 'DescribeVpcs',
    edit: (answer: { Vpcs: { CidrBlockAssociationSet: object[] }[] }) => ({
      ...answer,
      Vpcs: answer.Vpcs.map((vpc) => ({
        ...vpc,
        CidrBlockAssociationSet: [
          ...vpc.CidrBlockAssociationSet,
          { CidrBlock: added, CidrBlockState: { State: 'associated' } },
        ],
      })),
    }),
  });
  assert.is((await node.boot()).status?.verdict, 'ready');
  assert.match(await table(node.instance), added);
  cloud.faults.clear();
  cloud.faults.ec2.add({ action: '*', unanswered: true });
  assert.equal(await repair(node), NOTHING);
  assert.match(await table(node.instance), added);
});

test('a boot by systemd waits for the end of a run by hand', async () => {
  const node = await launchNode(cloud);
  await node.instance.run('mkdir', ['-p', '/run/eniboot/pool']);
  const holder = node.instance.spawn('flock', [POOL.lock, 'sleep', '8']);
  await new Promise((resolve) => setTimeout(resolve, 500));
  const { exitCode, stdout } = await node.instance.run(
    'env',
    ['NOTIFY_SOCKET=/run/nobody', ENIBOOT, 'boot', '--json'],
    { timeoutMs: 60_000 },
  );
  assert.is(exitCode, 0, stdout);
  assert.is(holder.exitCode, 0, 'the boot began after the other run had ended');
});

test.run();
