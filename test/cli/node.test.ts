// time limit: 240 s
// The command line on a node: one JSON object in every case, mistakes that change nothing, and Ctrl-C during a boot.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { changesBetween } from '../boot/faults/machine.ts';
import { ENIBOOT, launchNode, type Node } from '../boot/node.ts';

let cloud: Cloud;
test.before(async () => {
  cloud = await startCloud();
});
test.after(() => cloud.stop());
test.after.each(() => cloud.faults.clear());

/** Commands and their exit codes before and after a good boot. */
const asked: [string[], number, number | undefined][] = [
  [['version'], 0, 0],
  [['status'], 3, 0],
  [['plan'], 0, 0],
  [['check'], 1, 0],
  [['config', 'check'], 0, 0],
  [['config', 'show'], 0, 0],
  [['capacity', 'm5.large'], 0, 0],
  [['capacity', 'm99.huge'], 1, 1],
  [['iam-policy'], 0, 0],
  [['iam-policy', '--config', '/nonexistent.yaml'], 1, 1],
  [['eni', 'sweep', '--region', 'eu-west-1'], 1, 1],
  [['boot', '--dry-run'], 0, 0],
  [['repair'], 1, 0],
  [['support-bundle'], 0, undefined],
];

test('--json is exactly one object on stdout, before a boot and after it', async () => {
  const node = await launchNode(cloud);
  const before = await Promise.all(asked.map(([args]) => json(node, args)));
  assert.equal(
    before.map(([args, code]) => [args, code]),
    asked.map(([args, code]) => [args.join(' '), code]),
  );
  const { result, status } = await node.boot();
  assert.is(status?.verdict, 'ready', result.stdout);
  for (const [args, , code] of asked) {
    if (code === undefined) continue;
    const [name, ended] = await json(node, args);
    assert.is(ended, code, name);
  }
});

test('a damaged status file counts as absent, with any damage', async () => {
  const node = await launchNode(cloud);
  const damaged = ['', '{', 'null', '[]', '{"schema":1}', '{"schema":1,"verdict":"ready"}', '{"schema":2}'];
  for (const text of damaged) {
    node.instance.write('/run/eniboot/status.json', text);
    const plain = await node.eniboot(['status']);
    assert.is(plain.exitCode, 3, `${text}: ${plain.stderr}`);
    const json = await node.eniboot(['status', '--json']);
    assert.is(json.stdout, '{"verdict":"none"}\n', text);
  }
});

test('a failed boot prints one object too, with code and remedy', async () => {
  const node = await launchNode(cloud, { config: null });
  const { result, status } = await node.boot();
  assert.is(result.exitCode, 1);
  assert.is(result.stdout.trim().split('\n').length, 1);
  assert.is(status?.failure?.code, 'CONFIG_MISSING');
  assert.ok((status?.failure?.remedy ?? '').length > 0);
});

test('boot, status and config name the sources of the configuration, and parts that were passed over', async () => {
  const userData = `MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"

--b
Content-Type: text/x-shellscript

#!/bin/sh
cat > /tmp/x <<END
#eniboot-config
END
--b
#eniboot-config
pods: { max: 40 }
--b--
`;
  const node = await launchNode(cloud, { userData });
  const sources = '/etc/eniboot/config.yaml (4 keys); user data, part 2 (1 key)';
  const boot = await node.eniboot(['boot']);
  assert.ok(boot.stdout.includes(`= configuration: ${sources}\n`), boot.stdout);
  assert.match(boot.stderr, /user data, part 1:3:1: .*text\/x-shellscript/);
  const status = await node.eniboot(['status']);
  assert.ok(status.stdout.includes(sources), status.stdout);
  const journal = await node.eniboot(['boot'], { env: { JOURNAL_STREAM: '1:1' } });
  assert.ok(journal.stderr.includes(`"configuration":"${sources}"`), journal.stderr);
  const checked = await node.eniboot(['config', 'check']);
  assert.match(checked.stdout, /user data, part 1:3:1: warning/);
  assert.match(checked.stdout, /valid: \/etc\/eniboot\/config\.yaml, user data, part 2\n/);
  assert.match((await node.eniboot(['config', 'show'])).stdout, /pods\.max +40 +user data, part 2:2/);
});

test('a plan whose first phase fails tells so, and claims of no phase that it changes nothing', async () => {
  const node = await launchNode(cloud, { config: null });
  const { stdout, stderr, exitCode } = await node.eniboot(['plan']);
  assert.is(exitCode, 1);
  assert.is(stdout.trim(), 'identify  cannot be planned: CONFIG_MISSING');
  assert.match(stderr, /^eniboot: CONFIG_MISSING/);
  const shown = JSON.parse((await node.eniboot(['plan', '--json'])).stdout);
  assert.equal(shown.phases, [{ name: 'identify', changes: [], failed: 'CONFIG_MISSING' }]);
});

test('wrong usage changes nothing on the machine and makes no call to AWS', async () => {
  const node = await launchNode(cloud);
  const before = await fingerprint(node);
  const [calls, requests] = [cloud.calls.length, cloud.imds.length];
  for (const args of [
    ['boot', '--dry-rum'],
    ['boot', 'now'],
    ['repair', '--force'],
    ['pool', 'refil'],
    ['support-bundle', '--out', '/x'],
    ['eni', 'sweep', '--aply'],
    ['reboot'],
  ]) {
    const { exitCode, stderr } = await node.eniboot(args);
    assert.is(exitCode, 2, `${args.join(' ')}: ${stderr}`);
  }
  const after = await fingerprint(node);
  assert.equal(changesBetween(before, after), []);
  assert.equal(after, before, 'the lines are in the same order');
  assert.equal([cloud.calls.length, cloud.imds.length], [calls, requests]);
});

for (const [moment, slow, seen] of [
  ['while IMDS answers', () => cloud.faults.imds.add({ delayMs: 300 }), () => cloud.imds.length > 0],
  [
    'while an ENI is created',
    () => cloud.faults.ec2.add({ action: 'CreateNetworkInterface', lost: 'hang', times: 1 }),
    () => cloud.calls.some((call) => call.action === 'CreateNetworkInterface' && call.accepted),
  ],
  [
    'after an ENI was created',
    () => cloud.faults.ec2.add({ action: 'AttachNetworkInterface', unanswered: true, times: 1 }),
    () => cloud.calls.some((call) => call.action === 'CreateNetworkInterface' && call.accepted),
  ],
  [
    'while a device is awaited',
    () => cloud.faults.device.add({ delayMs: 8_000, times: 1 }),
    () => cloud.calls.some((call) => call.action === 'AttachNetworkInterface' && call.accepted),
  ],
] as const) {
  test(`Ctrl-C ${moment}: exit 130, kubelet not released, and the next boot is good`, async () => {
    const node = await launchNode(cloud);
    cloud.calls.length = 0;
    cloud.imds.length = 0;
    slow();
    assert.match(await bootInterrupted(node, seen), /exit 130\n$/);
    assert.not.ok(node.kubeletReleased());
    cloud.faults.clear();
    await cloud.settled();
    const { status } = await node.boot();
    assert.is(status?.verdict, 'ready', JSON.stringify(status?.failure));
    await cloud.settled();
    assert.is(node.instance.enis.length, 2, 'one pod ENI, no second one');
    assert.equal(
      cloud.leakReport().filter((leak) => leak.tags['eniboot:instance'] === node.instance.id),
      [],
    );
    await node.instance.terminate();
  });
}

test('Ctrl-C after the node is READY: kubelet runs, so the verdict is printed, and exit 0', async () => {
  const node = await launchNode(cloud);
  cloud.faults.ec2.add({ action: 'CreateTags', delayMs: 3_000, times: 1 });
  const out = await bootInterrupted(node, () => node.kubeletReleased());
  assert.match(out, /the node is already READY[\s\S]*exit 0\n$/);
  assert.match(out, /eniboot: READY OK/);
  const { stdout } = await node.eniboot(['status', '--json']);
  assert.is(JSON.parse(stdout).verdict, 'ready');
  cloud.faults.clear();
  await node.instance.terminate();
});

/** Boots, presses Ctrl-C as soon as `when` holds, and resolves to the whole output, with the exit code at its end. */
async function bootInterrupted(node: Node, when: () => boolean): Promise<string> {
  const shell = node.instance.spawn('sh', ['-c', `trap : INT; ${ENIBOOT} boot 2>&1; echo "exit $?"`], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  let out = '';
  shell.stdout?.on('data', (piece: Buffer) => {
    out += piece.toString();
  });
  const ended = new Promise((resolve) => shell.on('close', resolve));
  while (!when()) await new Promise((resolve) => setTimeout(resolve, 5));
  // A terminal sends the signal to every process in the foreground, not to the shell's parent.
  await node.instance.run('pkill', ['-INT', '-x', 'eniboot']);
  await ended;
  return out;
}

async function json(node: Node, args: string[]): Promise<[string, number | null]> {
  const { stdout, exitCode, stderr } = await node.eniboot([...args, '--json']);
  const name = args.join(' ');
  assert.is(stdout.trimEnd().split('\n').length, 1, `${name}: ${stdout}${stderr}`);
  const value: unknown = JSON.parse(stdout);
  assert.ok(typeof value === 'object' && value !== null && !Array.isArray(value), name);
  if (exitCode !== 0 && 'failure' in value) assert.type((value.failure as { code: string }).code, 'string');
  return [name, exitCode];
}

/**
 * Files with their contents, links, addresses, rules and tables of an instance, each a line. It waits until the kernel has
 * finished with the links' own IPv6 addresses, which appear and become usable by themselves.
 */
async function fingerprint(node: Node): Promise<string[]> {
  // A link-local address is tentative for its first second or two, and has no route until then.
  const script = `for try in $(seq 100); do ip -6 address show tentative | grep -q . || break; sleep 0.1; done
find /etc /run /var /opt /usr/libexec/eniboot -xdev -type f -size -1000k -exec sha256sum {} + | sort
ip -o link | sed 's/ qlen.*//'; ip -o address | sed 's/valid_lft.*//'; ip rule; ip route show table all; nft list ruleset; ls -lR /opt /run/eniboot 2>&1`;
  const { stdout } = await node.instance.run('sh', ['-c', script]);
  assert.match(stdout, '/etc/eniboot/config.yaml');
  return stdout.split('\n');
}

test.run();
