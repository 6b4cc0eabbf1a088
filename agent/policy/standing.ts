// What stands in a pod's namespace, compared with the decision.

import { POLICY_TABLE } from '../host/names.ts';
import { inPodIfThere } from '../kernel/execute.ts';
import type { TableListing } from '../kernel/is-there-nft.ts';
import type { Table } from '../kernel/operation.ts';

export type Standing =
  /** As decided. `denied`: packets by direction since the rules were written. */
  | { state: 'in force'; denied: { ingress: number | undefined; egress: number | undefined } }
  /** Rules or elements of sets are not as decided: the service has not written them yet, or is not running. */
  | { state: 'differs' }
  | { state: 'gone' }
  /** The kernel did not list the rules, as when the pod changes its nftables all the time. */
  | { state: 'unknown'; why: string };

/**
 * Packets denied since the rules were written, by direction. A direction is absent when it is open. Undefined: the namespace is
 * gone. @throws SystemCallError
 */
export function deniedIn(netns: string): { ingress?: number; egress?: number } | undefined {
  return inPodIfThere(netns, (kernel) => {
    const { ingress, egress } = deniedOf(kernel.tables().packets('inet', POLICY_TABLE));
    return { ...(ingress !== undefined && { ingress }), ...(egress !== undefined && { egress }) };
  });
}

/** @param wanted undefined when nothing isolates the pod. */
export function standingOf(netns: string, wanted: Table | undefined): Standing {
  try {
    const found = inPodIfThere(netns, (kernel): Standing => {
      const tables = kernel.tables();
      return standsAs(tables, wanted) ? inForce(tables.packets('inet', POLICY_TABLE)) : { state: 'differs' };
    });
    return found ?? { state: 'gone' };
  } catch (error) {
    // One pod must not keep the others from being shown.
    return { state: 'unknown', why: String(error) };
  }
}

/** Compares the rules, and the elements of all sets. */
export function standsAs(tables: TableListing, wanted: Table | undefined): boolean {
  if (wanted === undefined) return tables.packets('inet', POLICY_TABLE).size === 0;
  return (
    tables.has({ kind: 'tables', tables: [wanted] }) &&
    (wanted.sets ?? []).every((set) => tables.holds(wanted, set))
  );
}

function inForce(packets: ReadonlyMap<string, readonly number[]>): Standing {
  return { state: 'in force', denied: deniedOf(packets) };
}

/** The last rule of these chains counts the packets that nothing let through. */
function deniedOf(packets: ReadonlyMap<string, readonly number[]>) {
  return { ingress: packets.get('ingress')?.at(-1), egress: packets.get('egress')?.at(-1) };
}
