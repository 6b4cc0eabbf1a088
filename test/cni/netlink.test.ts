// time limit: 600 s
// The netlink path of ADD and DEL against the real kernel, by an executable that makes a macvlan (variant.ts): the same
// objects as by `ip` and `nft`, and nothing left wherever it fails or is killed. strace makes a system call fail or
// kills the caller at it.
import { rmSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  attachmentOf,
  hostLines,
  podLines,
  podLines6,
  podRemovalLines,
  podTables,
  removalLines,
} from '../../agent/host/attachment.ts';
import { actsOf } from '../../agent/host/netlink/batch.ts';
import { transactionOf } from '../../agent/host/netlink/nft.ts';
import type { NodeFile } from '../../agent/host/node-file.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, conf, type PodNode, variablesOf } from './rig.ts';
import { buildMacvlanVariant } from './variant.ts';

const PATH = '/run/stand-in/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const LOG = '/run/strace.log';

let cloud: Cloud;
let node: PodNode;
let variant: { folder: string; executable: string };

test.before(() => {
  variant = buildMacvlanVariant();
});
test.after(() => rmSync(variant.folder, { recursive: true, force: true }));

/** One call of the variant, where asked with something done to its own system calls, not to its children's. */
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

/** A pod whose bandwidth is limited both ways. */
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

test('every text of a DEL is known', () => {
  for (const inet6 of [false, true]) {
    const known = (line: string) => actsOf([line], '', inet6) !== undefined;
    for (const line of [...removalLines('10.0.64.9'), ...podRemovalLines])
      assert.ok(known(line), `not known: ${line}`);
    assert.ok(known('link del group 5'));
    for (const line of ['route flush table main', 'route flush table main type throw proto 140'])
      assert.not.ok(known(line), line);
  }
});

test('every text that an ADD makes is known', () => {
  const base: NodeFile = {
    schema: 1,
    instanceId: 'i-1',
    nodeAddresses: ['10.0.1.5'],
    mtu: 9001,
    podRoutes: ['10.0.0.0/16', '100.64.0.0/16'],
    egressRoutes: [],
    allowImds: false,
    restMs: 0,
    lowWater: 0,
    podEnis: [],
  };
  const variants: Partial<NodeFile>[] = [
    {},
    { nodeAddresses: ['10.0.1.5', '10.0.1.6'] },
    { egressRoutes: ['10.0.7.0/24'], allowImds: true },
    { ipv6: { nodeAddresses: [], serviceCidrs: [] } },
    { ipv6: { nodeAddresses: ['2001:db8:1::5'], serviceCidrs: ['fd00:10:96::/108'] } },
  ];
  for (const facts of variants) {
    const eni = { mac: '02:00:00:00:00:01', subnetCidr: '10.0.64.0/20', ipv6Prefix: '2001:db8:1:2:3::/80' };
    const a = attachmentOf({ ...base, ...facts }, '10.0.64.9', eni, 'eth0');
    const known = (line: string, inet6 = false) =>
      assert.ok(actsOf([line], '/run/netns/p', inet6), `not known: ${line}`);
    for (const line of hostLines(a, '/run/netns/p', 'eth1', true)) known(line);
    for (const ours of [true, false]) for (const line of podLines(a, ours, true)) known(line);
    for (const line of podLines6(a)) known(line, true);
    const tables = podTables(a);
    assert.ok(transactionOf(tables, false), `not known: ${tables}`);
  }
  for (const line of [
    'link set dev eth0 down',
    'address flush dev eth0',
    'link add name x netns /run/netns/q type veth peer name y',
    'route replace 10.0.0.0/8 dev eth0 metric 5',
  ])
    assert.is(actsOf([line], '/run/netns/p'), undefined, line);
  assert.is(transactionOf('table bridge x {\n}\n', false), undefined);
  assert.is(transactionOf('table ip x {\n chain y {\n  queue\n }\n}\n', false), undefined);
});

/** All that stands in the kernel, with the pod's address and what is derived from it taken out. */
async function stateWith(address: string): Promise<string> {
  // A link's carrier is told a moment after it is there.
  const state = await node.sh(`until ip -n p link show veth0 | grep -q 'state UP'; do sleep 0.1; done
    for family in -4 -6; do ip $family route show table all; ip $family rule; done
    ip neigh show nud permanent; ip -d link show type veth
    ip -n p -d link; ip -n p addr; ip -n p neigh
    for family in -4 -6; do ip -n p $family route show table all; ip -n p $family rule; done
    nsenter --net=/run/netns/p nft list ruleset
    nsenter --net=/run/netns/p tc qdisc show
    nsenter --net=/run/netns/p sysctl -a 2>/dev/null | grep -E '^net.ipv[46]' | grep -vE 'stable_secret|random|cookie'`);
  const number = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  const hex = number.toString(16).padStart(8, '0');
  // An IPv6 address ends in the IPv4 one.
  const last = `${(Number(address.split('.')[2]) * 256 + Number(address.split('.')[3])).toString(16)}`;
  return state
    .replaceAll(address, 'ADDRESS')
    .replaceAll(new RegExp(`(2001:db8:[0-9a-f:]*:a00:)${last}\\b`, 'g'), '$1LAST')
    .replaceAll(`${number}`, 'NUMBER')
    .replaceAll(hex, 'HEX')
    .replaceAll((hex.match(/../g) ?? []).join(':'), 'HEX')
    .replaceAll(
      /@(if\d+|[\w-]+)|^\d+: |link-netns\S* \S+|(valid|preferred)_lft \S+|expires \S+|linkdown/gm,
      '',
    )
    .replaceAll(/link\/ether \S+ brd|(?<=qdisc tbf )\S+|packets \d+ bytes \d+/g, '');
}

/** The start of another address. */
const OTHERS: Record<string, string> = { '10.0.': '10.9.', '100::': '101::', '2001:db8:': '2001:db9:' };

/** Ways to break what an ADD has made, and back: each of its objects away, and each changed a little. */
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
      // Over IPv6 the node's rules are the boot's, one for all pods.
      const rules = where === '' && family === '-6' ? [] : await lines(`${ip} rule show | grep '^102[45]:'`);
      for (const line of rules) {
        const rule = `priority ${line.replace(':', '').replace('from all', '')}`;
        const [without, device] = [rule.replace(/ lookup.*/, ''), where === '' ? 'ens5' : 'eth0'];
        const mend = `${ip} rule add ${rule.includes('proto') ? rule : `${rule} protocol 140`}`;
        found.push({ break: `${ip} rule del ${rule}`, mend });
        // Another table, and one condition more.
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
  // With a link's MAC go its neighbours.
  const neighbours = found
    .map(({ mend }) => mend)
    .filter((one) => /^ip\s+-[46] neigh replace .* enb/.test(one));
  const host = 'ip link set dev $(ls /sys/class/net | grep ^enb) address';
  found.push({
    break: `${host} 02:00:00:00:00:99`,
    mend: [`${host} ${mac}`, ...neighbours].join('; '),
  });
  // Each chain without one of its rules, with one more, with one changed, with another hook, policy or priority.
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
      // nft leaves out what the frame's type says already.
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

  test(`${families}: netlink and the programs leave the same in the kernel`, async () => {
    const direct = await call('ADD', 'inject=setns:error=EINVAL:when=99', undefined, undefined, limited);
    assert.is(direct.exit, 0, direct.said);
    const log = await node.sh(`cat ${LOG}`);
    assert.is(log.split('\n').filter((line) => line.startsWith('setns(')).length, 2, log);
    const one = await stateWith(direct.json.ips[0].address.split('/')[0]);
    await del();
    // Where it cannot enter the pod's namespace, the programs are asked.
    const indirect = await call('ADD', 'inject=setns:error=EPERM', undefined, undefined, limited);
    assert.is(indirect.exit, 0, indirect.said);
    assert.not.match(await node.sh(`cat ${LOG}`), /sendto/);
    const two = await stateWith(indirect.json.ips[0].address.split('/')[0]);
    await del();
    assert.match(one, /snat to ADDRESS fully-random/);
    assert.match(one, /from ADDRESS fwmark/);
    assert.match(one, /limit rate over 5000000 bytes\/second burst 128 kbytes drop/);
    assert.match(one, /qdisc tbf .* dev eth0 root .* rate 20Mbit/);
    // The boot ENI's link-local address comes when it comes.
    const lines = (state: string) => state.split('\n').filter((line) => !/fe80::.* dev ens5 /.test(line));
    assert.equal(
      lines(one).filter((line) => !lines(two).includes(line)),
      lines(two).filter((line) => !lines(one).includes(line)),
    );
  });

  test(`${families}: CHECK needs no program where all is as it should be, and finds what is not`, async () => {
    const added = await call('ADD', undefined, undefined, undefined, limited);
    assert.is(added.exit, 0, added.said);
    const whole = async (after: string) => {
      const { exit, said } = await call('CHECK', undefined, '/nowhere', added.json);
      assert.is(exit, 0, `${after}: ${said}`);
    };
    await whole('ADD');
    const ways = await changes();
    assert.ok(ways.length >= (families === 'ipv4' ? 60 : 100), `${ways.length} ways`);
    for (const { break: breaks, mend } of ways) {
      await node.sh(breaks);
      const { json } = await call('CHECK', undefined, undefined, added.json);
      assert.is(json?.code, 102, `not seen: ${breaks}`);
      await node.sh(mend);
      await whole(`${breaks}; ${mend}`);
    }
    // Beside ours there may be more.
    await node.sh(`ip -n p route add 10.9.0.0/16 dev eth0; ip -n p rule add priority 9 lookup main
      nsenter --net=/run/netns/p nft 'add table ip other { chain eniboot { type filter hook input priority 0; }; }'
      ip -n p address add 192.0.2.1/32 dev lo`);
    await whole('what others have added');
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

  test(`${families}: DEL takes what is ours and leaves what is not`, async () => {
    // Beside ours in both namespaces: routes of another protocol and table, a table of nftables, a rule.
    const theirs = `ip -n p link add other type veth peer name other2
      ip -n p route add unreachable 10.9.0.0/16 proto 141; ip -n p -6 route add unreachable fd09::/16 proto 141
      ip -n p rule add priority 1024 fwmark 0x1/0x1 lookup 77; ip -n p route add throw 10.8.0.0/16 table 140
      nsenter --net=/run/netns/p nft add table ip theirs
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
    // It needs no program at all.
    const removed = await call('DEL', undefined, '/nowhere');
    assert.is(removed.exit, 0, removed.said);
    assert.is(await look(), before);
    await node.sh(`ip -n p link del other; ip -n p route del unreachable 10.9.0.0/16 proto 141
      ip -n p -6 route del unreachable fd09::/16 proto 141; ip -n p rule del priority 1024 fwmark 0x1/0x1
      ip -n p route flush table 140; nsenter --net=/run/netns/p nft delete table ip theirs
      ip route flush table 167772161; ip rule del priority 1024 lookup 77`);
  });

  test(`${families}: a DEL refused or killed at any request is finished by the next`, async () => {
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
    // A namespace that is gone, and a path that leads to something else.
    for (const end of ['ip netns del p', 'ip netns del p; mkdir -p /run/netns; touch /run/netns/p']) {
      assert.is((await call('ADD')).exit, 0);
      await node.sh(end);
      const { exit, said } = await call('DEL', undefined, '/nowhere');
      assert.is(exit, 0, said);
      assert.equal(await node.leftovers(), []);
      await node.sh('rm -f /run/netns/p; ip netns add p');
    }
  });

  test(`${families}: a request refused at any point of an ADD leaves nothing`, async () => {
    const before = await pool();
    let refused = 0;
    for (let at = 1; at < 100; at += 1) {
      const { exit, json, said } = await call('ADD', `inject=sendto:error=ENOBUFS:when=${at}`);
      const injected = (await node.sh(`cat ${LOG}`)).includes('INJECTED');
      if (!injected) {
        assert.is(exit, 0, said);
        break;
      }
      if (exit === 0) {
        // Nothing had been changed, so the programs did it.
        assert.ok(at <= 2, said);
        await del();
        continue;
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

  test(`${families}: an ADD killed at any request is cleared away by DEL, and by the next ADD`, async () => {
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

  test(`${families}: what a killed ADD left under its address is cleared away by the next ADD of that address`, async () => {
    const first = await call('ADD');
    assert.is(first.exit, 0, first.said);
    const address = first.json.ips[0].address.split('/')[0];
    await del();
    // Only that address is left, so it comes again.
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

  test(`${families}: its cloud ends`, () => cloud.stop());
}

test.run();
