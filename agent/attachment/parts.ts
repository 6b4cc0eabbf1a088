// The objects of an attachment as people are shown them. They are derived from ADD's operations, so that CHECK and
// `eniboot trace` expect what ADD makes. Pure.
import type { Listable } from '../kernel/is-there.ts';
import type {
  Chain,
  Ipvlan,
  JumpedTo,
  KernelOperation,
  LinkEnd,
  Setting,
  Side,
  Table,
  Veth,
} from '../kernel/operation.ts';
import { commandOf, objectText } from '../kernel/render.ts';
import { type Attachment, POD_VETH } from './attachment.ts';
import { type Bucket, bucketLine, bucketsOf, bucketText } from './limits.ts';
import { attachmentPlan, type Place } from './plan.ts';

/** One object of an attachment. */
export interface Part {
  side: Side;
  /** The object in words, for people. */
  text: string;
  /** The command that makes this object alone; absent when there is none. */
  command?: string;
  what: PartObject;
}

export type PartObject =
  | Listable
  | Setting
  | { kind: 'link'; end: LinkEnd; of: Ipvlan | Veth }
  | { kind: 'chain'; table: Table; chain: Chain | JumpedTo }
  /** A token bucket that delays what leaves a device. */
  | ({ kind: 'limit' } & Bucket);

/**
 * All objects of an attachment: the node's first, then in the order in which ADD makes them. `six` holds the objects
 * that IPv6 adds inside a pod that has it on; `base` holds all others.
 *
 * @param netns path of the pod's namespace.
 */
export function partsOf(a: Attachment, place: Place, netns: string): { base: Part[]; six: Part[] } {
  const { always, whereIpv6 } = attachmentPlan(a, place);
  const limits = bucketsOf(a.limits ?? {}, [a.ifName, POD_VETH]).map(
    (bucket): Part => ({
      side: 'pod',
      text: bucketText(bucket),
      command: `nsenter --net=${netns} tc ${bucketLine(bucket)}`,
      what: { kind: 'limit', ...bucket },
    }),
  );
  return {
    base: [...always.flatMap((one) => partsOfOperation(one, netns)), ...limits],
    six: whereIpv6.flatMap((one) => partsOfOperation(one, netns)),
  };
}

/**
 * Returns no part for an operation that only changes a link which another operation makes (`up` and the like): the
 * link's part includes it.
 */
function partsOfOperation(operation: KernelOperation, netns: string): Part[] {
  if (operation.do !== 'make') return [];
  const { on: side, what } = operation;
  switch (what.kind) {
    case 'ipvlan':
      return [linkPart(what, what.end, side, `ipvlan on ${what.parent}`)];
    case 'veth':
      return [what.end, what.peer].map((end) => linkPart(what, end, side, 'veth'));
    case 'tables':
      return what.tables.flatMap((table) =>
        table.chains.map((chain) => ({
          side,
          text: `${chain.name} of table ${table.family} ${table.name}`,
          what: { kind: 'chain', table, chain },
        })),
      );
    case 'address':
    case 'neighbour':
    case 'route':
    case 'rule':
    case 'setting':
      return [{ side, text: objectText(what), command: commandOf(operation, netns), what }];
  }
}

function linkPart(of: Ipvlan | Veth, end: LinkEnd, side: Side, text: string): Part {
  return {
    side: end.inPod === true ? 'pod' : side,
    text: `${end.name}: ${text}`,
    what: { kind: 'link', end, of },
  };
}
