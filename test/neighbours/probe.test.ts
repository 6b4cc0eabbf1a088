// time limit: 180 s
// `eniboot check --probe`: packets prove the paths, a blocked path is found, and nothing stays, also after a kill.
import { once } from 'node:events';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Check } from '../../agent/boot/phase.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import { ENIBOOT } from '../boot/node.ts';
import { bootPodNode, type PodNode } from '../cni/rig.ts';

let cloud: Cloud;
let node: PodNode;
const env = { PATH: '/run/stand-in/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };

test.before(async () => {
  cloud = await startCloud();
  node = await bootPodNode(cloud);
});
test.after(() => cloud.stop());

interface Probed {
  exit: number | null;
  rows: Record<string, Check & { group: string }>;
}

async function probe(): Promise<Probed> {
  const { exitCode, stdout, stderr } = await node.tool(['check', '--probe', '--json']);
  assert.ok(stdout.startsWith('{"healthy"'), `${stdout}${stderr}`);
  const { checks } = JSON.parse(stdout) as { checks: Probed['rows'][string][] };
  const rows = checks.filter(({ id }) => id.startsWith('probe'));
  return { exit: exitCode, rows: Object.fromEntries(rows.map((row) => [row.id, row])) };
}

const results = ({ rows }: Probed) =>
  Object.fromEntries(Object.entries(rows).map(([id, { result }]) => [id, result]));

const good = {
  'probe-pod': 'pass',
  'probe-node': 'pass',
  'probe-vpc': 'pass',
  'probe-egress': 'pass',
  'probe-imds': 'pass',
};

test('on a healthy node all paths are open, IMDS is refused, and the probe leaves nothing', async () => {
  const found = await probe();
  assert.equal(results(found), good, JSON.stringify(found.rows));
  assert.ok(Object.values(found.rows).every(({ group }) => group === 'probe'));
  assert.equal(await node.leftovers(), []);
  const people = await node.tool(['check']);
  assert.match(people.stdout, /^neighbours: if not, .*\npass +neighbours /m);
  assert.not.match(people.stdout, /^\w+ +probe-/m);
});

const obstacles: [what: string, harm: string, mend: string, changed: Record<string, string>][] = [
  [
    'a forward chain that drops',
    'nft "table inet x { chain f { type filter hook forward priority 0; policy drop; }; }"',
    'nft delete table inet x',
    { 'probe-egress': 'warn' },
  ],
  [
    'an input chain that drops',
    'nft "table inet x { chain i { type filter hook input priority 0; iifname enb* drop; }; }"',
    'nft delete table inet x',
    { 'probe-node': 'fail' },
  ],
  [
    'source NAT is gone',
    'nft flush chain inet eniboot postrouting',
    '/usr/libexec/eniboot/current/eniboot repair',
    { 'probe-egress': 'warn' },
  ],
];
for (const [what, harm, mend, changed] of obstacles)
  test(`${what}: ${JSON.stringify(changed)}`, async () => {
    await node.sh(harm);
    const found = await probe();
    await node.sh(mend);
    assert.equal(results(found), { ...good, ...changed }, JSON.stringify(found.rows));
    for (const row of Object.values(found.rows))
      if (row.result === 'fail') assert.is(row.code, 'PROBE_FAILED');
    assert.equal(await node.leftovers(), []);
  });

test('a pool without a free address: the row tells so, and the probe leaves nothing', async () => {
  await node.sh(
    'mkdir /run/aside; mv /run/eniboot/pool/free/* /run/aside; rm -f /run/eniboot/pool/cooling/*',
  );
  const { rows, exit } = await probe();
  await node.sh('mv /run/aside/* /run/eniboot/pool/free; rmdir /run/aside');
  assert.is(exit, 1);
  assert.match(rows['probe-pod']?.summary ?? '', /a pod gets no network: .*address/);
  assert.equal(await node.leftovers(), []);
});

/** Starts a probe, waits until it has its lease, and sends the signal. */
async function interrupted(signal: NodeJS.Signals): Promise<number | null> {
  const child = node.instance.spawn(ENIBOOT, ['check', '--probe'], { env, stdio: 'ignore' });
  const ended = once(child, 'exit');
  await node.sh(
    'for i in $(seq 400); do ls /run/eniboot/pool/leased | grep -q eniboot-probe && exit 0; sleep 0.05; done; exit 1',
  );
  // While it sends its packets.
  await node.sh('sleep 0.3');
  child.kill(signal);
  const [code] = await ended;
  return code as number | null;
}

test('a probe that gets SIGINT removes all its parts', async () => {
  await node.sh('nft "table inet x { chain f { type filter hook forward priority 0; policy drop; }; }"');
  assert.is(await interrupted('SIGINT'), 130);
  await node.sh('nft delete table inet x');
  assert.equal(await node.leftovers(), []);
});

test('a probe that gets SIGKILL leaves only a lease, which the next probe or collect ends at once', async () => {
  for (const ends of ['probe', 'collect'] as const) {
    await node.sh('nft "table inet x { chain f { type filter hook forward priority 0; policy drop; }; }"');
    await interrupted('SIGKILL');
    // Programs that it had started end at their time-out.
    await node.sh(
      'nft delete table inet x; for i in $(seq 100); do ls /sys/class/net | grep -q ^enb || break; sleep 0.05; done',
    );
    const left = await node.leftovers();
    assert.ok(
      left.some((line) => line.startsWith('lease')),
      left.join('\n'),
    );
    assert.not.ok(
      left.some((line) => line.startsWith('link')),
      left.join('\n'),
    );
    if (ends === 'probe') assert.equal(results(await probe()), good);
    else assert.is((await node.tool(['pool', 'collect'])).exitCode, 0);
    assert.equal(await node.leftovers(), [], ends);
  }
});

test('only one probe runs at a time; on a node that has not booted it tells so', async () => {
  await node.sh('flock -n /run/eniboot/probe.lock sleep 3 >/dev/null 2>&1 &');
  await node.sh('sleep 0.3');
  const second = await node.tool(['check', '--probe']);
  assert.is(second.exitCode, 1);
  assert.match(second.stderr, /ALREADY_RUNNING/);
  await node.reboot();
  assert.match((await node.eniboot(['check', '--probe'])).stderr, /NOT_BOOTED/);
});

test.run();
