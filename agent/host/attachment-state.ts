// Whether the objects of an attachment are there. The kernel itself is asked whether all of them are; only where one is
// not, programs look what there is instead: one look at the node, one into the pod, one at what nft makes of the pod's
// table. Reads only; for CHECK, which is synchronous, and for `eniboot trace`.
import { Failure } from '../messages/failure.ts';
import { type ExecOptions, endingOf, notRun, succeeded } from '../port/exec-result.ts';
import { runSync } from '../port/exec-sync.ts';
import { isNamespace } from '../port/netlink.ts';
import { type Attachment, POD_VETH, podTables } from './attachment.ts';
import { wholeByNetlink } from './attachment-effect.ts';
import { type Part, type PartOf, type Place, parts6Of, partsOf, type Side } from './attachment-parts.ts';
import { NFT_TABLE } from './names.ts';
import { IPVLAN_L2 } from './netlink/verify.ts';
import { canonical, objectsOf } from './nft-listing.ts';
import { LIMIT_CHAIN } from './pod-limits.ts';

export type PartState = Part & {
  state: 'present' | 'missing' | 'wrong';
  /** What is there instead, when the state is wrong. */
  found?: string;
};

type Shown = Record<string, unknown>;

/** What one side has. */
interface Sight {
  /** With their addresses. */
  links: Shown[];
  routes: Shown[];
  rules: Shown[];
  rules6: Shown[];
  neighbours: Shown[];
  settings: Map<string, string>;
  chains: Map<string, string>;
  qdiscs: Shown[];
}

/** Of a namespace that is gone. */
const NOTHING: Sight = {
  ...{ links: [], routes: [], rules: [], rules6: [], neighbours: [], qdiscs: [] },
  ...{ settings: new Map(), chains: new Map() },
};

/**
 * Every object of the attachment and whether it is in effect. More than these may be there. @throws KERNEL_QUERY when
 * a look did not come to its end, TOOL_MISSING when it had nothing to look with: what it has not seen is not missing.
 */
export function lookAtAttachment(a: Attachment, place: Place): PartState[] {
  const ipv6 = a.ipv6 !== undefined;
  const base = partsOf(a, place);
  const whole = wholeByNetlink(a, place, base);
  if (whole !== undefined)
    return [...base, ...(whole.ipv6 ? parts6Of(a, place) : [])].map((part) => ({ ...part, ...PRESENT }));
  const settings = base.flatMap((part) => (part.kind === 'setting' ? part.path : []));
  // A runtime may turn IPv6 off in the pod, before the ADD or after it.
  const off = `net/ipv6/conf/${a.ifName}/disable_ipv6`;
  if (ipv6) settings.push(off);
  const sights: Record<Side, Sight> = {
    node: look([], { settings: [], limits: false, chains: false }),
    pod: isNamespace(place.netns)
      ? look(['nsenter', `--net=${place.netns}`, '--'], {
          settings,
          limits: base.some(({ kind }) => kind === 'limit'),
          chains: true,
        })
      : NOTHING,
  };
  const parts = sights.pod.settings.get(off) === '1' ? base : [...base, ...parts6Of(a, place)];
  const listing = LISTINGS.filter((one) => ipv6 || !one.includes(' inet ')).join('; ');
  // A chain of family netdev needs its device.
  const device = `ip link add ${a.ifName} type veth peer name ${POD_VETH}`;
  const wantedChains = chainsOf(
    answerOf('unshare', ['--net', 'sh', '-c', `${device} && nft -f - && { ${listing}; }`], {
      input: podTables(a),
    }),
  );
  return parts.map((part) => ({ ...part, ...stateOf(part, sights, wantedChains) }));
}

/** A sentence for each object that is not as it should be; none for what hangs on a link that is not. */
export function differencesOf(parts: PartState[]): string[] {
  const lost = new Set(
    parts.flatMap((part) => (part.kind === 'link' && part.state !== 'present' ? part.name : [])),
  );
  return parts
    .filter((part) => part.state !== 'present' && !('device' in part && lost.has(part.device ?? '')))
    .map((part) => {
      const where = part.side === 'pod' ? "the pod's " : 'the ';
      const what = `${where}${nounOf(part)}`;
      return part.state === 'missing' ? `${what} is missing` : `${what} differs: ${part.found}`;
    });
}

function nounOf(part: Part): string {
  return part.kind === 'link' ? `link ${part.name}` : `${part.kind} ${part.text}`;
}

const LISTINGS = ['ip', 'inet', 'netdev'].map((family) => `nft -j list table ${family} ${NFT_TABLE}`);

/**
 * $1: whether there are limits to look for, $2: whether chains, then settings. Between two answers stands a line of
 * its own, since `ip` may print nothing. A setting read byte by byte, as the shell does, ends after the first.
 * A program that fails ends the look: what it did not show is not missing. Of settings and tables one that is not there
 * is an answer; ip -6 is asked only where the kernel has IPv6.
 */
const LOOK = `limits=$1 chains=$2
shift 2
next() { echo; echo "${'-'.repeat(8)}"; }
absent() {
  said=$("$@" 2>&1 >&3) && return
  printf '%s\\n' "$said" | while read -r line; do
    case $line in
      'grep: '*': No such file or directory' | 'Error: No such file or directory' | 'list table '* | '^'* | '') ;;
      *) exit 1 ;;
    esac
  done || { printf '%s\\n' "$said" >&2; exit 1; }
}
six() { [ ! -e /proc/sys/net/ipv6 ] || ip -j -6 "$@"; }
exec 3>&1
ip -j -d address show || exit; next
ip -j -4 route show table all || exit; echo; six route show table all || exit; next
ip -j -4 rule show || exit; next
six rule show || exit; next
ip -j neigh show nud permanent || exit; next
[ $# = 0 ] || { cd /proc/sys && absent grep -H '' -- "$@"; } || exit; next
[ "$chains" = false ] || { ${LISTINGS.map((one) => `absent ${one}`).join('; ')}; } || exit; next
[ "$limits" = false ] || tc -j qdisc show || exit`;

/** Six times what a program may take elsewhere: whatever fails here costs a pod its start. */
const LOOK_MS = 60_000;

function answerOf(file: string, args: string[], options: ExecOptions = {}): string {
  const result = runSync(file, args, { timeoutMs: LOOK_MS, ...options });
  const stderr = result.stderr.trim();
  if (succeeded(result)) return result.stdout;
  const tool = /(?:^|: )([\w-]+): (?:command )?not found$/m.exec(stderr)?.[1];
  if (tool !== undefined) throw new Failure('TOOL_MISSING', `${tool} is not installed`, { tool });
  const why = [endingOf(result), ...(stderr === '' ? [] : [stderr.slice(0, 2_000)])].join(': ');
  throw (
    notRun(result) ??
    new Failure('KERNEL_QUERY', `looking at what a pod has, by ${file}: ${why}`, {
      file,
      signal: result.signal,
      stderr,
    })
  );
}

function look(
  entering: string[],
  { settings, limits, chains }: { settings: string[]; limits: boolean; chains: boolean },
): Sight {
  const script = ['sh', '-c', LOOK, 'eniboot', String(limits), String(chains), ...settings];
  const [file = '', ...args] = [...entering, ...script];
  const answers = answerOf(file, args).split(`\n${'-'.repeat(8)}\n`);
  const list = (at: number) => (answers[at] ?? '').split('\n').flatMap(parse);
  return {
    links: list(0),
    routes: list(1),
    rules: list(2),
    rules6: list(3),
    neighbours: list(4),
    settings: new Map(
      (answers[5] ?? '').split('\n').map((line) => {
        const at = line.indexOf(':');
        return [line.slice(0, at), line.slice(at + 1)];
      }),
    ),
    chains: chainsOf(answers[6] ?? ''),
    qdiscs: list(7),
  };
}

/** Empty where `ip` found nothing to show. @throws KERNEL_QUERY for what was cut off. */
function parse(json: string): Shown[] {
  const value = json === '' ? [] : understood(() => JSON.parse(json) as unknown);
  return Array.isArray(value) ? (value as Shown[]) : [];
}

function understood<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new Failure(
      'KERNEL_QUERY',
      `looking at what a pod has: an answer is not whole: ${error}`,
      {},
      error,
    );
  }
}

/** Of one table on each line. */
function chainsOf(listings: string): Map<string, string> {
  const lines = listings.split('\n').filter((line) => line !== '');
  return new Map(lines.flatMap((listing) => understood(() => [...objectsOf(canonical(listing))])));
}

/**
 * Of a limit's chain, which ADD puts into the table of both families wherever the node has both: also into a pod
 * whose IPv6 is off, which CHECK knows by its prevResult only, as a pod with IPv4 alone.
 */
const FAMILY = /"family":"(?:ip|inet)",/g;

type Finding = Pick<PartState, 'state' | 'found'>;
const PRESENT: Finding = { state: 'present' };
const MISSING: Finding = { state: 'missing' };

function stateOf(part: Part, sights: Record<Side, Sight>, wantedChains: Map<string, string>): Finding {
  const sight = sights[part.side];
  switch (part.kind) {
    case 'link':
      return linkState(part, sight.links, sights.node.links);
    case 'address':
      return addressState(part, sight.links);
    case 'route':
      return routeState(part, sight.routes);
    case 'neighbour':
      return neighbourState(part, sight.neighbours);
    case 'rule':
      return ruleState(part, part.family === 6 ? sight.rules6 : sight.rules);
    case 'setting': {
      const value = sight.settings.get(part.path);
      return value === part.value ? PRESENT : value === undefined ? MISSING : wrong(`it is ${value}`);
    }
    case 'chain': {
      const chain = sight.chains.get(part.name);
      if (chain === undefined) return MISSING;
      const same = [chain, wantedChains.get(part.name)].map((text) =>
        part.name === LIMIT_CHAIN ? text?.replaceAll(FAMILY, '') : text,
      );
      return same[0] === same[1] ? PRESENT : wrong('its rules are others');
    }
    case 'limit':
      return limitState(part, sight.qdiscs);
  }
}

function wrong(found: string): Finding {
  return { state: 'wrong', found };
}

function linkState(part: PartOf<'link'>, links: Shown[], nodeLinks: Shown[]): Finding {
  const link = links.find((one) => one['ifname'] === part.name);
  if (link === undefined) return MISSING;
  const info = link['linkinfo'] as Shown | undefined;
  const kind = info?.['info_kind'];
  const master = nodeLinks.find((one) => one['ifindex'] === link['link_index']);
  const flags = (link['flags'] ?? []) as unknown[];
  const problems = [
    ...(flags.includes('UP') ? [] : ['it is down']),
    ...differs('MAC', link['address'], part.mac),
    ...differs('MTU', link['mtu'], part.mtu),
    ...differs('group', link['group'], part.group),
    // Only an ipvlan's kind says where its packets go.
    ...differs('master', master?.['ifname'], part.master),
    ...differs('kind', kind, part.type === 'ipvlan' ? part.type : undefined),
    ...(kind === 'ipvlan' && part.type === 'ipvlan' ? differs('mode', portShown(info), IPVLAN_L2) : []),
  ];
  return problems.length === 0 ? PRESENT : wrong(problems.join(', '));
}

/** Mode and flags that all ipvlans of an ENI share: any pod with NET_ADMIN can change them for the others. */
function portShown(info: Shown | undefined): string {
  const data = (info?.['info_data'] ?? {}) as Shown;
  return `${String(data['mode'])} ${['private', 'vepa'].find((flag) => flag in data) ?? 'bridge'}`;
}

function differs(what: string, found: unknown, wanted: string | number | undefined): string[] {
  return wanted === undefined || found === wanted ? [] : [`its ${what} is ${String(found)}, not ${wanted}`];
}

function addressState(part: PartOf<'address'>, links: Shown[]): Finding {
  const link = links.find((one) => one['ifname'] === part.device);
  const address = ((link?.['addr_info'] ?? []) as Shown[]).find((one) => one['local'] === part.address);
  if (address === undefined) return MISSING;
  return address['prefixlen'] === part.prefixLength
    ? PRESENT
    : wrong(`its prefix length is ${String(address['prefixlen'])}`);
}

function routeState(part: PartOf<'route'>, routes: Shown[]): Finding {
  const here = routes.filter(
    (one) =>
      one['dst'] === part.destination && one['from'] === part.from && (one['table'] ?? 'main') === part.table,
  );
  const matches = (one: Shown) =>
    (one['type'] ?? 'unicast') === part.type &&
    one['gateway'] === part.gateway &&
    (part.device === undefined || one['dev'] === part.device) &&
    // Without a source the kernel takes the one address there is.
    (one['prefsrc'] === undefined || one['prefsrc'] === part.source);
  if (here.some(matches)) return PRESENT;
  const [other] = here;
  return other === undefined ? MISSING : wrong(`it is ${routeText(other)}`);
}

function routeText(route: Shown): string {
  const words = (['gateway', 'dev', 'prefsrc'] as const).flatMap((field) =>
    route[field] === undefined
      ? []
      : [`${{ gateway: 'via', dev: 'dev', prefsrc: 'src' }[field]} ${String(route[field])}`],
  );
  return [route['type'], route['dst'], ...words].filter((word) => word !== undefined).join(' ');
}

function neighbourState(part: PartOf<'neighbour'>, neighbours: Shown[]): Finding {
  const found = neighbours.find((one) => one['dst'] === part.address && one['dev'] === part.device);
  if (found === undefined) return MISSING;
  return found['lladdr'] === part.mac ? PRESENT : wrong(`its MAC is ${String(found['lladdr'])}`);
}

/** What makes a rule one for fewer packets, or for the others; no rule of ours says it. `ip -j` names. */
const NARROWING = [
  ...['not', 'dst', 'srclen', 'oif', 'iif_detached', 'tos', 'dscp', 'flowlabel', 'ipproto', 'tun_id'],
  ...['sport', 'sport_start', 'dport', 'dport_start', 'uid_start'],
  ...['suppress_prefixlen', 'suppress_ifgroup'],
];

function ruleState(part: PartOf<'rule'>, rules: Shown[]): Finding {
  const here = rules.filter(
    (one) =>
      one['priority'] === part.priority &&
      one['src'] === part.from &&
      one['iif'] === part.iif &&
      markOf(one) === part.mark &&
      !NARROWING.some((word) => word in one),
  );
  if (here.some((one) => one['table'] === part.table)) return PRESENT;
  const [other] = here;
  return other === undefined ? MISSING : wrong(`it looks up table ${String(other['table'])}`);
}

function limitState(part: PartOf<'limit'>, qdiscs: Shown[]): Finding {
  const root = qdiscs.find((one) => one['dev'] === part.device && one['root'] === true);
  if (root?.['kind'] !== 'tbf') return MISSING;
  const rate = (root['options'] as Shown | undefined)?.['rate'];
  return rate === part.bytesPerSecond ? PRESENT : wrong(`it is ${Number(rate) * 8} bit/s`);
}

function markOf(rule: Shown): string | undefined {
  if (rule['fwmark'] === undefined) return undefined;
  return `${String(rule['fwmark'])}/${String(rule['fwmask'])}`;
}
