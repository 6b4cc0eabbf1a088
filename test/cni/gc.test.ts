// time limit: 500 s
// GC beside ADDs, as two runtimes on one node call them: no live pod loses its lease, no address goes to two pods.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { type Answer, bootPodNode, conf, type PodNode, variablesOf } from './rig.ts';

let cloud: Cloud;
let node: PodNode;

test.before(async () => {
  cloud = await startCloud();
  node = await bootPodNode(cloud, { config: configText(cloud, 'pool: { target: 48, restSeconds: 0 }\n') });
});
test.after(() => cloud.stop());

const gc = (valid: string[]) =>
  node.cni(
    'GC',
    {},
    {
      ...conf,
      'cni.dev/valid-attachments': valid.map((containerID) => ({ containerID, ifname: 'eth0' })),
    },
  );
const add = (name: string, variables = {}) =>
  node.cni('ADD', { ...variablesOf(name, `/run/netns/${name}`), ...variables });
const del = (name: string) => node.cni('DEL', variablesOf(name, `/run/netns/${name}`));
const leased = async () =>
  (await node.leftovers()).flatMap((line) => (line.startsWith('lease ') ? [line.slice(6).split(',')] : []));
const addressIn = ({ json }: Answer): string => json.ips[0].address.split('/')[0];

const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
/** Random numbers by the algorithm Mulberry32. */
function random(state: number): () => number {
  let at = state;
  return () => {
    at = (at + 0x6d2b79f5) | 0;
    let value = Math.imul(at ^ (at >>> 15), at | 1);
    value = (value + Math.imul(value ^ (value >>> 7), value | 61)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}

test('ADDs and DELs of one network beside GCs whose list is some moments old', async () => {
  process.stdout.write(`seed ${seed}\n`);
  const next = random(seed);
  /** Live pods and their addresses, as their runtime knows them. */
  const pods = new Map<string, string>();
  const problems: string[] = [];
  let added = 0;
  let collected = 0;
  const over = new AbortController();
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, next() * ms));
  const runtime = async (name: string) => {
    for (let round = 0; round < 8; round += 1) {
      const id = `${name}r${round}`;
      await node.sh(`ip netns add ${id}`);
      const answer = await add(id);
      if (answer.exit === 0) {
        added += 1;
        const address = addressIn(answer);
        for (const [other, one] of pods)
          if (one === address) problems.push(`${id} has ${address} of ${other}`);
        pods.set(id, address);
        await pause(600);
        const mine = (await leased()).filter(([, , owner]) => owner === id);
        if (mine.length !== 1 || mine[0]?.[0] !== address)
          problems.push(`${id} lives with ${address}; its leases: ${mine.join(' ')}`);
        pods.delete(id);
      } else if (answer.json?.code !== 11) problems.push(`ADD of ${id}: ${answer.stdout}`);
      const ended = await del(id);
      if (ended.exit !== 0) problems.push(`DEL of ${id}: ${ended.stdout}`);
      await node.sh(`ip netns del ${id}`);
    }
  };
  const collector = async () => {
    while (!over.signal.aborted) {
      const valid = [...pods.keys()];
      // A runtime takes time between its list and the plugin's start.
      await pause(300);
      const answer = await gc(valid);
      collected += 1;
      if (answer.exit !== 0) problems.push(`GC: ${answer.stdout}`);
    }
  };
  const collectors = [collector(), collector()];
  await Promise.all(['a', 'b', 'c', 'd'].map(runtime));
  over.abort();
  await Promise.all(collectors);
  assert.equal(problems, [], `seed ${seed}`);
  assert.ok(added >= 20 && collected >= 10, `${added} ADDs, ${collected} GCs`);
  assert.equal(await node.leftovers(), []);
});

test('GC ends a lease that is older than the list, or whose namespace is gone', async () => {
  await node.addPod('young');
  await node.addPod('gone');
  await node.sh('ip netns del gone');
  assert.is((await gc([])).exit, 0);
  assert.equal(
    (await leased()).map(([, , owner]) => owner),
    ['young'],
  );
  await node.ageLeases();
  assert.is((await gc([])).exit, 0);
  assert.equal(await node.leftovers(), []);
  await node.sh('ip netns del young');
});

test('GC ends a lease whose note, by an older version, has no time', async () => {
  await node.addPod('older');
  await node.sh(`cd /run/eniboot/pool/leased
    for lease in *,older,eth0; do note=$(head -n 5 "$lease"); printf '%s\\n' "$note" >"$lease"; done`);
  assert.is((await gc([])).exit, 0);
  assert.equal(await node.leftovers(), []);
  await node.sh('ip netns del older');
});

test('an ADD that stops while GC ends its lease makes no pod without a lease', async () => {
  await node.sh('ip netns add stopped');
  // The ADD stops between its lease and its links, as on a busy node or disk.
  node.trace('-e', 'trace=sendto', '-e', 'inject=sendto:delay_enter=6s:when=1');
  const adding = add('stopped');
  // The lease is noted before the first netlink request.
  await node.sh('until grep -qs netns/stopped /run/eniboot/pool/leased/*; do sleep 0.05; done');
  node.trace();
  await node.ageLeases();
  assert.is((await gc([])).exit, 0);
  assert.equal(await leased(), []);
  const answer = await adding;
  assert.is(answer.json?.code, 11, answer.stdout);
  assert.match(answer.json.msg, /LEASE_LOST/);
  assert.is(await node.sh("ip -n stopped -br link | grep -v '^lo' || :"), '');
  const left = await node.leftovers();
  assert.ok(
    left.every((line) => line.startsWith('rule ')),
    left.join('\n'),
  );
  // The runtime tries ADD again.
  assert.is((await add('stopped')).exit, 0);
  assert.is((await del('stopped')).exit, 0);
  await node.sh('ip netns del stopped');
});

test('a GC that stops while an ADD makes its links restores the lease', async () => {
  await node.addPod('probe');
  await node.ageLeases();
  // GC ends the lease of a pod. Its link comes back, as the links of an ADD that goes on would.
  const [[address = '', eni = ''] = []] = await leased();
  const hex = address
    .split('.')
    .map((part) => Number(part).toString(16).padStart(2, '0'))
    .join('');
  const path = `/run/eniboot/pool/leased/${address},${eni},probe,eth0`;
  node.trace('-e', 'trace=rename', '-P', path, '-e', 'inject=rename:delay_enter=10s');
  const collecting = gc([]);
  // The node's rules are removed last.
  await node.sh(`while ip rule show | grep -q enb${hex}; do sleep 0.05; done; sleep 1`);
  node.trace();
  await node.sh(`ip link add enb${hex} type veth peer name back`);
  assert.is((await collecting).exit, 0);
  assert.equal(
    (await leased()).map(([, , owner]) => owner),
    ['probe'],
  );
  assert.is((await del('probe')).exit, 0);
  assert.equal(await node.leftovers(), []);
  await node.sh('ip netns del probe');
});

test('an address whose stray link GC removes is leased to no pod meanwhile, and rests afterwards', async () => {
  const [free = ''] = (await node.sh('ls /run/eniboot/pool/free | sort -V')).trim().split('\n');
  const [address = ''] = free.split(',');
  const hex = address
    .split('.')
    .map((part) => Number(part).toString(16).padStart(2, '0'))
    .join('');
  await node.sh(`ip link add enb${hex} type veth peer name astray`);
  node.trace('-e', 'trace=sendto', '-e', 'inject=sendto:delay_enter=4s:when=1');
  const collecting = gc([]);
  await node.sh(`until ls /run/eniboot/pool/leased | grep -q ^${address},; do sleep 0.02; done`);
  node.trace();
  const pod = await node.addPod('beside');
  assert.is.not(pod.address, address);
  assert.is((await collecting).exit, 0);
  assert.match(await node.sh('ls /run/eniboot/pool/cooling'), new RegExp(`^${address},`, 'm'));
  assert.is((await del('beside')).exit, 0);
  assert.equal(await node.leftovers(), []);
  await node.sh('ip netns del beside');
});

test('the next GC finishes a GC that was killed while it cleaned an address', async () => {
  const [free = ''] = (await node.sh('ls /run/eniboot/pool/free | sort -V')).trim().split('\n');
  const [address = ''] = free.split(',');
  const hex = address
    .split('.')
    .map((part) => Number(part).toString(16).padStart(2, '0'))
    .join('');
  await node.sh(`ip link add enb${hex} type veth peer name killed`);
  node.trace('-e', 'trace=sendto', '-e', 'inject=sendto:signal=KILL:when=1');
  await gc([]);
  node.trace();
  assert.is((await leased()).length, 1);
  assert.is((await gc([])).exit, 0);
  assert.equal(await node.leftovers(), []);
});

test.run();
