// What repair restores in the attachment of a living pod: settings that a pod can change and by which it disturbs other
// pods, parts that an earlier version did not make, and parts that follow the node (follow.ts). All else in a pod's
// namespace is the pod's own.
import { inPod } from '../kernel/execute.ts';
import { IPVLAN_L2, type Listing } from '../kernel/is-there.ts';
import { type KernelOperation, make } from '../kernel/operation.ts';
import { type Attachment, POD_VETH } from './attachment.ts';
import { followNode } from './follow.ts';
import { podSettings } from './plan.ts';
import { podGuard } from './tables.ts';

export interface Drift {
  /** port: mode and flags of the ENI's ipvlans, which all its pods share. node: a part that follows the node. */
  kind: 'port' | 'guard' | 'setting' | 'node';
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
    // The path may lead to another pod's namespace by now. The veth's MAC holds the pod's address, so it tells which
    // pod this is.
    const veth = listing.link(POD_VETH);
    const own = listing.link(a.ifName);
    const isIts = veth?.up === true && veth.mac === a.podMac && veth.group === a.group;
    if (own === undefined || !isIts) return [];
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
    const guard = podGuard(a);
    if (!kernel.tables().has(guard))
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
