// The guards as text: pure. Where pods' packets pass the node, the guards decide by the sender. A pod may send only from its
// own addresses, cannot reach instance metadata, and none of its frames reaches the node by a pod ENI. Packets between pods of
// one ENI pass no hook of the node; the guard in each pod's namespace decides about them (podGuard in
// attachment/tables.ts).

import { IMDS_ADDRESS, IMDS_ADDRESS6, POD_LINK_PREFIX } from '../../host/names.ts';
import type { Counted } from '../../host/nft.ts';
import { prefixOf } from '../../kernel/bytes.ts';

/** A pod ENI whose device is here. Its pods may send from its addresses. */
export interface GuardedEni {
  eniId: string;
  device: string;
  mac: string;
  /** Of the ENI itself; undefined when unknown. */
  primaryAddress: string | undefined;
  /** Prefixes and addresses that the pool holds on the ENI. */
  cidrs: string[];
  /** The /80 from which its pods' IPv6 addresses are made; undefined when pods have only IPv4. */
  ipv6Prefix: string | undefined;
}

/** What the guards drop, by the name of the counter in nftables. */
export const guardCounters = {
  forged_by_veth: "a source that is not the pod's own, over its link to the node",
  forged_by_eni: "a sender that is none of the ENI's pods, out of a pod ENI",
  imds_by_node: 'instance metadata, through the node',
  imds_by_eni: 'instance metadata, by a pod ENI',
  dhcp_by_eni: 'DHCP, out of a pod ENI',
  own_mac: "a frame from a pod to its own ENI's MAC, for an address that no pod has",
  unassigned: 'a packet for an address that no pod has, in by a pod ENI',
} as const;
export type GuardCounter = keyof typeof guardCounters;

/** Declarations of counters for the start of a table, each with its count so far. */
function counters(counted: Counted, ...names: GuardCounter[]): string {
  const start = ({ packets, bytes } = { packets: 0, bytes: 0 }) =>
    packets === 0 ? '' : `packets ${packets} bytes ${bytes} `;
  return names.map((name) => `  counter ${name} { ${start(counted.get(name))}}\n`).join('');
}

/**
 * The forms of the metadata service's IPv6 address: the address itself, its IPv4 address behind the well-known prefix of NAT64
 * (RFC 6052), and its IPv4-mapped address (RFC 4291).
 */
const IMDS_FORMS6 = [IMDS_ADDRESS6, '64:ff9b::a9fe:a9fe', '::ffff:a9fe:a9fe'];

const pods = `"${POD_LINK_PREFIX}*"`;

/**
 * Chains of table inet eniboot.
 *
 * `from_enis`: when a frame has its ENI's MAC as destination, and an address that no pod has, the ipvlan hands it to the node's
 * own stack with the ENI as input device (ipvlan_rcv_frame in drivers/net/ipvlan/ipvlan_core.c). The rules for veths do not see
 * it.
 *
 * `from_pods`, after conntrack: a packet that a pod sends first, or that is part of no connection, must have the pod's own
 * source. A reply may have another source: Service traffic turns back through its client's namespace, so the backend's replies
 * come by the client's link. `replies` judges them once their destination is the original one again: they must go to the pod
 * whose link they came by, or have that pod's own source.
 *
 * `imds` and `imds_out`: every packet that the node itself did not send. Packets that IPVS forwards pass the output hook.
 */
export function guardChains(
  enis: Pick<GuardedEni, 'device'>[],
  allowImds: boolean,
  counted: Counted,
): string {
  // Multicast is meant for pods as well as for the node, and is not an attack.
  const fromEnis = enis.map(
    ({ device }) =>
      `    iifname "${device}" meta pkttype host counter name unassigned drop\n    iifname "${device}" drop\n`,
  );
  return `${counters(counted, 'forged_by_veth', 'imds_by_node', 'unassigned')}  set imds6 {
    typeof ip6 daddr; elements = { ${IMDS_FORMS6.join(', ')} }
  }
  chain from_enis {
    type filter hook prerouting priority raw; policy accept;
${fromEnis.join('')}  }
  chain from_pods {
    type filter hook prerouting priority mangle - 10; policy accept;
    iifname != ${pods} accept
    fib saddr . iif oif exists accept
    ct direction reply accept
    counter name forged_by_veth drop
  }
  chain to_node {
    type filter hook input priority filter - 10; policy accept;
    iifname ${pods} ct direction reply fib saddr . iif oif missing counter name forged_by_veth drop
  }
  chain through_node {
    type filter hook forward priority filter - 10; policy accept;
    ip daddr ${IMDS_ADDRESS} goto imds
    ip6 daddr @imds6 goto imds
    iifname ${pods} ct direction reply goto replies
  }
  chain replies {
    fib daddr . iif oif exists accept
    fib saddr . iif oif exists accept
    counter name forged_by_veth drop
  }
  chain imds {
${allowImds ? `    iifname ${pods} ip daddr ${IMDS_ADDRESS} accept\n` : ''}    counter name imds_by_node reject with icmpx type admin-prohibited
  }
  chain imds_out {
    type filter hook output priority filter - 10; policy accept;
    ip daddr ${IMDS_ADDRESS} fib saddr type != local counter name imds_by_node drop
    ip6 daddr @imds6 fib saddr type != local counter name imds_by_node drop
  }
`;
}

/**
 * The body of table netdev eniboot: which frames may leave a pod ENI (every frame that is not for a pod of the same ENI passes
 * its device), and which may come in by it. An allow-list: the ENI's MAC, and an address that the pool holds on the ENI. The
 * boot's own question to the subnet's router passes too: ARP from 0.0.0.0 or from the ENI's primary address. As in a pod, the
 * frame's type must agree with what the socket says it is.
 */
export function renderGuardTable(enis: GuardedEni[], counted: Counted): string {
  return `${counters(counted, 'forged_by_eni', 'imds_by_eni', 'dhcp_by_eni', 'own_mac')}  set imds6 {
    typeof ip6 daddr; elements = { ${IMDS_FORMS6.join(', ')} }
  }
${enis.map(setOf).join('')}  chain out4 {
    ip daddr ${IMDS_ADDRESS} counter name imds_by_eni drop
    udp dport 67-68 counter name dhcp_by_eni drop
    accept
  }
  chain out6 {
    ip6 daddr @imds6 counter name imds_by_eni drop
    udp dport 546-547 counter name dhcp_by_eni drop
    icmpv6 type 133-134 counter name forged_by_eni drop
    icmpv6 type 137 counter name forged_by_eni drop
    icmpv6 type 135 @nh,384,128 0x${hexOf(IMDS_ADDRESS6)} counter name imds_by_eni drop
    accept
  }
  chain out_arp {
    arp daddr ip ${IMDS_ADDRESS} counter name imds_by_eni drop
    accept
  }
${enis.map(chainsOf).join('')}`;
}

function setOf({ eniId, cidrs }: GuardedEni): string {
  const elements = cidrs.length === 0 ? '' : ` elements = { ${[...cidrs].sort().join(', ')} }`;
  return `  set pods_${eniId} {
    typeof ip saddr; flags interval; auto-merge;${elements}
  }
`;
}

function chainsOf({ eniId, device, mac, primaryAddress, ipv6Prefix }: GuardedEni): string {
  const from = (type: 'ip' | 'ip6' | 'arp') =>
    `    ether saddr ${mac} ether type ${type} meta protocol ${type} `;
  const arp = `${from('arp')}arp saddr ether ${mac} arp saddr ip `;
  const rules = [
    `${from('ip')}ip saddr @pods_${eniId} goto out4`,
    ...(ipv6Prefix === undefined ? [] : rules6Of(from('ip6'), ipv6Prefix)),
    `${arp}@pods_${eniId} goto out_arp`,
    ...['0.0.0.0', ...(primaryAddress === undefined ? [] : [primaryAddress])].map(
      (address) => `${arp}${address} goto out_arp`,
    ),
    // A pod's device has no link-local address, so it reports its group memberships (RFC 9777) from the unspecified address.
    '    ip6 saddr :: drop',
    '    counter name forged_by_eni drop',
  ];
  return `  chain out_${eniId} {
    type filter hook egress device "${device}" priority filter; policy drop;
${rules.join('\n')}
  }
  chain in_${eniId} {
    type filter hook ingress device "${device}" priority filter; policy accept;
    ether saddr ${mac} counter name own_mac drop
    ip saddr ${IMDS_ADDRESS} counter name imds_by_eni drop
    ip6 saddr @imds6 counter name imds_by_eni drop
  }
`;
}

/** A neighbour advertisement must name a target of the ENI itself. */
function rules6Of(from: string, prefix: string): string[] {
  const { bytes, length } = prefixOf(prefix);
  const target = Buffer.from(bytes.slice(0, length / 8)).toString('hex');
  return [
    `${from}ip6 saddr ${prefix} icmpv6 type 136 @nh,384,${length} 0x${target} goto out6`,
    `${from}ip6 saddr ${prefix} icmpv6 type 136 counter name forged_by_eni drop`,
    `${from}ip6 saddr ${prefix} goto out6`,
  ];
}

function hexOf(address: string): string {
  return Buffer.from(prefixOf(address).bytes).toString('hex');
}
