// What an attachment is: the facts from which ADD makes it, and the names and numbers that follow from its address.
// Pure.
import { contains, rangeOf, toAddress, toNumber } from '../host/ipv4.ts';
import { ENI_PREFIX_LENGTH, podIpv6 } from '../host/ipv6.ts';
import type { NodeFile, NodePodEni } from '../host/node-file.ts';
import { hostLinkOf } from '../host/pod-link-name.ts';
import type { PodLimits } from './limits.ts';

/** Name of the veth's end in the pod. The link is unnumbered: it has no address. */
export const POD_VETH = 'veth0';

export interface Attachment {
  address: string;
  /** The ENI's MAC, with which all its pods send. */
  mac: string;
  /** Name of the pod's interface: eth0. */
  ifName: string;
  /** Prefix length of the ENI's subnet. */
  prefixLength: number;
  /** The subnet's router, at its first address (VPC User Guide, "Subnet CIDR blocks"). */
  router: string;
  nodeAddresses: string[];
  /** CIDRs outside the ENI's subnet that eth0 reaches through the router. */
  routes: string[];
  /** CIDRs inside `routes` that the pod reaches by veth0, with source NAT on the node. */
  egressRoutes: string[];
  allowImds: boolean;
  /** Absent when pods have IPv4 alone. */
  ipv6?:
    | { address: string; prefixLength: number; nodeAddresses: string[]; serviceCidrs: string[] }
    | undefined;
  /** The IPv6 address that belongs to `address`, also when the pod's IPv6 is off; absent when pods have IPv4 alone. */
  address6?: string | undefined;
  /** MTU of the veth; eth0 has the MTU of its ENI. */
  mtu: number;
  hostLink: string;
  hostMac: string;
  podMac: string;
  /** Number of the pod's routing table on the node: the address as a number. */
  table: number;
  /**
   * Device group of the links that eniboot makes in the pod. By it DEL recognises them even when the path leads to
   * another pod's namespace by then.
   */
  group: number;
  /** Bandwidth limits; absent when the pod has none. */
  limits?: PodLimits;
}

/** The names and numbers that follow from an address: DEL needs no other facts. */
export function namesOf(
  address: string,
): Pick<Attachment, 'hostLink' | 'hostMac' | 'podMac' | 'table' | 'group'> {
  const table = toNumber(address);
  const digits = table.toString(16).padStart(8, '0');
  const mac = (kind: string) => `02:${kind}:${(digits.match(/../g) ?? []).join(':')}`;
  return {
    hostLink: hostLinkOf(address),
    hostMac: mac('e0'),
    podMac: mac('e1'),
    table,
    group: table % 2 ** 31,
  };
}

export function attachmentOf(
  node: NodeFile,
  address: string,
  { mac, subnetCidr, ipv6Prefix }: Pick<NodePodEni, 'mac' | 'subnetCidr' | 'ipv6Prefix'>,
  ifName: string,
): Attachment {
  const ipv6 =
    node.ipv6 === undefined || ipv6Prefix === undefined
      ? undefined
      : { address: podIpv6(ipv6Prefix, address), prefixLength: ENI_PREFIX_LENGTH, ...node.ipv6 };
  return {
    address,
    mac,
    ifName,
    prefixLength: Number(subnetCidr.split('/')[1]),
    router: toAddress(rangeOf(subnetCidr).first + 1),
    nodeAddresses: node.nodeAddresses,
    // Leaves out the CIDRs inside the subnet: the connected route of the address covers them.
    routes: node.podRoutes.filter((cidr) => !contains(subnetCidr, cidr)),
    egressRoutes: node.egressRoutes,
    allowImds: node.allowImds,
    ...(ipv6 === undefined ? {} : { ipv6, address6: ipv6.address }),
    mtu: node.mtu,
    ...namesOf(address),
  };
}
