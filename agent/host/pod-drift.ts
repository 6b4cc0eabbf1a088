// What of a living pod's attachment repair looks after: what a pod can change that others suffer from, what a pod lacks
// that an earlier version made, and what follows its node (pod-follow.ts). All else in a pod's namespace is the pod's own.
import { readIfPresent } from '../port/fs.ts';
import { inTwoNamespaces } from '../port/netlink.ts';
import { type Attachment, POD_VETH, podGuard, podSysctls } from './attachment.ts';
import { ipvlanReset } from './netlink/ip.ts';
import { transactionOf } from './netlink/nft.ts';
import { hasTables } from './netlink/nft-verify.ts';
import { commit, Routing, said } from './netlink/requests.ts';
import { IPVLAN_L2, Listing } from './netlink/verify.ts';
import { followNode } from './pod-follow.ts';
import { writeSysctl } from './sysctl.ts';

export interface Drift {
  /** port: mode and flags of the ENI, which all its pods share. node: what the pod follows its node in. */
  kind: 'port' | 'guard' | 'setting' | 'node';
  /** What is there instead, in words. */
  found: string;
}

/**
 * Looks at the pod in that namespace, and with `mend` puts back what it finds. Nothing where the pod's links are not
 * there.
 *
 * @param node what the node has.
 * @throws SystemCallError, or Node's error when the path cannot be opened; KERNEL_CHANGE.
 */
export function driftOf(a: Attachment, netns: string, node: Listing, mend: boolean): Drift[] {
  return inTwoNamespaces(netns, ({ node: nodeSocket, pod, podNetfilter }) => {
    const routing = new Routing(pod);
    const listing = new Listing(routing);
    const index = listing.index(a.ifName);
    // The path may lead to another pod by now: the link's MAC says the address.
    const link = {
      name: POD_VETH,
      mac: a.podMac,
      group: a.group,
      mtu: undefined,
      kind: undefined,
      master: undefined,
    };
    if (index === 0 || !listing.hasLink(link)) return [];
    const drifts: Drift[] = [];
    const port = listing.port(a.ifName);
    if (port !== undefined && port !== IPVLAN_L2) {
      const { problem } = mend ? routing.perform(() => ipvlanReset(index)) : { problem: undefined };
      const why = problem === undefined ? '' : ` (${problem})`;
      drifts.push({ kind: 'port', found: `its mode is ${port}, not ${IPVLAN_L2}${why}` });
    }
    const guard = podGuard(a);
    if (!hasTables(new Routing(podNetfilter), guard)) {
      const made = mend ? transactionOf(guard, true) : undefined;
      const refused = made === undefined ? undefined : commit(podNetfilter, made);
      const why = refused === undefined ? '' : ` (${said(refused, 'Error')})`;
      drifts.push({ kind: 'guard', found: `it lacks the guard of ${a.ifName}${why}` });
    }
    for (const [path, value] of podSysctls(a)) {
      const found = readIfPresent(`/proc/sys/${path}`)?.trim();
      // Absent where the pod's IPv6 is off altogether.
      if (found === undefined || found === value) continue;
      if (mend) writeSysctl(path, value);
      drifts.push({ kind: 'setting', found: `${path} is ${found}, not ${value}` });
    }
    const behind = followNode(a, netns, { node, nodeSocket, pod, podNetfilter }, mend);
    return [...drifts, ...behind.map((found): Drift => ({ kind: 'node', found }))];
  });
}
