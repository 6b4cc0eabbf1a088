// What ADD has told a pod about its node and is different on the node by now: the node's addresses, the CIDR blocks of
// its VPC, the other routes of node.json, and the MTU. This file lists everything in which a living pod follows its
// node without a new attachment.
import type { Kernel } from '../kernel/execute.ts';
import type { Listing } from '../kernel/is-there.ts';
import {
  type KernelObject,
  type KernelOperation,
  make,
  type Neighbour,
  type Route,
  type Rule,
  type Side,
} from '../kernel/operation.ts';
import { objectText } from '../kernel/render.ts';
import { type Attachment, POD_VETH } from './attachment.ts';
import { attachmentPlan } from './plan.ts';
import { podPathTables } from './tables.ts';

/** A difference in words, and the operation that removes it. */
export interface Behind {
  found: string;
  operation: KernelOperation;
}

/**
 * Leaves alone each route to a destination to which another program has made a route, and the default route of the main
 * table: another network may have taken it over (Multus' `default-route`).
 *
 * @param node the node's listing, read once for all its pods.
 */
export function followNode(a: Attachment, kernel: Kernel, node: Listing): Behind[] {
  const listing = kernel.listing('pod');
  const place = { eniDevice: undefined, ipv6: true };
  const whereIpv6 = objectsOf(attachmentPlan(a, place).whereIpv6, 'pod');
  // A pod that was made before its node had IPv6, or that has turned it off, has no IPv6 parts to follow.
  const has6 = whereIpv6.some((what) => what.kind === 'address' && listing.has(what));
  const told: Attachment = has6 ? a : { ...a, ipv6: undefined };
  const plan = attachmentPlan(told, place);
  const objects = objectsOf([...plan.always, ...plan.whereIpv6], 'pod').filter(follows);
  const inPod = objects.filter((what) => !isMainDefault(what));
  return [
    ...objectsBehind('pod', listing, inPod),
    ...objectsBehind('node', node, objectsOf(plan.always, 'node').filter(follows), a.table),
    ...mtuBehind('pod', listing, POD_VETH, a.mtu),
    ...mtuBehind('node', node, a.hostLink, a.mtu),
    ...tablesBehind(a, has6, kernel),
  ];
}

type Following = Neighbour | Route | Rule;

function objectsOf(operations: KernelOperation[], side: Side): KernelObject[] {
  return operations.flatMap((one) => (one.do === 'make' && one.on === side ? one.what : []));
}

function follows(what: KernelObject): what is Following {
  return what.kind === 'neighbour' || what.kind === 'route' || what.kind === 'rule';
}

function isMainDefault(what: Following): boolean {
  return what.kind === 'route' && what.table === undefined && (what.to === 'default' || what.to === '::/0');
}

/** @param table whose routes by eniboot are removed when they are not in `wanted`; main when undefined. */
function objectsBehind(on: Side, listing: Listing, wanted: Following[], table?: number): Behind[] {
  const who = on === 'pod' ? 'it' : 'the node';
  const routes = wanted.filter((what) => what.kind === 'route');
  const missing = wanted.filter(
    (what) => !listing.has(what) && !(what.kind === 'route' && listing.isTaken(what)),
  );
  return [
    ...listing.routesBeside(routes, table).map(
      (what): Behind => ({
        found: `${who} has a route to ${what.to} that its node has no more`,
        operation: { on, do: 'remove', what },
      }),
    ),
    ...missing.map((what) => ({
      found: `${who} lacks the ${what.kind} ${objectText(what)}`,
      operation: make(on, what, what.kind === 'neighbour' ? 'replace' : 'refuse'),
    })),
  ];
}

/** Compares the MTU of the veth's ends. eth0 has the MTU of its ENI, which the kernel passes on. */
function mtuBehind(on: Side, listing: Listing, device: string, wanted: number): Behind[] {
  const mtu = listing.link(device)?.mtu;
  if (mtu === undefined || mtu === wanted) return [];
  const found = `the MTU of ${device} is ${mtu}, not ${wanted}`;
  return [{ found, operation: { on, do: 'set', device, mtu: wanted } }];
}

/** Compares the pod's tables, which name the node's addresses. The guard does not and is left out. */
function tablesBehind(a: Attachment, has6: boolean, kernel: Kernel): Behind[] {
  const what = podPathTables(a);
  const listing = kernel.tables();
  if (listing.has(what)) return [];
  if (!has6 && listing.has(podPathTables({ ...a, ipv6: undefined }))) return [];
  const found = 'it lacks the rules of nftables that go with its node’s addresses';
  return [{ found, operation: make('pod', what, 'remake') }];
}
