// What other programs have put into the way of pods' packets: firewalls, VPNs, agents of other networks. `kinds` has an
// entry for each kind of obstacle. The data is collected once; each obstacle names the object, what it does to which
// packets, and what to do about it. Reads only. What cannot be judged from here (a BPF program) is reported as such,
// and `check --probe` sends packets.
import { isFailure } from '../../messages/failure.ts';
import { run } from '../../port/exec.ts';
import { type ExecResult, endingOf, succeeded } from '../../port/exec-result.ts';
import { linkIfPresent, listIfPresent, readIfPresent } from '../../port/fs.ts';
import { must } from '../command.ts';
import { listIp } from '../ip-json.ts';
import { BOOT_ENI_MARK, POD_LINK_PREFIX, ROUTE_PROTOCOL } from '../names.ts';
import { readSysctl } from '../sysctl.ts';
import { type Blocked, judge } from './judge.ts';
import { journeysOf, SOMEWHERE, type Terrain, type Way } from './packet.ts';
import {
  covers,
  decide,
  isForeignRule,
  type Question,
  routeText,
  ruleText,
  type Tables,
  type Told,
  tableOf,
} from './routing.ts';
import { type Chain, chainsOfSave, type Ruleset, rulesetOf, untoldTables, withChains } from './ruleset.ts';

export type ObstacleKind = 'firewall' | 'routing' | 'hidden-vpc' | 'tc' | 'enslaved' | 'forwarding';

export interface Obstacle {
  kind: ObstacleKind;
  /** The object, by the names that its owner uses. */
  what: string;
  /** What the object does to which packets. */
  does: string;
  remedy: string;
  /** The ways of pods that it affects; empty when it affects only the node's own packets. */
  ways: Way[];
  /** false: rules with unknown matches may let the packets pass. */
  certain: boolean;
}

/** The pods and networks whose ways are looked at. */
export interface Place {
  /** One pod for each pod ENI; an address without a pod stands for future pods. */
  terrains: (Terrain & { /** The pod's link exists. */ lives: boolean })[];
  /** All CIDR blocks of the VPC. */
  vpcCidrs: readonly string[];
}

export interface Found {
  obstacles: Obstacle[];
  /** What could not be judged, each with the reason. */
  unjudged: string[];
}

interface Filter {
  device: string;
  hook: 'ingress' | 'egress';
  told: Told;
}

interface Seen {
  place: Place;
  ruleset: Ruleset;
  tables: Tables;
  tables6: Tables | undefined;
  qdiscs: Told[];
  filters: Filter[];
}

/** The function that looks for each kind of obstacle. */
const kinds: Record<ObstacleKind, (seen: Seen) => Obstacle[]> = {
  firewall: firewalls,
  routing,
  'hidden-vpc': hiddenVpc,
  tc: trafficControl,
  enslaved,
  forwarding,
};

/** @throws TOOL_MISSING without nft or ip, KERNEL_QUERY, NFT_FAILED */
export async function lookForObstacles(place: Place): Promise<Found> {
  const unjudged: string[] = [];
  const ipv6 = place.terrains.some((terrain) => terrain.pod.address6 !== undefined);
  const [ruleset, tables, tables6, { qdiscs, filters }] = await Promise.all([
    readRuleset(ipv6, unjudged),
    readTables(4),
    ipv6 ? readTables(6) : undefined,
    readFilters(devicesOf(place), unjudged),
  ]);
  const seen = { place, ruleset, tables, tables6, qdiscs, filters };
  const obstacles = Object.values(kinds).flatMap((look) => look(seen));
  return { obstacles: merged(obstacles), unjudged };
}

/** The devices that pods' packets pass: the boot ENI's, the pod ENIs', the host ends of pods' links. */
function devicesOf({ terrains }: Place): { boot: string[]; enis: string[]; links: string[] } {
  return {
    boot: [...new Set(terrains.map((terrain) => terrain.bootDevice))],
    enis: [...new Set(terrains.flatMap(({ pod }) => pod.eniDevice ?? []))],
    links: listIfPresent('/sys/class/net').filter((name) => name.startsWith(POD_LINK_PREFIX)),
  };
}

/** Merges obstacles: an object that affects several pods or ways is one obstacle. */
function merged(obstacles: Obstacle[]): Obstacle[] {
  const found = new Map<string, Obstacle>();
  for (const one of obstacles) {
    const key = `${one.kind} ${one.what} ${one.certain} ${one.remedy}`;
    const before = found.get(key);
    if (before === undefined) found.set(key, one);
    else
      found.set(key, {
        ...before,
        does: before.does.split('; ').includes(one.does) ? before.does : `${before.does}; ${one.does}`,
        ways: [...new Set([...before.ways, ...one.ways])],
      });
  }
  return [...found.values()];
}

// firewall

function firewalls({ place, ruleset }: Seen): Obstacle[] {
  return place.terrains.flatMap((terrain) =>
    journeysOf(terrain, BOOT_ENI_MARK).flatMap((journey) => {
      const blocked = judge(ruleset, journey);
      if (blocked === undefined) return [];
      return {
        kind: 'firewall' as const,
        what: firewallText(blocked),
        does: journey.what,
        remedy: firewallRemedy(blocked, ruleset),
        ways: [journey.way],
        certain: blocked.certain,
      };
    }),
  );
}

function firewallText({ chain, by, rule, certain }: Blocked): string {
  const program = chain.by === 'nft' ? '' : ` (${chain.by})`;
  const where = `table ${chain.family} ${chain.table}, chain ${rule?.chain ?? chain.name}${program}`;
  const cause =
    by === 'policy'
      ? 'policy drop'
      : by === 'queue'
        ? `${rule?.text}, which queues for a program`
        : rule?.text;
  return `${where}: ${cause} ${certain ? 'drops' : 'may drop'}`;
}

/** The remedy in the words of the program that owns the table. The first entry that recognises the table answers. */
function firewallRemedy({ chain, rule }: Blocked, { chains }: Ruleset): string {
  const ofTable = (name: string) =>
    chains.some((one) => one.family === chain.family && one.table === chain.table && one.name === name);
  const links = `${POD_LINK_PREFIX}+`;
  const hook = chain.base?.hook;
  if (chain.table === 'firewalld')
    return `\`firewall-cmd --permanent --zone=trusted --add-interface=${links} && firewall-cmd --reload\` puts pods' links into the zone that lets all pass`;
  if (rule?.chain.startsWith('ts-') === true)
    return 'tailscale takes all of 100.64.0.0/10 for its own: give pods subnets outside it, or run tailscaled with `--netfilter-mode=off`';
  const program = chain.family === 'ip6' ? 'ip6tables' : 'iptables';
  const both = (name: string, table: string) => {
    const insert = `${program}${table} -I ${name}`;
    const ways = [
      ...(hook === 'output' || hook === 'postrouting' ? [] : [`-i ${links}`]),
      ...(hook === 'forward' || hook === 'output' || hook === 'postrouting' ? [`-o ${links}`] : []),
    ];
    return `\`${ways.map((way) => `${insert} ${way} -j ACCEPT`).join(' && ')}\``;
  };
  if (hook === 'forward' && ofTable('DOCKER-USER'))
    return `${both('DOCKER-USER', '')} lets pods' links pass before docker's rules, until docker sets them up again; for good, "ip-forward-no-drop": true in /etc/docker/daemon.json (docker 28) or net.ipv4.ip_forward=1 before docker starts`;
  if (/^[A-Z]+$/.test(chain.name))
    return `${both(chain.name, chain.table === 'filter' ? '' : ` -t ${chain.table}`)}, and the same where these rules come from`;
  const nft = `nft insert rule ${chain.family} ${chain.table} ${chain.name}`;
  if (chain.family === 'netdev' || hook === 'ingress' || hook === 'egress') {
    const device = chain.base?.devices.join(', ') ?? '';
    return `\`${nft} accept\` lets all pass on ${device}, where only eniboot should filter; and the same where these rules come from`;
  }
  const ways = [
    ...(hook === 'output' || hook === 'postrouting' ? [] : [`${nft} iifname "${POD_LINK_PREFIX}*" accept`]),
    ...(hook === 'prerouting' || hook === 'input' ? [] : [`${nft} oifname "${POD_LINK_PREFIX}*" accept`]),
  ];
  return `\`${ways.join('; ')}\`, and the same where these rules come from`;
}

/** @param unjudged gets an entry for what cannot be read. */
async function readRuleset(ipv6: boolean, unjudged: string[]): Promise<Ruleset> {
  const { stdout } = await must('NFT_FAILED', 'nft', ['-j', 'list', 'ruleset']);
  let ruleset = rulesetOf(stdout);
  // nft 1.0.6 leaves out the chain's devices.
  for (const { family, table, name, base } of ruleset.chains)
    if (family === 'netdev' && base?.devices.length === 0)
      unjudged.push(`chain ${name} of table netdev ${table}, whose device this nft does not tell`);
  for (const family of ipv6 ? (['ip', 'ip6'] as const) : (['ip'] as const)) {
    const untold = untoldTables(ruleset, family);
    if (untold.size > 0) {
      const told = await readSave(family, 'nft');
      // Without the output of iptables-save, the matches stay unknown, and no judgement that depends on them is called
      // certain.
      if (told !== undefined)
        ruleset = withChains(
          ruleset,
          told.filter((one) => untold.has(one.table)),
        );
    }
    if (!hasLegacyTables(family)) continue;
    const told = await readSave(family, 'legacy');
    if (told === undefined)
      unjudged.push(`the rules of iptables-legacy (${family}), which no program here can list`);
    else ruleset = withChains(ruleset, told);
  }
  return ruleset;
}

/** The kernel lists the tables of iptables-legacy; nft does not show them. */
function hasLegacyTables(family: 'ip' | 'ip6'): boolean {
  const names = readIfPresent(`/proc/net/${family}_tables_names`) ?? '';
  return names.trim() !== '';
}

/** Runs the program that is named after the kind, or the plain program when it says that it is of that kind. */
async function readSave(family: 'ip' | 'ip6', kind: 'nft' | 'legacy'): Promise<Chain[] | undefined> {
  for (const program of [`${family}tables-${kind}-save`, `${family}tables-save`]) {
    const { stdout, ...result } = await run(program, []);
    if (!succeeded({ stdout, ...result })) continue;
    const isNft = stdout.includes('(nf_tables)');
    if (isNft !== (kind === 'nft') && stdout !== '') continue;
    return chainsOfSave(stdout, family, kind === 'nft' ? 'nft' : 'iptables-legacy');
  }
  return undefined;
}

// routing

interface Lookup extends Question {
  what: string;
  ways: Way[];
  /** The device by which the packet should leave; `local` for the node itself. */
  wanted: string;
}

function lookup(
  what: string,
  ways: Way[],
  from: Pick<Lookup, 'source' | 'iif'>,
  destination: string,
  wanted: string,
  mark = 0,
): Lookup {
  return { what, ways, ...from, destination, wanted, mark };
}

function lookups({
  bootDevice,
  nodeAddresses,
  pod,
  elsewhere,
  lives,
  to,
}: Place['terrains'][number]): Lookup[] {
  const [node = ''] = nodeAddresses;
  const { address, link } = pod;
  const somewhere = to?.includes(':') === false ? to : SOMEWHERE;
  const [ofPod, ofNode] = [
    { source: address, iif: link },
    { source: node, iif: undefined },
  ];
  const replies = 'what pods answer to outside (NodePort, hostPort)';
  const out = [
    lookup('what pods send to the Internet', ['internet'], ofPod, somewhere, bootDevice),
    lookup(replies, ['outside'], ofPod, somewhere, bootDevice, BOOT_ENI_MARK),
    lookup('what pods send to the node', ['node'], ofPod, node, 'local'),
    lookup('what the node sends to the VPC (API server, other nodes)', [], ofNode, elsewhere, bootDevice),
  ];
  if (!lives) return out;
  const outside = { source: somewhere, iif: bootDevice };
  return [
    ...out,
    lookup('what pods send to Services', ['service'], ofPod, elsewhere, link),
    lookup('what comes from outside to pods', ['internet', 'outside'], outside, address, link),
    lookup("what the node sends to pods (kubelet's probes)", ['node'], ofNode, address, link),
  ];
}

function routing({ place, tables, tables6 }: Seen): Obstacle[] {
  const { boot, enis } = devicesOf(place);
  const ours = [...boot, ...enis];
  return place.terrains.flatMap((terrain) => {
    const { pod, nodeAddress6: source, lives } = terrain;
    const four = [...lookups(terrain), ...backends(terrain, tables, place.vpcCidrs)];
    const found = four.flatMap((one) => astray(tables, one, ours));
    if (tables6 === undefined || pod.address6 === undefined || source === undefined || !lives) return found;
    const what = "what the node sends to pods over IPv6 (kubelet's probes)";
    const six = lookup(what, ['node6'], { source, iif: undefined }, pod.address6, pod.link);
    return [...found, ...astray(tables6, six, ours)];
  });
}

/** The backends of Services for which another program's rule exists. */
function backends(
  { pod, lives, nodeAddresses }: Place['terrains'][number],
  { rules }: Tables,
  vpcCidrs: readonly string[],
): Lookup[] {
  if (!lives) return [];
  const named = rules.filter(isForeignRule).flatMap(({ dst }) => (typeof dst === 'string' ? dst : []));
  const inVpc = named.filter((address) => vpcCidrs.some((cidr) => covers(cidr, address)));
  const ofPod = { source: pod.address, iif: pod.link };
  return inVpc
    .filter((address) => !nodeAddresses.includes(address))
    .map((backend) =>
      lookup(
        `what pods send to Services with a backend at ${backend}`,
        ['service'],
        ofPod,
        backend,
        pod.link,
      ),
    );
}

/**
 * The rule or route that sends the packet elsewhere; empty when the packet goes where it should, or when an object of
 * eniboot is missing.
 */
function astray(tables: Tables, lookup: Lookup, ours: readonly string[]): Obstacle[] {
  const decision = decide(tables, lookup);
  if (decision === undefined) return [];
  const { rule, route, device } = decision;
  const isRight = lookup.wanted === 'local' ? route?.['type'] === 'local' : device === lookup.wanted;
  if (isRight || isOwn(rule)) return [];
  const isRule = isForeignRule(rule);
  // Other checks report missing routes of eniboot and of the boot ENI, and a pod ENI that another program configures.
  if (!isRule && (route === undefined || isOwn(route) || tableOf(route) === 'local')) return [];
  if (!isRule && ours.includes(device ?? '')) return [];
  const where = device === undefined ? 'is refused' : `leaves by ${device} instead of ${lookup.wanted}`;
  const found = route === undefined ? '' : ` finds \`${routeText(route)}\` in table ${tableOf(route)}:`;
  return [
    {
      kind: 'routing',
      what: isRule
        ? `policy rule \`${ruleText(rule)}\`${found}`
        : `route \`${routeText(route ?? {})}\` in table ${tableOf(route ?? {})}:`,
      does: `${lookup.what} ${where}`,
      remedy: isRule
        ? routingRemedy(rule)
        : 'have the program that made the route leave these destinations out; `ip route show table all` lists all routes',
      ways: lookup.ways,
      certain: true,
    },
  ];
}

function isOwn(told: Told): boolean {
  return String(told['protocol']) === String(ROUTE_PROTOCOL);
}

/** The remedy for a rule that looks like a known VPN's: wg-quick(8), and tailscale's table 52. */
function routingRemedy(rule: Told): string {
  if (rule['table'] === '52')
    return '`tailscale set --exit-node= --accept-routes=false`: no exit node, and no routes into the VPC';
  if ('not' in rule)
    return 'give wg-quick an AllowedIPs without 0.0.0.0/0, or `Table = off` and routes of your own for what belongs into the tunnel';
  return 'have the program that made the rule ask for its own sources, marks or destinations alone; `ip rule` lists all rules';
}

function hiddenVpc({ place: { terrains, vpcCidrs }, tables }: Seen): Obstacle[] {
  const own = new Set(terrains.flatMap(({ bootDevice, pod }) => [bootDevice, pod.eniDevice ?? '']));
  return tables.routes.flatMap((route) => {
    const [destination, device] = [String(route['dst']), route['dev']];
    const skipped =
      tableOf(route) !== 'main' || destination === 'default' || isOwn(route) || typeof device !== 'string';
    if (skipped || own.has(device) || destination.includes(':')) return [];
    const block = vpcCidrs.find((cidr) => covers(cidr, destination) || covers(destination, cidr));
    if (block === undefined) return [];
    return {
      kind: 'hidden-vpc' as const,
      what: `route \`${routeText(route)}\` in table main:`,
      does: `it hides addresses of the VPC (${block}) from the node`,
      remedy: `give that network other addresses than the VPC's (docker: "bip" and "default-address-pools" in /etc/docker/daemon.json)`,
      ways: [],
      certain: true,
    };
  });
}

// tc

async function readFilters(
  { boot, enis, links }: ReturnType<typeof devicesOf>,
  unjudged: string[],
): Promise<Pick<Seen, 'qdiscs' | 'filters'>> {
  const listed = await run('tc', ['-j', 'qdisc', 'show']);
  if (listed.missing) return { qdiscs: [], filters: [] };
  const all = toldBy(listed);
  if (all === undefined) unjudged.push(`filters of tc: ${endingOf(listed)}: ${listed.stderr.trim()}`);
  const devices = new Set([...boot, ...enis, ...links]);
  const qdiscs = (all ?? []).filter((one) => devices.has(String(one['dev'])));
  const hooks = qdiscs.flatMap(({ kind, dev }) => {
    const device = String(dev);
    if (kind === 'clsact') return (['ingress', 'egress'] as const).map((hook) => ({ device, hook }));
    return kind === 'ingress' ? [{ device, hook: 'ingress' as const }] : [];
  });
  const filters = await Promise.all(
    hooks.map(async ({ device, hook }) => {
      const told = toldBy(await run('tc', ['-j', 'filter', 'show', 'dev', device, hook])) ?? [];
      return told.map((one): Filter => ({ device, hook, told: one }));
    }),
  );
  const flat = filters.flat();
  for (const { device, hook, told } of flat)
    if (told['kind'] === 'bpf' && told['options'] !== undefined)
      unjudged.push(`BPF program ${nameOfProgram(told)} at ${hook} of ${device}`);
  return { qdiscs, filters: flat };
}

function toldBy(result: ExecResult): Told[] | undefined {
  if (!succeeded(result)) return undefined;
  try {
    return result.stdout.trim() === '' ? [] : (JSON.parse(result.stdout) as Told[]);
  } catch {
    return undefined;
  }
}

function nameOfProgram(told: Told): string {
  return String((told['options'] as Told)['bpf_name'] ?? 'without a name');
}

/**
 * Filters that drop or take away the packets that they match, and simulated disturbances (netem) that were left in
 * place after a test.
 */
function trafficControl({ place, qdiscs, filters }: Seen): Obstacle[] {
  const waysOf = (device: string): Way[] => {
    if (place.terrains.some((terrain) => terrain.bootDevice === device)) return ['internet', 'outside'];
    return device.startsWith(POD_LINK_PREFIX) ? ['node', 'service', 'internet', 'outside'] : ['vpc'];
  };
  const netem = qdiscs
    .filter(({ kind }) => kind === 'netem')
    .map(({ dev }) => ({
      what: `qdisc netem on ${dev}`,
      does: 'packets are delayed, lost or damaged on purpose',
      remedy: `\`tc qdisc del dev ${dev} root\`, when the experiment is over`,
      device: String(dev),
      certain: true,
    }));
  const taking = filters
    .filter(({ told }) => takes(told))
    .map(({ device, hook, told }) => ({
      what: `filter ${told['kind']} of tc at ${hook} of ${device}, preference ${told['pref']}:`,
      does: 'what it matches is dropped or sent elsewhere',
      remedy: `\`tc filter show dev ${device} ${hook}\` shows what it matches; \`tc filter del dev ${device} ${hook} pref ${told['pref']}\` removes it`,
      device,
      certain: false,
    }));
  return [...netem, ...taking].map(({ device, ...rest }) => ({
    kind: 'tc',
    ...rest,
    ways: waysOf(device),
  }));
}

function takes(told: Told): boolean {
  const { actions = [] } = (told['options'] ?? {}) as { actions?: Told[] };
  return actions.some((action) => {
    const { type } = (action['control_action'] ?? {}) as { type?: unknown };
    return type === 'drop' || action['mirred_action'] === 'redirect';
  });
}

// enslaved

function enslaved({ place }: Seen): Obstacle[] {
  const { boot, enis, links } = devicesOf(place);
  return [...boot, ...enis, ...links].flatMap((device) => {
    const master = linkIfPresent(`/sys/class/net/${device}/master`)?.split('/').at(-1);
    if (master === undefined) return [];
    const bridged =
      readSysctl('net/bridge/bridge-nf-call-iptables') === '1' &&
      listIfPresent(`/sys/class/net/${device}/brport`).length > 0
        ? ', which also asks the rules of iptables for what it forwards (net.bridge.bridge-nf-call-iptables)'
        : '';
    return {
      kind: 'enslaved' as const,
      what: `${device} belongs to ${master}${bridged}:`,
      does: 'its packets do not come to the node as they should',
      remedy: `\`ip link set ${device} nomaster\`, and have the program that put it there leave it alone`,
      ways: boot.includes(device)
        ? ['internet', 'outside']
        : enis.includes(device)
          ? ['vpc']
          : ['internet', 'node', 'outside', 'service'],
      certain: true,
    };
  });
}

// forwarding

/**
 * The setting is off for one device although the node forwards: packets that come in by the device are dropped. The
 * node's own setting has a check.
 */
function forwarding({ place }: Seen): Obstacle[] {
  if (readSysctl('net/ipv4/ip_forward') !== '1') return [];
  const { boot, links } = devicesOf(place);
  return [...boot, ...links]
    .filter((device) => readSysctl(`net/ipv4/conf/${device}/forwarding`) === '0')
    .map((device) => ({
      kind: 'forwarding',
      what: `setting net/ipv4/conf/${device}/forwarding = 0:`,
      does: `what comes in by ${device} is forwarded nowhere`,
      remedy: `\`sysctl -w net/ipv4/conf/${device}/forwarding=1\`, and remove the line from /etc/sysctl.d`,
      ways: boot.includes(device) ? ['internet', 'outside'] : ['internet', 'service', 'outside'],
      certain: true,
    }));
}

async function readTables(family: 4 | 6): Promise<Tables> {
  const [rules, routes] = await Promise.all([
    listIp(`-${family}`, 'rule', 'show'),
    listIp(`-${family}`, 'route', 'show', 'table', 'all').catch((error: unknown) => {
      // The kernel has no routing table of this family.
      if (isFailure(error, 'KERNEL_QUERY')) return [];
      throw error;
    }),
  ]);
  return { rules, routes };
}

/** An obstacle as a sentence. */
export function obstacleText({ what, does }: Obstacle): string {
  return `${what} ${does}`;
}
