// Carries the attempts out on a ground of two nodes, first with the guard, then without it, and judges what was seen.
import { gzipSync } from 'node:zlib';
import { table } from '../../agent/cli/table.ts';
import { type ProxyMode, proxyOff, proxyOn, type Service } from '../pods/proxy.ts';
import type { Attacker, Attempt, Field, Place, Sign, Stage } from './attempt.ts';
import { attempts } from './attempts/all.ts';
import { linkLocalServices } from './attempts/ordinary.ts';

/** Who runs shell scripts: the nodes, and this namespace, which is the VPC. */
export type Host = 'one' | 'two' | 'vpc';

export interface Ground {
  /** Whether pods have a real ipvlan. */
  ipvlan: boolean;
  /** What the node can be made to be. */
  stages: readonly Stage[];
  /** How long an attacker waits for an answer, seconds. */
  wait: number;
  /** Path of attacker.py there. */
  program: Record<Host, string>;
  /** The VPC's device of node one's first pod ENI. */
  eniPort: string;
  internetPid: number;
  /** Everybody's addresses now. */
  field(): Promise<Field>;
  /** As root; anything but exit code 0 is thrown with its words. */
  sh(host: Host, script: string): Promise<string>;
  /** Puts another pod in the place of `d`, which attackers have spoilt. */
  renew(): Promise<void>;
}

export interface Row {
  attempt: string;
  attacker: string;
  family: string;
  expected: string;
  /** What holds it where the guard is not needed, or why it stays open. */
  because: string;
  seen: string;
  withoutGuard: string;
  ok: boolean;
}

export interface Outcome {
  rows: Row[];
  /** Chains that were taken away for the second half; none where eniboot has no guard. */
  guard: string[];
  /** CapEff of each kind of attacker. */
  capabilities: Record<string, string>;
}

const pods = ['a', 'b', 'c', 'd'] as const;
const FOLDER = '/run/hostile';
const REPAIR = '/usr/libexec/eniboot/current/eniboot repair';
const RUNTIME_CAPABILITIES = [
  ...['chown', 'dac_override', 'fsetid', 'fowner', 'mknod', 'net_raw', 'setgid', 'setuid', 'setfcap'],
  ...['setpcap', 'net_bind_service', 'sys_chroot', 'kill', 'audit_write'],
];

/** CapEff of each kind, capabilities(7). */
const CAPABILITIES: Record<Attacker, string> = {
  process: '0000000000000000',
  // containerd, pkg/oci/spec_opts: defaultUnixCaps.
  net_raw: '00000000a80425fb',
  net_admin: '00000000a80435fb',
};

export async function playHostile(ground: Ground, say: (line: string) => void): Promise<Outcome> {
  try {
    return await play(ground, say);
  } finally {
    // Those on nodes end with their node.
    await ground.sh('vpc', `xargs -r kill <${FOLDER}/pids; rm -r ${FOLDER}`);
  }
}

async function play(ground: Ground, say: (line: string) => void): Promise<Outcome> {
  const ipv6 = (await ground.field()).a.ip6 !== undefined;
  await prepare(ground, ipv6);
  const halves: Half[] = [];
  let guard: string[] = [];
  for (const at of [0, 1]) {
    if (at === 1) {
      await ground.renew();
      await watch(ground, 'd', []);
      guard = await takeGuardAway(ground);
      say(guard.length === 0 ? 'there is no guard to take away' : `guard taken away: ${guard.join(', ')}`);
    }
    const field = await ground.field();
    const list = attempts(field)
      .filter((one) => (ground.ipvlan || one.ipvlan !== true) && ground.stages.includes(one.stage ?? 'plain'))
      .map((one, index) => ({ ...one, n: 1 + index + at * 5000 }));
    halves.push(await half(ground, field, list));
    say(`${list.length} attempts ${at === 0 ? 'as the node is' : 'without guard'}`);
  }
  const [guarded, open] = halves;
  if (guarded === undefined || open === undefined) throw new Error('two halves were asked for');
  const rows = guarded.seen.map((one, at) => judged(one, open.seen[at] ?? one));
  return { rows, guard, capabilities: { ...guarded.capabilities, ...open.capabilities } };
}

/** What is not as it has to be; empty when all is well. */
export function problemsOf({ rows, capabilities }: Outcome): string[] {
  const wrong = rows.filter(({ ok }) => !ok);
  const powers = Object.entries(CAPABILITIES).filter(([kind, mask]) => capabilities[kind] !== mask);
  return [
    ...powers.map(([kind, mask]) => `attacker ${kind} has capabilities ${capabilities[kind]}, not ${mask}`),
    ...(wrong.length === 0 ? [] : [`${wrong.length} of ${rows.length} attempts:\n${hostileTable(wrong)}`]),
  ];
}

export function hostileTable(rows: readonly Row[]): string {
  const head = ['', 'attempt', 'attacker', 'family', 'expected', 'seen', 'without the guard', 'because'];
  return table([
    head,
    ...rows.map((row) => [
      row.ok ? 'ok' : 'NOT',
      row.attempt,
      row.attacker,
      row.family,
      row.expected,
      row.seen,
      row.withoutGuard,
      row.because,
    ]),
  ]).trimEnd();
}

interface Seen {
  attempt: Attempt;
  through: boolean;
  mended: boolean;
  evidence: string;
}

function judged(guarded: Seen, open: Seen): Row {
  const { attempt } = guarded;
  const refused = attempt.expected === 'refused';
  return {
    attempt: attempt.what,
    attacker: attempt.as,
    family: `IPv${attempt.family}`,
    expected: attempt.expected,
    because: attempt.held ?? attempt.why ?? (refused ? 'the guard' : ''),
    seen: guarded.evidence,
    withoutGuard: open.evidence,
    ok:
      guarded.through !== refused &&
      open.through !== (refused && attempt.held !== undefined) &&
      (attempt.expected !== 'mended' || guarded.mended),
  };
}

// ---- one half

type Numbered = Attempt & { n: number };

interface Half {
  seen: Seen[];
  capabilities: Record<string, string>;
}

interface Witnessed {
  n: number;
  how: 'heard' | 'frame' | 'left' | 'neighbour' | 'up';
  sender?: string;
  device?: string;
  src?: string;
  dst?: string;
  entry?: string;
}

async function half(ground: Ground, field: Field, list: Numbered[]): Promise<Half> {
  const answers = new Map<number, Answer>();
  const capabilities: Record<string, string> = {};
  for (const stage of ground.stages) {
    const now = list.filter((one) => (one.stage ?? 'plain') === stage);
    await ground.sh('one', stageOn(stage, field, 'one'));
    if (isProxy(stage)) await ground.sh('two', stageOn(stage, field, 'two'));
    try {
      for (const batch of batches(now)) {
        const [first] = batch;
        const change = first?.signs.find((sign) => typeof sign !== 'string' && 'changed' in sign);
        const look = typeof change === 'object' && 'changed' in change ? change.script : undefined;
        const before = look === undefined ? '' : await ground.sh('one', look);
        for (const line of await carryOut(ground, batch))
          if ('capabilities' in line) {
            if (isPod(first?.from ?? 'a')) capabilities[first?.as ?? ''] = line.capabilities;
          } else answers.set(line.n, line);
        if (first === undefined || look === undefined) continue;
        const after = await ground.sh('one', look);
        const changed = after === before ? '' : `${lineOf(before)} became ${lineOf(after)}`;
        const answer: Answer = { said: '', ...answers.get(first.n), answer: changed };
        answers.set(first.n, answer);
        if (first.expected === 'mended') {
          await ground.sh('one', `${REPAIR} >/dev/null || :`);
          answer.mended = (await ground.sh('one', look)) === before;
        }
        if (first.undo !== undefined) await ground.sh('one', first.undo);
      }
    } finally {
      await ground.sh('one', stageOff(stage));
      if (isProxy(stage)) await ground.sh('two', stageOff(stage));
    }
  }
  const witnessed = new Map<Place, Witnessed[]>();
  for (const place of [...pods, 'far', 'one', 'two', 'vpc', 'internet'] as const)
    witnessed.set(place, parse(await ground.sh(hostOf(place), `cat ${fileOf(place)}`)));
  const seen = list.map((attempt): Seen => {
    const { answer = '', said = '', mended = false } = answers.get(attempt.n) ?? {};
    const evidence = attempt.signs.flatMap((sign) => evidenceOf(sign, attempt.n, answer, witnessed));
    const nothing = said === '' ? 'nothing' : `nothing (${said.slice(0, 70)})`;
    return {
      attempt,
      through: evidence.length > 0,
      evidence: `${evidence.length > 0 ? evidence.join('; ') : nothing}${mended ? '; repair put it back' : ''}`,
      mended,
    };
  });
  return { seen, capabilities };
}

function evidenceOf(sign: Sign, n: number, answer: string, witnessed: Map<Place, Witnessed[]>): string[] {
  if (sign === 'answer' || 'changed' in sign) return answer === '' ? [] : [answer];
  const place = 'heard' in sign ? sign.heard : 'frame' in sign ? sign.frame : sign.neighbour;
  const notes = (witnessed.get(place) ?? []).filter((note) => note.n === n);
  if ('heard' in sign) {
    const found = notes.find(
      ({ how, sender }) => how === 'heard' && sign.not?.includes(sender ?? '') !== true,
    );
    return found === undefined ? [] : [`${place} heard ${found.sender}`];
  }
  if ('neighbour' in sign) {
    const found = notes.find(({ how }) => how === 'neighbour');
    return found === undefined ? [] : [`${place} has ${found.entry?.split(' ').slice(0, 5).join(' ')}`];
  }
  const found = notes.find(
    ({ how, src, dst, device = '' }) =>
      how === 'frame' &&
      (sign.to === undefined || dst === sign.to) &&
      sign.not?.includes(src ?? '') !== true &&
      // Bridges and what lies behind them show the same frame again.
      (place !== 'vpc' || !/^(sub|igw|lo)/.test(device)),
  );
  if (found === undefined) return [];
  return [
    `${place === 'vpc' ? 'left the node' : `a frame at ${place}`}${found.src === undefined ? '' : ` as ${found.src}`}`,
  ];
}

function parse(text: string): Witnessed[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Witnessed);
}

interface Answer {
  answer: string;
  said: string;
  mended?: boolean;
}

function lineOf(text: string): string {
  return text.trim().replaceAll(/\s+/g, ' ') || 'nothing';
}

/**
 * One run of the attacker for each place and kind. What poisons neighbours comes after what it would disturb, and what is
 * seen by a change on the node is alone.
 */
function batches(list: Numbered[]): Numbered[][] {
  const found = new Map<string, Numbered[]>();
  for (const one of list) {
    const kinds = one.signs.map((sign) => (typeof sign === 'string' ? sign : Object.keys(sign)[0]));
    const turn = kinds.includes('neighbour') ? 'last' : kinds.includes('changed') ? `alone ${one.n}` : '';
    const key = `${turn} ${one.from ?? 'a'} ${one.as}`;
    found.set(key, [...(found.get(key) ?? []), one]);
  }
  const turns = [...found].sort(([a], [b]) => turnOf(a) - turnOf(b));
  return turns.map(([, batch]) => batch);
}

function turnOf(key: string): number {
  return key.startsWith(' ') ? 0 : key.startsWith('alone') ? 1 : 2;
}

/** What was poisoned must not decide about what comes next. */
const forget = `for pod in ${pods.join(' ')}; do for way in -4 -6; do ip $way -n $pod neigh flush dev eth0 2>/dev/null || :; done; done
    for link in /sys/class/net/enb*; do ip neigh flush dev \${link##*/}; done`;

type Line = { n: number; answer: string; said: string } | { capabilities: string };

async function carryOut(ground: Ground, batch: Numbered[]): Promise<Line[]> {
  const [{ as = 'process', from = 'a' } = {}] = batch;
  const host = hostOf(from);
  const text = JSON.stringify(
    {
      wait: ground.wait,
      attempts: batch.map(({ n, before, after, operation }) => ({
        n,
        ...(before === undefined ? {} : { before }),
        ...(after === undefined ? {} : { after }),
        ...operation(`hostile#${String(n).padStart(4, '0')}`, n),
      })),
    },
    (_, value) => (isBuffer(value) ? Buffer.from(value.data).toString('hex') : value),
  ).replaceAll('"dev":"ENI"', `"dev":"${ground.eniPort}"`);
  const packed = gzipSync(text).toString('base64');
  const drop = isPod(from) ? `${dropping(as)} ` : '';
  const said = await ground.sh(
    host,
    `base64 -d <<'EOF' | gunzip >${FOLDER}/batch\n${packed}\nEOF
    ${within(from)} ${drop}python3 ${ground.program[host]} attack <${FOLDER}/batch; sleep 0.5
    ${host === 'one' ? forget : ''}`,
  );
  return said
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);
}

function isBuffer(value: unknown): value is { data: number[] } {
  return typeof value === 'object' && value !== null && (value as { type?: string }).type === 'Buffer';
}

/** Where user 65534 does not exist (a user namespace of one user), root without any capability is as powerless here. */
function dropping(as: Attacker): string {
  if (as === 'process')
    return '$(setpriv --reuid 65534 true 2>/dev/null && echo setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs || echo setpriv --inh-caps=-all --bounding-set=-all --no-new-privs)';
  const kept = [...RUNTIME_CAPABILITIES, ...(as === 'net_admin' ? ['net_admin'] : [])];
  return `setpriv --inh-caps=-all --bounding-set=-all,${kept.map((name) => `+${name}`).join(',')}`;
}

// ---- the field

function isPod(place: Place): boolean {
  return !['one', 'two', 'vpc', 'internet'].includes(place);
}

function hostOf(place: Place): Host {
  if (place === 'vpc' || place === 'internet') return 'vpc';
  return place === 'far' || place === 'two' ? 'two' : 'one';
}

function within(place: Place, internetPid = 0): string {
  if (place === 'internet') return `nsenter --net=/proc/${internetPid}/ns/net`;
  return isPod(place) ? `ip netns exec ${place}` : '';
}

function fileOf(place: Place): string {
  return `${FOLDER}/${place}`;
}

async function prepare(ground: Ground, ipv6: boolean): Promise<void> {
  const field = await ground.field();
  const { local, far, internet } = field;
  const families = ipv6 ? (['ip4', 'ip6'] as const) : (['ip4'] as const);
  for (const host of ['one', 'two', 'vpc'] as const)
    await ground.sh(host, `rm -rf ${FOLDER}; mkdir -p ${FOLDER}`);
  await ground.sh(
    'one',
    families.map((key) => `ip address replace ${local[key]}/${key === 'ip4' ? 32 : 128} dev lo`).join('\n'),
  );
  const services = linkLocalServices(ipv6);
  const addresses = [...new Set(services.map(([address]) => address))];
  const narrow = families.map(
    (key) => `device=$(ip -o route get ${far[key]} | sed 's/.* dev \\([^ ]*\\).*/\\1/')
    way=$(ip -o route get ${far[key]} | sed -n 's/.* \\(via [^ ]*\\) .*/\\1/p')
    ip route replace ${far[key]} $way dev $device mtu lock 1300`,
  );
  await ground.sh(
    'vpc',
    `${addresses.map((one) => `ip address replace ${one}/${one.includes(':') ? '128 nodad' : 32} dev lo`).join('\n')}
    ${narrow.join('\n')}
    ip route replace ${internet.ip4} dev igw0 mtu lock 1300
    # Who complains about a packet that is too big for it is a router in the Internet, not the subnet's.
    device=$(ip -o route get ${field.one.ip4} | sed 's/.* dev \\([^ ]*\\).*/\\1/')
    ip route replace ${field.one.ip4} dev $device src 203.0.113.1
    setsid python3 ${ground.program.vpc} answer ${services.flat().join(' ')} >${FOLDER}/answers 2>&1 &
    echo $! >>${FOLDER}/pids
    ${until(`grep -q up ${FOLDER}/answers`, `${FOLDER}/answers`)}`,
  );
  const peersOf = (place: Place): (string | undefined)[] => {
    if (place === 'one') return [field.c.ip4, field.c.ip6];
    return place === 'far' ? [field.b.ip4] : [];
  };
  for (const place of [...pods, 'far', 'one', 'two', 'vpc', 'internet'] as const)
    await watch(
      ground,
      place,
      peersOf(place).filter((peer) => peer !== undefined),
    );
}

async function watch(ground: Ground, place: Place, peers: string[]): Promise<void> {
  const host = hostOf(place);
  const file = fileOf(place);
  await ground.sh(
    host,
    `: >>${file}
    setsid ${within(place, ground.internetPid)} python3 ${ground.program[host]} watch ${file} ${peers.join(' ')} >${file}.log 2>&1 &
    echo $! >>${FOLDER}/pids
    ${until(`grep -q '"up"' ${file}`, `${file}.log`)}`,
  );
}

/** Shell lines that wait for a condition, up to a minute, and then show a log. */
function until(condition: string, log: string): string {
  return `i=0; until ${condition}; do
      i=$((i + 1)); [ $i -lt 300 ] || { cat ${log} >&2; exit 1; }; sleep 0.2; done`;
}

/**
 * Takes away whatever holds pods beside what eniboot has had for long: tables of family netdev, on the nodes and in pods,
 * and the rules of all other chains. Resolves to the names of what went.
 */
async function takeGuardAway(ground: Ground): Promise<string[]> {
  const kept = [
    ...['postrouting', 'egress', 'keep_port', 'marks', 'services', 'clamp', 'imds_guard', 'no_service'],
    ...['prerouting', 'output', 'prerouting6', 'output6', 'postrouting6', 'arriving'],
  ];
  const script = (names: readonly string[]) => `
    for pod in - ${names.join(' ')}; do
      run=''; [ $pod = - ] || run="ip netns exec $pod"
      $run nft list tables | while read -r _ family name; do
        case $family-$name in
        netdev-eniboot*)
          $run nft delete table netdev "$name"; echo "$pod netdev $name" ;;
        *-eniboot*)
          $run nft list table "$family" "$name" | sed -n 's/^\tchain \\([^ ]*\\) {$/\\1/p' | while read -r chain; do
            case ' ${kept.join(' ')} ' in
            *" $chain "*) ;;
            *) $run nft flush chain "$family" "$name" "$chain"; echo "$pod $family $name $chain" ;;
            esac
          done ;;
        esac
      done
    done`;
  const said = [await ground.sh('one', script(pods)), await ground.sh('two', script(['far']))];
  return said
    .join('')
    .split('\n')
    .filter((line) => line !== '');
}

function isProxy(stage: Stage): stage is ProxyMode {
  return stage !== 'plain' && stage !== 'loose';
}

const FILTERS = `${FOLDER}/filters`;

function stageOn(stage: Stage, field: Field, node: 'one' | 'two'): string {
  if (stage === 'plain') return '';
  if (stage === 'loose')
    return `cd /proc/sys/net/ipv4/conf; grep . */rp_filter >${FILTERS}; for one in */rp_filter; do echo 0 >$one; done`;
  const { services6 } = field;
  const proxy = proxyOn(stage, field[node].ip4, servicesOf(field, node));
  if (field.a.ip6 === undefined || node === 'two' || stage === 'iptables') return proxy;
  const backends = { [services6.far]: `[${field.far.ip6}]:7777`, [services6.imds]: `[${field.imds.ip6}]:80` };
  const of6 = Object.entries(backends);
  if (stage === 'nftables') {
    const rules = of6.map(
      ([virtual, backend]) =>
        `ip6 daddr ${virtual} meta l4proto { tcp, udp } th dport 80 dnat to ${backend};`,
    );
    return `${proxy}\nnft 'table ip6 proxy6 { chain prerouting { type nat hook prerouting priority dstnat; ${rules.join(' ')} }; }'`;
  }
  // IPVS needs a route before a packet's mark is known (test/pods/dual-stack.ts).
  return [
    proxy,
    'ip link set kube-ipvs0 up',
    `ip -6 route add default via fe80::1 dev "$(ip -o route show default | sed 's/.* dev \\([^ ]*\\).*/\\1/')" metric 9999`,
    ...of6.flatMap(([virtual, backend]) => [
      `ip -6 address add ${virtual}/128 dev kube-ipvs0 nodad`,
      `ipvsadm -A -t [${virtual}]:80 -s rr`,
      `ipvsadm -a -t [${virtual}]:80 -r ${backend} -m -w 1`,
    ]),
  ].join('\n');
}

function stageOff(stage: Stage): string {
  if (stage === 'plain') return '';
  if (stage === 'loose')
    return `cd /proc/sys/net/ipv4/conf; while IFS=: read -r file value; do [ ! -e $file ] || echo $value >$file; done <${FILTERS}`;
  return `${proxyOff(stage)} || :
    nft delete table ip6 proxy6 2>/dev/null || :
    ip -6 route del default via fe80::1 metric 9999 2>/dev/null || :`;
}

function servicesOf(field: Field, node: 'one' | 'two'): Service[] {
  const service = (
    name: string,
    clusterIp: string,
    address: string,
    more: Partial<Service> = {},
  ): Service => ({
    name,
    protocol: 'tcp',
    clusterIp,
    port: 80,
    endpoint: { address, port: 7777, here: node === 'one' && address !== field.far.ip4 },
    ...more,
  });
  const { services, imds, b, c, far } = field;
  return [
    service('here', services.b, b.ip4, { nodePort: 30013, ...(node === 'one' ? { local: true } : {}) }),
    service('other-eni', services.c, c.ip4),
    service('elsewhere', services.far, far.ip4, { nodePort: 30010 }),
    service('metadata', services.imds, imds.ip4, {
      nodePort: 30099,
      endpoint: { address: imds.ip4, port: 80, here: false },
    }),
  ];
}
