// What a pod's attachment leaves on the node. The pod's address is enough to find and remove it: the name of the host
// link and the number of the routing table, which both policy rules name, contain the address.

import { toAddress, toNumber } from '../host/ipv4.ts';
import { addressOfHostLink } from '../host/pod-link-name.ts';
import { inNode, type Kernel } from '../kernel/execute.ts';
import { speaking } from '../kernel/failure.ts';
import { nodeRemoval } from './plan.ts';

/** Smaller table numbers are no pod's: an address of 0.0.0.0/8 never belongs to a pod (RFC 1122). */
const LOWEST_POD_TABLE = 2 ** 24;

export interface PodTraces {
  /** Addresses with a host link. */
  links: Set<string>;
  /** Addresses with a host link or a policy rule. */
  all: Set<string>;
}

/** @throws KERNEL_QUERY, SYSTEM_EXHAUSTED */
export function listPodTraces(): PodTraces {
  return onNode((kernel) => tracesOf(kernel));
}

/**
 * Removes what is left of an attachment; it may be nothing. False when something is still there afterwards.
 *
 * @throws KERNEL_QUERY, SYSTEM_EXHAUSTED
 */
export function removePodTraces(address: string): boolean {
  return onNode((kernel) => {
    // Includes rules that another version of eniboot has made.
    const rules = kernel.listing('node').ownRules();
    const own = rules.filter(({ table }) => table === toNumber(address));
    kernel.run(nodeRemoval(address, own));
    return !tracesOf(kernel).all.has(address);
  });
}

function onNode<T>(work: (kernel: Kernel) => T): T {
  return speaking('KERNEL_QUERY', 'looking at what pods have on the node', () => inNode(work));
}

function tracesOf(kernel: Kernel): PodTraces {
  const listing = kernel.listing('node');
  const linked = listing
    .links()
    .flatMap(({ kind, name }) => (kind === 'veth' ? (addressOfHostLink(name) ?? []) : []));
  const ruled = listing
    .ownRules()
    .flatMap(({ table }) => (table !== 'main' && table >= LOWEST_POD_TABLE ? toAddress(table) : []));
  return { links: new Set(linked), all: new Set([...linked, ...ruled]) };
}
