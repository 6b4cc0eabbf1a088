// time limit: 600 s
// ADD, CHECK and DEL against the real kernel, by an executable that makes a macvlan (test/build/stand-in.ts). CHECK finds each
// broken part, and nothing remains wherever a call fails or is killed. strace makes a system call fail, or kills the caller at it.
import { rmSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { buildMacvlanVariant } from '../build/stand-in.ts';
import { bootPodNode, conf, type PodNode, variablesOf } from './rig.ts';

const PATH = '/run/stand-in/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const LOG = '/run/strace.log';

let cloud: Cloud;
let node: PodNode;
let variant: { folder: string; executable: string };

test.before(() => {
  variant = buildMacvlanVariant();
});
test.after(() => rmSync(variant.folder, { recursive: true, force: true }));

/** One call of this executable. strace may change its own system calls, but not those of its children. */
async function call(
  command: string,
  inject?: string,
  path?: string,
  prevResult?: unknown,
  config: object = conf,
) {
  const variables = {
    ...variablesOf('p', '/run/netns/p'),
    CNI_COMMAND: command,
    CNI_PATH: '/opt/cni/bin',
    PATH,
  };
  const traced =
    inject === undefined ? [] : ['strace', '-qq', '-o', LOG, '-e', `trace=sendto,setns`, '-e', inject];
  const found = path === undefined ? [] : ['/usr/bin/env', `PATH=${path}`];
  const [file, ...args] = [...traced, ...found, variant.executable];
  const { exitCode, stdout, stderr } = await node.instance.run(file, args, {
    env: variables,
    input: JSON.stringify(prevResult === undefined ? config : { ...config, prevResult }),
    timeoutMs: 60_000,
  });
  return { exit: exitCode, json: stdout === '' ? undefined : JSON.parse(stdout), said: stdout + stderr };
}

/** A pod with bandwidth limits in both directions. */
const limited = { ...conf, runtimeConfig: { bandwidth: { ingressRate: 40e6, egressRate: 20e6 } } };

const leftInPod = () =>
  node.sh(`ip -n p -br link | grep -v '^lo' || :; for family in -4 -6; do ip -n p $family rule | grep ^1024 || :
      ip -n p $family route show table all proto 140; done
    nsenter --net=/run/netns/p nft list tables`);
const pool = () => node.sh('ls /run/eniboot/pool/free /run/eniboot/pool/cooling | cut -d, -f1 | sort');

async function del(): Promise<void> {
  const { exit, said } = await call('DEL');
  assert.is(exit, 0, said);
  assert.equal(await node.leftovers(), []);
  assert.is(await leftInPod(), '');
}

/** The beginning of an address → that of another address. */
const OTHERS: Record<string, string> = { '10.0.': '10.9.', '100::': '101::', '2001:db8:': '2001:db9:' };

/** Ways to break an attachment and to mend it: each part is removed, and each is changed a little. */
async function changes(): Promise<{ break: string; mend: string }[]> {
  const lines = async (command: string) =>
    (await node.sh(`${command} || :`))
      .split('\n')
      .map((line) => line.replace(/(proto|protocol) static /g, '$1 140 ').trim())
      .filter((line) => line !== '');
  const found: { break: string; mend: string }[] = [];
  const addresses: string[] = [];
  for (const where of ['-n p', '']) {
    for (const family of ['-4', '-6']) {
      const ip = `ip ${where} ${family}`;
      for (const line of await lines(`${ip} route show table all proto 140`)) {
        const route = `${line.replace(/ (metric \d+|pref \w+|linkdown|error -?\d+)/g, '')} proto 140`;
        found.push({ break: `${ip} route del ${route}`, mend: `${ip} route add ${route}` });
      }
      // Over IPv6 the rules on the node are boot's: one set for all pods.
      const rules = where === '' && family === '-6' ? [] : await lines(`${ip} rule show | grep '^102[45]:'`);
      for (const line of rules) {
        const rule = `priority ${line.replace(':', '').replace('from all', '')}`;
        const [without, device] = [rule.replace(/ lookup.*/, ''), where === '' ? 'ens5' : 'eth0'];
        const mend = `${ip} rule add ${rule.includes('proto') ? rule : `${rule} protocol 140`}`;
        found.push({ break: `${ip} rule del ${rule}`, mend });
        // With another table, and with one condition more.
        const others = [
          `${without} lookup 77`,
          ...(rule.includes('iif') ? [] : [`${rule} oif ${device}`]),
          ...['sport 1000-2000', 'suppress_prefixlength 0'].map((condition) => `${rule} ${condition}`),
        ];
        for (const other of others)
          found.push({
            break: `${ip} rule del ${rule}; ${ip} rule add ${other}`,
            mend: `${ip} rule del ${other}; ${mend}`,
          });
      }
      if (where !== '')
        for (const line of await lines(`${ip} -br addr show dev eth0 scope global | awk '{ print $3 }'`))
          addresses.push(`${ip} addr add ${line} dev eth0${family === '-6' ? ' nodad' : ''}`);
      for (const line of await lines(`${ip} neigh show nud permanent | grep -v ' lo '`)) {
        const mend = `${ip} neigh replace ${line.replace(/ (PERMANENT|router)/g, '')} nud permanent`;
        found.push({ break: `${ip} neigh del ${line.replace(/ lladdr.*/, '')}`, mend });
        found.push({ break: mend.replace(/lladdr \S+/, 'lladdr 02:00:00:00:00:99'), mend });
      }
    }
  }
  const inPod = (command: string) => `nsenter --net=/run/netns/p ${command}`;
  const change = (what: string, to: string, from: string) =>
    found.push({ break: `${what} ${to}`, mend: `${what} ${from}` });
  const names =
    'net.ipv4.ip_forward|net.ipv4.conf.(all|eth0|veth0).rp_filter|net.ipv4.conf.all.accept_redirects|' +
    'net.ipv4.conf.veth0.src_valid_mark';
  for (const line of await lines(inPod(`sysctl -a 2>/dev/null | grep -E '^(${names}) '`))) {
    const [name = '', value = ''] = line.split(' = ');
    const set = (to: string) => inPod(`sysctl -qw ${name}=${to}`);
    found.push({ break: set(value === '1' ? '0' : '1'), mend: set(value) });
  }
  change('ip -n p link set veth0 mtu', '1400', '9001');
  const [group = ''] = await lines("ip -n p -d link show eth0 | sed -n 's/.*group \\([0-9]*\\) .*/\\1/p'");
  for (const device of ['eth0', 'veth0']) change(`ip -n p link set ${device} group`, '7', group);
  const bucket = (device: string, rate: string) =>
    inPod(`tc qdisc replace dev ${device} root tbf rate ${rate} burst 131072 latency 25ms`);
  for (const device of ['eth0', 'veth0'])
    for (const breaks of [inPod(`tc qdisc del dev ${device} root`), bucket(device, '21mbit')])
      found.push({ break: breaks, mend: bucket(device, '20mbit') });
  const [mac = ''] = await lines('cat /sys/class/net/enb*/address');
  // The kernel removes a link's neighbours when its MAC changes.
  const neighbours = found
    .map(({ mend }) => mend)
    .filter((one) => /^ip\s+-[46] neigh replace .* enb/.test(one));
  const host = 'ip link set dev $(ls /sys/class/net | grep ^enb) address';
  found.push({
    break: `${host} 02:00:00:00:00:99`,
    mend: [`${host} ${mac}`, ...neighbours].join('; '),
  });
  // Each chain with a rule less, a rule more, a changed rule, another hook, policy or priority.
  const paths = ['prerouting', 'output', 'postrouting'];
  for (const [family, chains] of [
    ['ip', [...paths, 'arriving']],
    ['inet', [...paths.map((name) => `${name}6`), 'arriving']],
    ['netdev', ['own_source']],
  ] as const) {
    for (const chain of chains) {
      const text = await lines(inPod(`nft list chain ${family} eniboot ${chain} 2>/dev/null`));
      if (text.length === 0) continue;
      const [hook = '', ...listed] = text.slice(2, -2);
      // nft does not print the frame's type where a rule's match implies it.
      const rules = listed.map((rule) =>
        rule.replace(/ether type (\w+) /, 'ether type $1 meta protocol $1 '),
      );
      const written = (head: string, body: string[]) =>
        inPod(`nft -f - <<'EOF'
delete chain ${family} eniboot ${chain}
table ${family} eniboot {
chain ${chain} {
${[head, ...body].join('\n')}
}
}
EOF`);
      const mend = written(hook, rules);
      const wrong = [
        ...rules.map((_, at) => written(hook, rules.toSpliced(at, 1))),
        written(hook, [...rules, 'counter']),
        written(hook, ['counter', ...rules]),
        ...(rules.length > 1 ? [written(hook, rules.toReversed())] : []),
        written(
          hook.replace(/policy (\w+)/, (_, is) => `policy ${is === 'drop' ? 'accept' : 'drop'}`),
          rules,
        ),
        written(hook.replace(/priority \w+/, 'priority 7'), rules),
        ...rules.flatMap((rule, at) =>
          [
            rule.replace(/10\.0\.|100::|2001:db8:/, (start) => OTHERS[start] ?? ''),
            rule.replace(/(eth0|veth0)/, 'eth7'),
            rule.replace(' fully-random', ''),
            rule.replace('!= ', ''),
            rule.replace('direction original', 'direction reply'),
            rule.replace(/0x0*1000/g, '0x2000'),
            rule.replace(/ether saddr \S+/, 'ether saddr 02:00:00:00:00:99'),
            rule.replace('169.254.169.254', '169.254.169.253'),
            rule.replace('ec2::254', 'ec2::253'),
            rule.replace(/nd-\w+-\w+/, 'nd-redirect'),
            rule.replace(/ meta protocol \w+/, ''),
            rule.replace(/accept$/, 'drop'),
            rule.replace(/(0x[0-9a-f]{31})./, '$10'),
          ]
            .filter((changed) => changed !== rule)
            .map((changed) => written(hook, rules.with(at, changed))),
        ),
      ];
      for (const one of wrong) found.push({ break: one, mend });
    }
  }
  return found;
}

for (const families of ['ipv4', 'dual-stack'] as const) {
  test(`${families}: a node boots`, async () => {
    const ipv6 = families === 'dual-stack';
    cloud = await startCloud({ ipv6 });
    const extra = `pool: { target: 32, restSeconds: 0 }
kubernetes: { serviceCidrs: [172.20.0.0/16${ipv6 ? ', "fd00:10:96::/108"' : ''}] }
`;
    node = await bootPodNode(cloud, { config: configText(cloud, extra, { ipFamily: families }) });
    await node.sh('ip netns add p');
  });

  test(`${families}: CHECK needs no program, and finds every changed part`, async () => {
    const added = await call('ADD', undefined, undefined, undefined, limited);
    assert.is(added.exit, 0, added.said);
    const whole = async (after: string) => {
      const { exit, said } = await call('CHECK', undefined, '/nowhere', added.json);
      assert.is(exit, 0, `${after}: ${said}`);
    };
    await whole('ADD');
    const ways = await changes();
    assert.ok(ways.length >= (families === 'ipv4' ? 60 : 100), `${ways.length} ways`);
    // Both CHECKs of a change in one script: four programs less to start for each.
    node.instance.write('/run/check.json', JSON.stringify({ ...conf, prevResult: added.json }));
    const variables = { ...variablesOf('p', '/run/netns/p'), CNI_COMMAND: 'CHECK', CNI_PATH: '/opt/cni/bin' };
    const environment = Object.entries(variables).map(([key, value]) => `${key}='${value}'`);
    const check = `env ${environment.join(' ')} PATH=/nowhere ${variant.executable} </run/check.json`;
    for (const { break: breaks, mend } of ways) {
      const script = `${breaks}
${check} >/run/broken || :
${mend}
whole=0
${check} >/run/whole 2>&1 || whole=$?
cat /run/broken; echo "whole: $whole"; cat /run/whole`;
      const { stdout, stderr } = await node.instance.run('sh', ['-ec', script], { timeoutMs: 60_000 });
      const [broken = '', now = ''] = stdout.split('whole: ');
      const json = broken.trim() === '' ? undefined : JSON.parse(broken);
      assert.is(json?.code, 102, `CHECK has not found: ${breaks}`);
      assert.match(json.msg, /is missing|differs: /, breaks);
      assert.match(now, /^0\n/, `${breaks}; ${mend}: ${now}${stderr}`);
    }
    // Additions of other programs are accepted.
    await node.sh(`ip -n p route add 10.9.0.0/16 dev eth0; ip -n p rule add priority 9 lookup main
      nsenter --net=/run/netns/p nft 'add table ip other { chain eniboot { type filter hook input priority 0; }; }'
      ip -n p address add 192.0.2.1/32 dev lo`);
    await whole('with additions of other programs');
    await node.sh(`ip -n p rule del priority 9; ip -n p address del 192.0.2.1/32 dev lo
      ip -n p route del 10.9.0.0/16 dev eth0; nsenter --net=/run/netns/p nft delete table ip other`);
    if (families === 'dual-stack') {
      await node.sh('nsenter --net=/run/netns/p sysctl -qw net/ipv6/conf/eth0/disable_ipv6=1');
      const alone = { ...added.json, ips: added.json.ips.slice(0, 1) };
      const { exit, said } = await call('CHECK', undefined, undefined, alone);
      assert.is(exit, 0, said);
      await node.sh('nsenter --net=/run/netns/p sysctl -qw net/ipv6/conf/eth0/disable_ipv6=0');
    }
    await del();
  });

  test(`${families}: an ADD takes no default route from another network`, async () => {
    for (const [what, route] of [
      ['IPv4', 'ip -n p route add default via 192.0.2.1 dev net0'],
      ['a larger metric', 'ip -n p route add default dev net0 metric 500'],
      ...(families === 'dual-stack' ? [['IPv6', 'ip -n p -6 route add default via fe80::1 dev net0']] : []),
    ] as const) {
      await node.sh(`ip -n p link add net0 type veth peer name net1; ip -n p link set net1 up
        ip -n p link set net0 up; ip -n p address add 192.0.2.9/24 dev net0; ${route}`);
      const look = () =>
        node.sh(`for family in -4 -6; do ip -n p $family rule; ip -n p $family route show table all | grep -vE 'fe80|ff00|multicast' || :; done
          ip -n p -br link; nsenter --net=/run/netns/p sysctl net.ipv4.ip_forward net.ipv4.conf.all.rp_filter`);
      const before = await look();
      const { exit, json } = await call('ADD');
      assert.is(exit, 1, what);
      assert.is(json.code, 103, what);
      assert.match(json.msg, /^eniboot: NETNS_TAKEN: .*default route.* by net0/);
      assert.is(await look(), before, what);
      assert.equal(await node.leftovers(), []);
      const free = await pool();
      await node.sh('ip -n p link del net0');
      const { exit: now, said } = await call('ADD');
      assert.is(now, 0, said);
      await del();
      assert.is(await pool(), free);
    }
  });

  test(`${families}: DEL removes eniboot's parts and leaves those of other programs`, async () => {
    // Other programs' parts in both namespaces: routes of another protocol and table, an nftables table, a rule.
    const theirs = `ip -n p link add other type veth peer name other2
      ip -n p route add unreachable 10.9.0.0/16 proto 141; ip -n p -6 route add unreachable fd09::/16 proto 141
      ip -n p rule add priority 1024 fwmark 0x1/0x1 lookup 77; ip -n p route add throw 10.8.0.0/16 table 140
      nsenter --net=/run/netns/p nft add table ip foreign
      ip route add throw 10.9.0.0/16 table 167772161 proto 140; ip rule add priority 1024 lookup 77`;
    const look = () =>
      node.sh(`for n in '-n p' ''; do for family in -4 -6; do
          ip $n $family rule; ip $n $family route show table all | grep -vE 'fe80|ff00|multicast' || :
        done; done; ip -n p -br link; nsenter --net=/run/netns/p nft list tables`);
    await node.sh(theirs);
    const before = await look();
    const added = await call('ADD');
    assert.is(added.exit, 0, added.said);
    assert.is.not(await look(), before);
    // DEL needs no program at all.
    const removed = await call('DEL', undefined, '/nowhere');
    assert.is(removed.exit, 0, removed.said);
    assert.is(await look(), before);
    await node.sh(`ip -n p link del other; ip -n p route del unreachable 10.9.0.0/16 proto 141
      ip -n p -6 route del unreachable fd09::/16 proto 141; ip -n p rule del priority 1024 fwmark 0x1/0x1
      ip -n p route flush table 140; nsenter --net=/run/netns/p nft delete table ip foreign
      ip route flush table 167772161; ip rule del priority 1024 lookup 77`);
  });

  test(`${families}: the next DEL finishes a DEL that was refused or killed at any request`, async () => {
    for (const fault of ['error=ENOBUFS', 'signal=KILL']) {
      let met = 0;
      for (let at = 1; at < 100; at += 1) {
        const added = await call('ADD');
        assert.is(added.exit, 0, added.said);
        const { exit, json } = await call('DEL', `inject=sendto:${fault}:when=${at}`);
        if (exit === 0) break;
        met += 1;
        if (fault === 'error=ENOBUFS') assert.is(json.code, 100, `at request ${at}`);
        await del();
      }
      assert.ok(met >= 8, `${fault} at ${met} requests`);
    }
    // First the namespace is gone, then its path leads to a file.
    for (const end of ['ip netns del p', 'ip netns del p; mkdir -p /run/netns; touch /run/netns/p']) {
      assert.is((await call('ADD')).exit, 0);
      await node.sh(end);
      const { exit, said } = await call('DEL', undefined, '/nowhere');
      assert.is(exit, 0, said);
      assert.equal(await node.leftovers(), []);
      await node.sh('rm -f /run/netns/p; ip netns add p');
    }
  });

  test(`${families}: an ADD leaves nothing when any of its requests is refused`, async () => {
    const before = await pool();
    let refused = 0;
    for (let at = 1; at < 100; at += 1) {
      const { exit, json, said } = await call('ADD', `inject=sendto:error=ENOBUFS:when=${at}`);
      const injected = (await node.sh(`cat ${LOG}`)).includes('INJECTED');
      if (!injected) {
        assert.is(exit, 0, said);
        break;
      }
      refused += 1;
      assert.is(json.code, 100, said);
      assert.match(json.msg, /errno 105/, said);
      assert.equal(await node.leftovers(), [], `at request ${at}`);
      assert.is(await leftInPod(), '', `at request ${at}`);
      assert.is(await pool(), before, `at request ${at}`);
    }
    assert.ok(refused >= 20, `${refused} requests were refused`);
    await del();
  });

  test(`${families}: DEL removes the remains of an ADD that was killed at any request, and so does the next ADD`, async () => {
    let killed = 0;
    for (let at = 1; at < 100; at += 1) {
      const { exit } = await call('ADD', `inject=sendto:signal=KILL:when=${at}`);
      if (exit === 0) break;
      killed += 1;
      await del();
    }
    assert.ok(killed >= 20, `killed at ${killed} requests`);
    await del();
  });

  test(`${families}: the next ADD of an address removes the remains of a killed ADD of that address`, async () => {
    const first = await call('ADD');
    assert.is(first.exit, 0, first.said);
    const address = first.json.ips[0].address.split('/')[0];
    await del();
    // Only that address is left in the pool, so the next ADD gets it.
    await node.sh(`mkdir -p /run/aside; cd /run/eniboot/pool
      for one in free/* cooling/*; do case $one in */${address},*) ;; *,*) mv $one /run/aside/;; esac; done
      nsenter --net=/run/netns/p nft add table ip eniboot
      nsenter --net=/run/netns/p nft add chain ip eniboot stale`);
    const number = address.split('.').reduce((sum: number, part: string) => sum * 256 + Number(part), 0);
    const host = `enb${number.toString(16).padStart(8, '0')}`;
    await node.sh(`ip link add ${host} type veth peer name stray
      ip rule add priority 1025 from ${address} fwmark 0x40/0x40 lookup ${number} protocol 140`);
    const again = await call('ADD', 'inject=setns:error=EINVAL:when=99');
    assert.is(again.exit, 0, again.said);
    assert.is(again.json.ips[0].address.split('/')[0], address);
    const tables = await node.sh('nsenter --net=/run/netns/p nft list ruleset');
    assert.match(tables, new RegExp(`snat to ${address} `));
    assert.not.match(tables, /stale/);
    await del();
  });

  test(`${families}: the simulated cloud ends`, () => cloud.stop());
}

test.run();
