import { podIpv6 } from '../host/ipv6.ts';
import type { NodeFile } from '../host/node-file.ts';
import { hostLinkOf } from '../host/pod-link-name.ts';
import { listLeases } from '../pool/lease.ts';
import { noteOf } from '../pool/lease-note.ts';
import { isNamespace } from '../port/netlink.ts';
import type { LocalPod } from './enforce.ts';
import { podNetwork } from './local.ts';

/** Pods that have an address, whose name the runtime has told, and whose namespace exists. */
export function localPods(node: NodeFile): LocalPod[] {
  return listLeases().flatMap((lease) => {
    const note = noteOf(lease);
    if (note?.pod === undefined || !isNamespace(note.netns)) return [];
    const { containerId, ifName } = lease.owner;
    const prefix = node.podEnis.find(({ eniId }) => eniId === lease.eniId)?.ipv6Prefix;
    return {
      id: `${containerId} ${ifName}`,
      key: `${note.pod.namespace}/${note.pod.name}`,
      ...(note.pod.uid !== undefined && { uid: note.pod.uid }),
      netns: note.netns,
      network: podNetwork(node, ifName),
      hostLink: hostLinkOf(lease.address),
      addresses: [lease.address, ...(prefix === undefined ? [] : [podIpv6(prefix, lease.address)])],
    };
  });
}
