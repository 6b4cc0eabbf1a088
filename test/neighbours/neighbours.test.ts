// time limit: 240 s
// Other programs on the node (table.ts): their rules are loaded on a READY node with pods. Packets show which of a pod's ways are
// broken, and `check` names exactly those ways; a program that breaks no way is not named.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Check } from '../../agent/boot/phase.ts';
import type { Way } from '../../agent/host/obstacles/packet.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import { bootPodNode, type Pod, type PodNode, proxy } from '../cni/rig.ts';
import { programsRoot } from './programs.ts';
import type { Names } from './rules.ts';
import { type Case, neighbours } from './table.ts';

let cloud: Cloud;
let one: PodNode;
let two: PodNode;
let names: Names;
let usual: Check[];

const SERVICE = '172.20.0.10';

test.before(async () => {
  cloud = await startCloud();
  [one, two] = await Promise.all([bootPodNode(cloud), bootPodNode(cloud)]);
  const a: Pod = await one.addPod('a');
  const far: Pod = await two.addPod('far');
  await Promise.all([one.serve('a'), two.serve('far'), one.serve('', 10_250), one.serve('', 53)]);
  const eni = one.instance.enis[1];
  names = {
    bootDevice: one.instance.deviceOf(one.instance.bootEni.id) ?? '',
    node: one.instance.bootEni.primaryIp,
    pod: a.address,
    podDevice: one.instance.deviceOf(eni?.id ?? '') ?? '',
    podLink: a.result.interfaces[2].name,
    far: far.address,
  };
  for (const [path, text] of Object.entries({
    programs: programs(),
    'firewalld-start': firewalldStart,
    'firewalld-stop': firewalldStop,
  }))
    one.instance.write(`/run/${path}`, text);
  await services();
  // eniboot's tables, and those of the test's stand-ins.
  await one.sh('nft list tables >/run/own-tables');
  usual = await look();
});
test.after(() => cloud.stop());

/** What kube-proxy does to packets, for a Service and a NodePort. */
async function services(): Promise<void> {
  await proxy(
    one,
    'ip',
    `ip daddr ${SERVICE} tcp dport 80 dnat to ${names.far}; ip daddr ${names.node} tcp dport 30080 dnat to ${names.pod}:80`,
  );
}

/** Shell: sets the programs' root folder up at /mnt/root, once. */
function programs(): string {
  const root = programsRoot();
  return `if ! mountpoint -q /mnt; then
  mount -t tmpfs none /mnt; mkdir -p /mnt/up /mnt/work /mnt/root
  mount -t overlay -o lowerdir=${root},upperdir=/mnt/up,workdir=/mnt/work none /mnt/root 2>/dev/null || cp -a ${root}/. /mnt/root/
  mkdir -p /mnt/root/run/dbus /mnt/root/proc /mnt/root/sys /mnt/root/dev /mnt/root/tmp
  for each in proc sys dev; do mount --rbind /$each /mnt/root/$each; done
  echo root:x:0:0:root:/root:/bin/sh >/mnt/root/etc/passwd
  echo root:x:0: >/mnt/root/etc/group
  cat >/mnt/root/tmp/bus.conf <<'XML'
<busconfig><listen>unix:path=/run/dbus/system_bus_socket</listen><type>system</type>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/><allow user="*"/></policy></busconfig>
XML
fi
until_() { for i in $(seq 100); do "$@" >/dev/null 2>&1 && break; sleep 0.05; done; }
end_() { kill $(cat $1); until_ test ! -d /proc/$(cat $1); }
`;
}

/** Starts firewalld; `fw` is firewall-cmd. */
const firewalldStart = `. /run/programs
fw() { chroot /mnt/root firewall-cmd "$@" >/dev/null; }
rm -f /mnt/root/run/dbus/system_bus_socket
chroot /mnt/root dbus-daemon --config-file=/tmp/bus.conf --nofork --nopidfile >/dev/null 2>&1 & echo $! >/run/fw-bus
until_ test -S /mnt/root/run/dbus/system_bus_socket
chroot /mnt/root /usr/sbin/firewalld --nofork --nopid >/dev/null 2>&1 & echo $! >/run/fw-daemon
until_ fw --state
`;

/** Stops firewalld, which removes its table. */
const firewalldStop = `. /run/programs
end_ /run/fw-daemon
end_ /run/fw-bus
`;

/** Rows that did not pass. */
async function look(): Promise<Check[]> {
  const { stdout, stderr } = await one.eniboot(['check', '--json'], {
    env: { PATH: '/run/fakes:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' },
  });
  assert.ok(stdout.startsWith('{'), stderr);
  const { checks } = JSON.parse(stdout) as { checks: Check[] };
  return checks.filter(({ result }) => result !== 'pass');
}

function newRows(rows: Check[]): Check[] {
  return rows.filter((row) => !usual.some(({ id, summary }) => id === row.id && summary === row.summary));
}

/** The ways on which no packet comes through; the other end must see the pod's own address. */
async function brokenWays({ uid, also }: Case): Promise<string[]> {
  const { node, pod, far } = names;
  const user = uid === undefined ? '' : `setpriv --reuid ${uid} --clear-groups `;
  const get = (url: string) => `curl -s -m 1 ${url}`;
  const fromPod = (url: string) => `ip netns exec a ${user}${get(url)}`;
  const tries: [Way | 'also', string, string][] = [
    ['internet', fromPod(cloud.internet.curlTarget), one.instance.bootEni.publicIp ?? ''],
    ['vpc', fromPod(`http://${far}/`), pod],
    ['service', fromPod(`http://${SERVICE}/`), pod],
    ['node', fromPod(`http://${node}:10250/`), pod],
    ['node', get(`http://${pod}/`), node],
  ];
  const script = tries.map(([, command], at) => `(${command} >/tmp/try-${at}) &\n`).join('');
  const extra = also === undefined ? ':' : `ip netns exec a ${also(names)} >/dev/null || echo also`;
  const [said, outside] = await Promise.all([
    one.sh(`${script}wait\nfor at in 0 1 2 3 4; do echo "try $at $(cat /tmp/try-$at)"; done\n${extra}`),
    two.sh(`${get(`http://${node}:30080/`)} || :`),
  ]);
  const broken = tries.flatMap(([way, , seen], at) => (said.includes(`try ${at} ${seen}\n`) ? [] : [way]));
  if (outside !== two.instance.bootEni.primaryIp) broken.push('outside');
  if (said.endsWith('also\n')) broken.push('also');
  return [...new Set<string>(broken)].sort();
}

test('without neighbours all ways are open and none is named', async () => {
  assert.equal(await brokenWays({ name: '', load: () => '', rows: [], broken: [] }), []);
  assert.equal(
    usual.filter(({ id }) => id.startsWith('neighbours')),
    [],
  );
});

/** `NEIGHBOUR=pattern` keeps the cases whose name it matches. */
const wanted = new RegExp(process.env['NEIGHBOUR'] ?? '');

for (const { name, cases } of neighbours)
  for (const tried of cases.filter((each) => wanted.test(`${name}: ${each.name}`)))
    test(`${name}: ${tried.name}`, async () => {
      try {
        await one.sh(tried.load(names));
        const [rows, broken] = await Promise.all([look(), brokenWays(tried)]);
        const found = newRows(rows);
        const shown = JSON.stringify(
          found.map(({ id, summary, remedy }) => ({ id, summary, remedy })),
          null,
          1,
        );
        assert.equal(broken, [...tried.broken].sort(), `broken ways, shown by packets\n${shown}`);
        assert.is(found.length, tried.rows.length, shown);
        for (const [id, says] of tried.rows) {
          const row = found.find(
            (each) =>
              each.id.startsWith(id) &&
              (typeof says === 'string' ? each.summary.includes(says) : says.test(each.summary)),
          );
          assert.ok(row, `${id} ${says}\n${shown}`);
          if (id.startsWith('neighbours')) assert.ok((row.remedy ?? '').length > 20, 'the row has a remedy');
        }
        // The ways in the rows are those that packets show. A row that is not certain may have more ways.
        const named = found.filter(({ id }) => id.startsWith('neighbours'));
        const ways = new Set(named.flatMap(({ evidence }) => evidence['ways'] as Way[]));
        const certain = named.every(({ evidence }) => evidence['certain'] === true);
        if (named.length > 0 && broken.length > 0)
          assert.equal(
            [...ways].filter((way) => certain || broken.includes(way)).sort(),
            [...broken, ...(tried.named ?? [])].sort(),
            'ways in the rows',
          );
      } finally {
        await one.sh(`${tried.undo?.(names) ?? ':'}
          nft list tables | grep -vxFf /run/own-tables | while read -r table; do nft delete $table; done`);
      }
      if (tried.repaired === true) {
        assert.is((await one.eniboot(['repair'])).exitCode, 0);
        await services();
      }
    });

test('an answer of nft that cannot be understood is a warning of check, and no failure', async () => {
  const odd =
    '{"nftables":[{"rule":null},{"chain":{"hook":"forward"}},{"rule":{"chain":null,"expr":[null]}}]}';
  for (const says of [odd, 'no JSON']) {
    one.instance.write(
      '/run/fakes/nft',
      `#!/bin/sh\n[ "$*" != '-j list ruleset' ] || exec echo '${says}'\nexec /usr/sbin/nft "$@"\n`,
      0o755,
    );
    const found = newRows(await look());
    await one.sh('rm /run/fakes/nft');
    assert.ok(
      found.every(({ id, result }) => id === 'neighbours' && result === 'warn'),
      JSON.stringify(found),
    );
    if (says !== odd) assert.is(found.length, 1, says);
  }
});

test('without the neighbours all checks pass again', async () => {
  assert.equal(newRows(await look()), []);
  assert.equal(await brokenWays({ name: '', load: () => '', rows: [], broken: [] }), []);
});

test.run();
