// Whether the objects of an attachment are there, and what is in their place. It asks the kernel by netlink, so that a
// CHECK starts no program. Reads only; for CHECK and `eniboot trace`.
import { inNode, inPodIfThere, type Kernel } from '../kernel/execute.ts';
import { speaking } from '../kernel/failure.ts';
import { IPVLAN_L2, type ListedLink, type Listing } from '../kernel/is-there.ts';
import type { TableListing } from '../kernel/is-there-nft.ts';
import type { Side } from '../kernel/operation.ts';
import type { Attachment } from './attachment.ts';
import { LIMIT_CHAIN, shownRate } from './limits.ts';
import { type Part, type PartObject, partsOf } from './parts.ts';
import { ipv6Switch, type Place } from './plan.ts';

export type PartState = Part & {
  state: 'present' | 'missing' | 'wrong';
  /** What is there instead, when the state is wrong. */
  found?: string;
};

type Finding = Pick<PartState, 'state' | 'found'>;
const PRESENT: Finding = { state: 'present' };
const LOOKING = 'looking at what a pod has';
const MISSING: Finding = { state: 'missing' };

/** The listings of both sides; `pod` is missing when the pod's namespace is gone. */
interface Sight {
  listings: Record<'node', Listing> & Partial<Record<Side, Listing>>;
  pod: { tables: TableListing; setting: Kernel['setting'] } | undefined;
}

/**
 * Every object of the attachment, and whether it is in effect. Other objects are ignored.
 *
 * @throws KERNEL_QUERY when a listing is incomplete, since an object that was not listed may still be there;
 *   SYSTEM_EXHAUSTED.
 */
export function lookAtAttachment(a: Attachment, place: Place, netns: string): PartState[] {
  const { base, six } = partsOf(a, place, netns);
  const look = (sight: Sight): PartState[] => {
    // A runtime may turn off IPv6 in the pod, before or after the ADD.
    const off = sight.pod?.setting(ipv6Switch(a)) === '1';
    return [...base, ...(off ? [] : six)].map((part) => ({ ...part, ...stateOf(part, sight) }));
  };
  return speaking(
    'KERNEL_QUERY',
    LOOKING,
    () =>
      inPodIfThere(netns, (kernel) =>
        look({
          listings: { node: kernel.listing('node'), pod: kernel.listing('pod') },
          pod: { tables: kernel.tables(), setting: (path) => kernel.setting(path) },
        }),
      ) ?? inNode((kernel) => look({ listings: { node: kernel.listing('node') }, pod: undefined })),
  );
}

/**
 * False when another plugin has made the pod's interface, which then is not in eniboot's device group.
 *
 * @throws KERNEL_QUERY, SYSTEM_EXHAUSTED
 */
export function hasOwnInterface({ ifName, group }: Attachment, netns: string): boolean {
  const link = speaking('KERNEL_QUERY', LOOKING, () =>
    inPodIfThere(netns, (kernel) => kernel.listing('pod').link(ifName)),
  );
  return link === undefined || link.group === group;
}

/**
 * A sentence for each object that is missing or wrong. Objects on a link that is itself missing or wrong get no
 * sentence.
 */
export function differencesOf(parts: PartState[]): string[] {
  const lost = new Set(
    parts.flatMap(({ what, state }) => (what.kind === 'link' && state !== 'present' ? what.end.name : [])),
  );
  return parts
    .filter(({ what, state }) => state !== 'present' && !('device' in what && lost.has(what.device ?? '')))
    .map(({ side, what, text, state, found }) => {
      const where = side === 'pod' ? "the pod's " : 'the ';
      const noun = what.kind === 'link' ? `link ${what.end.name}` : `${what.kind} ${text}`;
      return state === 'missing' ? `${where}${noun} is missing` : `${where}${noun} differs: ${found}`;
    });
}

function stateOf({ side, what }: Part, { listings, pod }: Sight): Finding {
  const listing = listings[side];
  if (listing === undefined) return MISSING;
  switch (what.kind) {
    case 'link':
      return linkState(what, listing, listings.node);
    case 'setting': {
      const value = pod?.setting(what.path);
      if (value === what.value) return PRESENT;
      return value === undefined ? MISSING : wrong(`it is ${value}`);
    }
    case 'chain':
      return pod === undefined ? MISSING : chainState(what, pod.tables);
    case 'limit': {
      const rate = listing.bucketRate(what.device);
      if (rate === undefined) return MISSING;
      return rate === shownRate(what.limit) ? PRESENT : wrong(`it is ${rate * 8} bit/s`);
    }
    case 'address':
    case 'neighbour':
    case 'route':
    case 'rule': {
      if (listing.has(what)) return PRESENT;
      const found = listing.instead(what);
      return found === undefined ? MISSING : wrong(found);
    }
  }
}

function wrong(found: string): Finding {
  return { state: 'wrong', found };
}

function linkState(
  { end, of }: Extract<PartObject, { kind: 'link' }>,
  listing: Listing,
  node: Listing,
): Finding {
  const link = listing.link(end.name);
  if (link === undefined) return MISSING;
  const problems = [
    ...(link.up ? [] : ['it is down']),
    ...differs('MTU', link.mtu, end.mtu),
    ...differs('group', link.group, end.group ?? 0),
    ...(of.kind === 'veth' ? differs('MAC', link.mac, end.mac) : ipvlanProblems(link, of.parent, node)),
  ];
  return problems.length === 0 ? PRESENT : wrong(problems.join(', '));
}

/**
 * Checks an ipvlan's MAC, which is that of its ENI, and its mode and flags, which any pod with NET_ADMIN can change for
 * all ipvlans of the ENI.
 */
function ipvlanProblems(link: ListedLink, parent: string, node: Listing): string[] {
  const eni = node.link(parent);
  const master = node.link(link.parent);
  return [
    ...differs('MAC', link.mac, eni?.mac),
    ...differs('master', master?.name, parent),
    ...differs('kind', link.kind, 'ipvlan'),
    ...(link.kind === 'ipvlan' ? differs('mode', link.port, IPVLAN_L2) : []),
  ];
}

function differs(what: string, found: unknown, wanted: string | number | undefined): string[] {
  return wanted === undefined || found === wanted ? [] : [`its ${what} is ${String(found)}, not ${wanted}`];
}

/**
 * On a node with IPv6, ADD always puts the limit's chain into the table of both families, also when the pod's IPv6 is
 * off. CHECK learns from prevResult only that such a pod has IPv4 alone.
 */
function chainState({ table, chain }: Extract<PartObject, { kind: 'chain' }>, tables: TableListing): Finding {
  const state = tables.stateOf(table, chain);
  const other = { ...table, family: 'inet' } as const;
  const found = state === 'missing' && chain.name === LIMIT_CHAIN ? tables.stateOf(other, chain) : state;
  return found === 'wrong' ? wrong('its rules are others') : { state: found };
}
