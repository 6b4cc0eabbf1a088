// runtime: the executable's
// collect frees only leases whose pod is provably gone: each of its conditions keeps a lease in one test. The kernel is real; the
// runtime is a socket and a stand-in for crictl with the test's answers.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { toNumber } from '../../agent/host/ipv4.ts';
import { hostLinkOf } from '../../agent/host/pod-link-name.ts';
import { type Collected, collect } from '../../agent/pool/collect.ts';
import { listEntries } from '../../agent/pool/entry.ts';
import { findLease, type Lease, listLeases, takeLease } from '../../agent/pool/lease.ts';
import { noteLease } from '../../agent/pool/lease-note.ts';
import { addToPool } from '../../agent/pool/prefixes.ts';
import { emptyPool, violations } from './oracle.ts';

const ENI = 'eni-0aaaaaaaaaaaaaaa1';
const MINUTE = 60_000;
let nowMs = 0;
const clock = { bootMs: () => nowMs, now: () => new Date(), sleep: async () => {} };
const NETNS = '/run/netns/pod';

mkdirSync('/run/standin', { recursive: true });
mkdirSync('/run/crio', { recursive: true });
process.env['PATH'] = `/run/standin:${process.env['PATH']}`;
const runtime = createServer().listen('/run/crio/crio.sock');
runtime.unref();

/** Sets crictl's answer; a number is its exit code. */
function crictl(answer: string | number): void {
  const script =
    typeof answer === 'number' ? `echo "connection refused" >&2; exit ${answer}` : `echo '${answer}'`;
  writeFileSync('/run/standin/crictl', `#!/bin/sh\necho "$*" >> /run/standin/calls\n${script}\n`);
  chmodSync('/run/standin/crictl', 0o755);
}

function listed(...ids: string[]): string {
  const items = ids.map((id) => ({
    id,
    metadata: { name: 'p', namespace: 'n' },
    state: 'SANDBOX_NOTREADY',
  }));
  return JSON.stringify({ items });
}

function ip(...lines: string[]): void {
  execFileSync('ip', ['-batch', '-'], { input: `${lines.join('\n')}\n` });
}

/** Makes the node's parts of an attachment, as the plugin does. */
function makeKernel(address: string): void {
  const link = hostLinkOf(address);
  const table = toNumber(address);
  ip(
    `link add ${link} type veth peer name p${table}`,
    `link set dev ${link} up`,
    `route add ${address}/32 dev ${link} scope link proto 140`,
    `route add 10.0.0.0/16 via ${address} dev ${link} onlink table ${table} proto 140`,
    `rule add priority 1024 iif ${link} lookup ${table} protocol 140`,
    `rule add priority 1025 from ${address} fwmark 0x40/0x40 lookup ${table} protocol 140`,
  );
}

function kernel(): string {
  return ['link', 'rule', 'route']
    .map((what) =>
      execFileSync('ip', ['-4', what, 'show', ...(what === 'route' ? ['table', 'all'] : [])], {
        encoding: 'utf8',
      }),
    )
    .join('')
    .split('\n')
    .filter((line) => /enb|lookup 16\d{7}|table 16\d{7}|proto 140/.test(line))
    .join('\n');
}

/** A lease whose pod ended without a DEL: no link, no namespace, not in the runtime's list. */
function abandoned(): Lease {
  const owner = { containerId: 'gone', ifName: 'eth0' };
  const lease = takeLease(owner, { eniIds: [ENI], restMs: 0, nowMs, lowWater: 0 });
  noteLease(lease, { netns: NETNS, network: 'eniboot', madeMs: nowMs });
  return lease;
}

/** Runs collect twice, eleven minutes apart, as the timer does. */
async function twice(): Promise<Collected> {
  await collect(clock);
  nowMs += 11 * MINUTE;
  return collect(clock);
}

test.before.each(() => {
  emptyPool();
  rmSync('/run/standin/calls', { force: true });
  rmSync(NETNS, { force: true });
  execFileSync('sh', [
    '-c',
    'for l in $(ls /sys/class/net | grep ^enb); do ip link del $l; done; ip rule flush; ip rule add priority 32766 lookup main; ip rule add priority 32767 lookup default',
  ]);
  nowMs += 100 * MINUTE;
  addToPool({ eniId: ENI, cidr: '10.0.64.16/28' }, 0);
  crictl(listed('other'));
});

test('a lease whose pod is gone in every respect is freed by the second run, and rests from then', async () => {
  const lease = abandoned();
  const first = await collect(clock);
  assert.equal(first, { freed: [], kept: [], removed: [] }, 'not by the first run');
  nowMs += 9 * MINUTE;
  assert.equal((await collect(clock)).freed, [], 'not before ten minutes');
  assert.equal(readdirSync('/run/standin').includes('calls'), false, 'the runtime was not even asked');
  nowMs += MINUTE;
  const { freed } = await collect(clock);
  assert.equal(
    freed.map((one) => one.address),
    [lease.address],
  );
  assert.equal(
    listEntries('cooling').map((entry) => [entry.address, entry.releasedAt]),
    [[lease.address, nowMs]],
  );
  assert.equal(violations(true), []);
});

const keeps: [string, () => void][] = [
  ['its network namespace exists', () => writeFileSync(NETNS, '')],
  ['its network namespace cannot be read', () => symlinkSync(NETNS, NETNS)],
  ['its link exists', () => makeKernel('10.0.64.16')],
  ['the runtime lists its sandbox, in any state', () => crictl(listed('other', 'gone'))],
  ['the runtime does not answer', () => crictl(1)],
  ['the runtime answers something else', () => crictl('{"pods": []}')],
  ['the runtime answers half a list', () => crictl('{"items": [{"id": "other"}')],
  ['an item of the list has no ID', () => crictl('{"items": [{"id": "other"}, {}]}')],
  ['crictl is missing', () => rmSync('/run/standin/crictl')],
];
for (const [name, keep] of keeps) {
  test(`a lease is kept while ${name}`, async () => {
    const lease = abandoned();
    assert.is(lease.address, '10.0.64.16');
    keep();
    const { freed } = await twice();
    assert.equal(freed, []);
    assert.ok(findLease(lease.owner), 'the lease is kept');
    // Without this condition the lease is freed.
    rmSync(NETNS, { force: true });
    execFileSync('sh', ['-c', `ip link del ${hostLinkOf(lease.address)} 2>/dev/null || true`]);
    crictl(listed('other'));
    const after = [await collect(clock), await twice()];
    assert.is(after.flatMap((one) => one.freed).length, 1);
  });
}

test('a lease is kept while one of two runtimes does not answer', async () => {
  mkdirSync('/run/containerd', { recursive: true });
  const second = createServer().listen('/run/containerd/containerd.sock');
  crictl(listed('other'));
  const script = `#!/bin/sh\ncase "$*" in *containerd*) exit 1;; esac\necho '${listed('other')}'\n`;
  writeFileSync('/run/standin/crictl', script);
  abandoned();
  assert.equal((await twice()).freed, []);
  second.close();
});

test('a lease is kept while no runtime listens at all', async () => {
  abandoned();
  runtime.close();
  rmSync('/run/crio/crio.sock', { force: true });
  const { freed, kept } = await twice();
  assert.equal(freed, []);
  assert.match(kept[0]?.reason ?? '', /no container runtime listens/);
  runtime.listen('/run/crio/crio.sock');
});

test('a lease without a note of its namespace, or with the note of another owner, is kept', async () => {
  const lease = abandoned();
  const path = `/run/eniboot/pool/leased/${lease.address},${ENI},gone,eth0`;
  for (const note of ['', 'another\n/run/netns/elsewhere\n', 'gone\n', 'gone']) {
    writeFileSync(path, note);
    const { freed, kept } = await twice();
    assert.equal(freed, [], JSON.stringify(note));
    assert.match(kept[0]?.reason ?? '', /namespace is not known/);
  }
});

test('a namespace that is named by a process exists as long as the process', async () => {
  const lease = abandoned();
  noteLease(lease, { netns: `/proc/${process.pid}/ns/net`, network: 'eniboot', madeMs: nowMs });
  assert.equal((await twice()).freed, []);
  noteLease(lease, { netns: '/proc/4194303/ns/net', network: 'eniboot', madeMs: nowMs });
  await collect(clock);
  nowMs += 11 * MINUTE;
  assert.is((await collect(clock)).freed.length, 1);
});

test('a pod that comes back between two runs is no longer suspected', async () => {
  abandoned();
  await collect(clock);
  nowMs += 9 * MINUTE;
  writeFileSync(NETNS, '');
  await collect(clock);
  rmSync(NETNS);
  nowMs += 2 * MINUTE;
  assert.equal((await collect(clock)).freed, [], 'its ten minutes begin again');
});

test('crictl is asked for sandboxes of every state', async () => {
  abandoned();
  await twice();
  const calls = execFileSync('cat', ['/run/standin/calls'], { encoding: 'utf8' }).trim();
  assert.is(calls, '--runtime-endpoint unix:///run/crio/crio.sock --timeout 10s pods --output json');
});

test('link, rules and routes of an address without a lease are removed; those of a pod and of the node stay', async () => {
  const pod = abandoned();
  makeKernel(pod.address);
  ip('rule add priority 512 fwmark 0x1000/0x1000 lookup main protocol 140');
  const before = kernel();
  assert.equal((await collect(clock)).removed, []);
  assert.is(kernel(), before);
  makeKernel('10.0.64.20');
  const { removed } = await collect(clock);
  assert.equal(removed, ['10.0.64.20']);
  assert.is(kernel(), before);
  assert.equal(
    listEntries('cooling').map((entry) => [entry.address, entry.releasedAt]),
    [['10.0.64.20', nowMs]],
    'an address that still had a link rests again',
  );
  assert.equal(violations(true), []);
});

test('remains of a killed plugin are removed: rules without a link, a link alone, outside the pool too', async () => {
  ip(
    'rule add priority 1025 from 10.0.64.21 fwmark 0x40/0x40 lookup 167788565 protocol 140',
    `link add ${hostLinkOf('10.9.9.9')} type veth peer name peer1`,
  );
  const { removed } = await collect(clock);
  assert.equal(removed.sort(), ['10.0.64.21', '10.9.9.9']);
  assert.is(kernel(), '');
  assert.is(listLeases().length, 0);
  assert.equal(violations(true), []);
});

test('links and rules of other programs are not removed', async () => {
  ip(
    'link add enbridge type veth peer name enbpeer',
    'link add enb0a00401 type veth peer name peer2',
    'rule add priority 1024 from 10.0.64.22 lookup 167788566 protocol 141',
    'rule add priority 1024 from 10.0.64.23 lookup 140 protocol 140',
  );
  assert.equal((await collect(clock)).removed, []);
  assert.equal(listEntries('cooling'), [], 'and no address is taken out of use because of them');
  const links = execFileSync('ip', ['link', 'show'], { encoding: 'utf8' });
  assert.ok(links.includes('enbridge') && links.includes('enb0a00401'));
  execFileSync('ip', ['link', 'del', 'enbridge']);
});

test.run();
