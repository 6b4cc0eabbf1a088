// What ADD has told a pod of its node, and the node has otherwise by now: its addresses, the blocks of its VPC and the
// other routes of node.json, its MTU. What a living pod follows without being made anew is what stands here.
import type { NetlinkSocket } from '../port/netlink.ts';
import {
  type Attachment,
  hostLines,
  POD_VETH,
  podLines,
  podLines6,
  podTable,
  podTable6,
} from './attachment.ts';
import { toAddress } from './ipv4.ts';
import { ipv6FromBytes } from './ipv6.ts';
import { ROUTE_PROTOCOL } from './names.ts';
import { routeRemoval } from './netlink/flush.ts';
import { type Line, lineOf, RTA } from './netlink/ip.ts';
import { attributesIn } from './netlink/message.ts';
import { transactionOf } from './netlink/nft.ts';
import { hasTables } from './netlink/nft-verify.ts';
import { commit, type Outcome, Routing, said } from './netlink/requests.ts';
import { Listing } from './netlink/verify.ts';

/** One namespace of the two. */
interface Side {
  /** For people: `it`, `the node`. */
  who: string;
  routing: Routing;
  listing: Listing;
  /** Lines of `ip -batch` that should be in effect, and whether `ip -6` is to read them. */
  lines: { text: string; inet6: boolean }[];
  /** The table of which routes of ours that no line makes are removed. */
  table: number;
}

const MAIN_TABLE = 254;

/**
 * What differs, in words; with `mend` it is put right, and what the kernel refuses stands in brackets. A route that
 * somebody else has to the same place is left, so is the main table's default route: another network may have taken it
 * (Multus' `default-route`).
 *
 * @param node what the node has, listed once for all its pods. @param nodeSocket of the node's routing half.
 */
export function followNode(
  a: Attachment,
  netns: string,
  {
    node,
    nodeSocket,
    pod,
    podNetfilter,
  }: { node: Listing; nodeSocket: NetlinkSocket; pod: NetlinkSocket; podNetfilter: NetlinkSocket },
  mend: boolean,
): string[] {
  const routing = new Routing(pod);
  const listing = new Listing(routing);
  const six = a.ipv6;
  // A pod from before its node had IPv6, or one that has turned it off, has none to keep.
  const own6 = `address replace ${six?.address}/${six?.prefixLength} dev ${a.ifName} nodad`;
  const has6 = six !== undefined && has(listing, own6, netns, true);
  const told: Attachment = has6 ? a : { ...a, ipv6: undefined };
  const sides: Side[] = [
    {
      who: 'it',
      routing,
      listing,
      lines: [
        ...objectsIn(podLines(told, true, false)).map((text) => ({ text, inet6: false })),
        ...objectsIn(podLines6(told)).map((text) => ({ text, inet6: true })),
      ].filter(({ text }) => !isMainDefault(text)),
      table: MAIN_TABLE,
    },
    {
      who: 'the node',
      // Of its own, so that a link is looked for now, and not when the first pod was looked at.
      routing: new Routing(nodeSocket),
      listing: node,
      lines: objectsIn(hostLines(told, netns, undefined, false)).map((text) => ({ text, inet6: false })),
      table: a.table,
    },
  ];
  return [
    ...sides.flatMap((side) => linesBehind(side, netns, mend)),
    ...mtuBehind(a, sides, mend),
    ...tablesBehind(a, has6, podNetfilter, mend),
  ];
}

/** Lines that make an object which is not a link. */
function objectsIn(lines: string[]): string[] {
  return lines.filter((line) => /^(?:route|neigh|rule) /.test(line));
}

function isMainDefault(text: string): boolean {
  return /^route replace (?:default|::\/0) /.test(text) && !text.includes(' table ');
}

function has(listing: Listing, text: string, netns: string, inet6: boolean): boolean {
  const line = lineOf(text, netns, inet6);
  return line !== undefined && listing.has(line);
}

function linesBehind({ who, routing, listing, lines, table }: Side, netns: string, mend: boolean): string[] {
  const moment = { index: (device: string) => routing.index(device), podFd: -1 };
  const known = lines.flatMap(({ text, inet6 }) => {
    const line = lineOf(text, netns, inet6);
    return line === undefined ? [] : [{ text, inet6, line }];
  });
  const found: string[] = [];
  const stale = listing.routesBeside(
    known.map(({ line }) => line),
    ROUTE_PROTOCOL,
    table,
  );
  for (const route of stale) {
    const outcome = mend ? routing.perform(() => routeRemoval(route)) : undefined;
    found.push(`${who} has a route to ${destinationOf(route)} that its node has no more${unless(outcome)}`);
  }
  for (const { text, inet6, line } of known) {
    if (listing.has(line) || listing.isTaken(line, ROUTE_PROTOCOL)) continue;
    const added: Line | undefined = lineOf(text.replace(/^route replace/, 'route add'), netns, inet6);
    const outcome = mend && added !== undefined ? routing.perform(() => added(moment)) : undefined;
    found.push(`${who} lacks the ${nameOf(text)}${unless(outcome)}`);
  }
  return found;
}

/** Of the link to the node. eth0 has its ENI's, which the kernel hands on. */
function mtuBehind(a: Attachment, sides: Side[], mend: boolean): string[] {
  const devices = [POD_VETH, a.hostLink];
  return sides.flatMap(({ routing, listing }, at) => {
    const device = devices[at] ?? '';
    const mtu = listing.mtu(device);
    if (mtu === a.mtu || mtu === 0) return [];
    const line = lineOf(`link set dev ${device} mtu ${a.mtu}`, '');
    const moment = { index: (name: string) => routing.index(name), podFd: -1 };
    const outcome = mend && line !== undefined ? routing.perform(() => line(moment)) : undefined;
    return [`the MTU of ${device} is ${mtu}, not ${a.mtu}${unless(outcome)}`];
  });
}

/** The pod's tables but for the guard: they name the node's addresses. */
function tablesBehind(a: Attachment, has6: boolean, netfilter: NetlinkSocket, mend: boolean): string[] {
  const wanted = podTable(a) + podTable6(a);
  const earlier = { ...a, ipv6: undefined };
  const listing = new Routing(netfilter);
  if (hasTables(listing, wanted) || (!has6 && hasTables(listing, podTable(earlier)))) return [];
  const made = mend ? transactionOf(wanted, true) : undefined;
  const refused = made === undefined ? undefined : commit(netfilter, made);
  const why = refused === undefined ? '' : ` (${said(refused, 'Error')})`;
  return [`it lacks the rules of nftables that go with its node’s addresses${why}`];
}

function unless(outcome: Outcome | undefined): string {
  return outcome?.problem === undefined ? '' : ` (${outcome.problem})`;
}

/** `route 10.0.1.9/32 dev veth0`. */
function nameOf(text: string): string {
  const [object = '', , ...rest] = text.split(' ');
  const words = rest.join(' ').replace(/ (?:proto|protocol) \d+\b| nud permanent\b| scope link\b/g, '');
  return `${object === 'neigh' ? 'neighbour' : object} ${words}`;
}

function destinationOf(route: Uint8Array): string {
  const bytes = attributesIn(route, 12).get(RTA.dst) ?? new Uint8Array();
  const address =
    bytes.length === 16
      ? ipv6FromBytes(bytes)
      : toAddress(new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0));
  return `${address}/${route[1]}`;
}
