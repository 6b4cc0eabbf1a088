// What repair restores in the attachment of a living pod: settings that a pod can change and by which it disturbs other
// pods, parts that an earlier version did not make, and parts that follow the node (follow.ts). All else in a pod's
// namespace is the pod's own.
import { inPod, type Kernel } from '../kernel/execute.ts';
import { IPVLAN_L2, type ListedLink, type Listing } from '../kernel/is-there.ts';
import { type KernelOperation, make, type Tables } from '../kernel/operation.ts';
import { SystemCallError } from '../port/libc.ts';
import type { Attachment } from './attachment.ts';
import { followNode } from './follow.ts';
import { podSettings } from './plan.ts';
import { podGuard } from './tables.ts';

export interface Drift {
  /**
   * port: mode and flags of the ENI's ipvlans, which all its pods share. node: a part that follows the node. boot ENI: a
   * device of the pod on the boot ENI, by which it could ask for the node's credentials.
   */
  kind: 'port' | 'guard' | 'setting' | 'node' | 'boot ENI';
  /** What is there instead, in words. */
  found: string;
}

/**
 * Looks at the pod in the namespace. With `mend` it also restores what differs. It returns an empty list when the pod's
 * links are not there.
 *
 * @param node the node's listing.
 * @throws SystemCallError, or Node's error when the path cannot be opened.
 */
export function driftOf(a: Attachment, netns: string, node: Listing, mend: boolean): Drift[] {
  return inPod(netns, (kernel) => {
    const listing = kernel.listing('pod');
    const own = listing.link(a.ifName);
    if (own === undefined || !isOfPod(a, own, listing, node)) return [];
    const drifts: Drift[] = [];
    const put = (kind: Drift['kind'], found: string, operation: KernelOperation) => {
      const problem = mend ? kernel.run([operation]) : undefined;
      drifts.push({ kind, found: problem === undefined ? found : `${found} (${problem.words})` });
    };
    const { port } = own;
    if (port !== undefined && port !== IPVLAN_L2)
      put('port', `its mode is ${port}, not ${IPVLAN_L2}`, {
        ...{ on: 'pod', do: 'set', device: a.ifName },
        ipvlan: IPVLAN_L2,
      });
    for (const { name, kind } of devicesOnBootEni(a, listing, node))
      put('boot ENI', `its ${name} is a ${kind} on the boot ENI`, {
        ...{ on: 'pod', do: 'remove' },
        what: { kind: 'device', device: name },
      });
    const guard = podGuard(a);
    if (!stands(guard, kernel, mend))
      put('guard', `it lacks the guard of ${a.ifName}`, make('pod', guard, 'remake'));
    for (const setting of podSettings(a)) {
      const found = kernel.setting(setting.path);
      // The setting does not exist when the pod's IPv6 is off completely.
      if (found === undefined || found === setting.value) continue;
      put('setting', `${setting.path} is ${found}, not ${setting.value}`, make('pod', setting));
    }
    for (const { found, operation } of followNode(a, kernel, node)) put('node', found, operation);
    return drifts;
  });
}

/**
 * The path may lead to another pod's namespace by now. What tells is not in the pod's hands: the other end of its veth is
 * the node's link for this address, whatever name, MAC, group or state the pod has given its own end. A pod that has
 * deleted its veth still has its address on its ENI.
 */
function isOfPod(a: Attachment, own: ListedLink, listing: Listing, node: Listing): boolean {
  const host = node.link(a.hostLink);
  if (host !== undefined) return listing.vethTo(host.index) !== undefined;
  return own.mac === a.mac && listing.addressesOn(own.index).includes(a.address);
}

/** A pod that changes its tables all the time interrupts each look at them; with `mend` the guard is then made again. */
function stands(guard: Tables, kernel: Kernel, mend: boolean): boolean {
  try {
    return kernel.tables().has(guard);
  } catch (error) {
    if (mend && error instanceof SystemCallError && error.errno === EINTR) return false;
    throw error;
  }
}

const EINTR = 4;

/**
 * A process with NET_ADMIN in the node's user namespace can make devices on the node's: `ip link add link if2 name x
 * link-netnsid 0 type ipvlan` (rtnl_newlink in net/core/rtnetlink.c asks for no more). No guard stands on the boot ENI.
 */
function devicesOnBootEni(a: Attachment, listing: Listing, node: Listing): ListedLink[] {
  const host = node.link(a.hostLink);
  const here = host && listing.vethTo(host.index);
  const boot = node
    .seenLinks()
    .find(({ index }) => node.addressesOn(index).includes(a.nodeAddresses[0] ?? ''));
  if (here === undefined || boot === undefined) return [];
  return listing
    .seenLinks()
    .filter(
      ({ kind, parent, parentNamespace }) =>
        kind !== 'veth' && parent === boot.index && parentNamespace === here.parentNamespace,
    );
}
