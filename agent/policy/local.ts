// The table that closes a pod of this node until its rules are known. ADD makes it, without asking any other process.
import { POD_VETH } from '../attachment/attachment.ts';
import { TURN_BACK_ADDRESS6 } from '../host/names.ts';
import type { NodeFile } from '../host/node-file.ts';
import type { Table } from '../kernel/operation.ts';
import { isClosedAtFirst } from './marks.ts';
import { closed, type PodNetwork, policyTable } from './pod-table.ts';

/** The node's own addresses, of both families. */
export function nodeAddresses(node: NodeFile): string[] {
  return [...node.nodeAddresses, ...(node.ipv6?.nodeAddresses ?? [])];
}

/** @param node a node on which policies are in force. */
export function podNetwork(node: NodeFile, ifName: string): PodNetwork {
  return {
    ifName,
    veth: POD_VETH,
    node: [...nodeAddresses(node), TURN_BACK_ADDRESS6],
    services: node.policy?.serviceCidrs ?? [],
    ...(node.policy?.logDenied && { logs: true }),
  };
}

/** Undefined when nothing has to be closed. A container without a Kubernetes name is no pod. */
export function closedTable(
  node: NodeFile,
  pod: { namespace: string } | undefined,
  ifName: string,
): Table | undefined {
  if (node.policy === undefined || pod === undefined) return undefined;
  if (!isClosedAtFirst(pod.namespace, node.policy.strict)) return undefined;
  return policyTable(podNetwork(node, ifName), closed, () => new Map());
}
