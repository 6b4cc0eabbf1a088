// The node's nftables tables: their inputs, and whether the kernel has them in that form. For the phases that load them.
import { deviceOf } from '../../host/devices.ts';
import { compareTables, type NodeTables, readTables, type TableState } from '../../host/nft.ts';
import { earlierNodeFile, type NodePodEni } from '../../host/node-file.ts';
import { listOwned, type Owned } from '../../pool/entry.ts';
import type { Change } from '../change.ts';
import type { Context } from '../context.ts';
import { isDualStack, type NodeFacts, type PodEni } from '../facts/facts.ts';
import type { GuardedEni } from './nft-guard.ts';
import { type EgressInput, renderTables } from './nft-text.ts';

export interface TablesSeen {
  kernel: NodeTables;
  owned: Owned[];
  /** ENIs of the earlier node file, whose pods may live, though this run has not looked for ENIs yet. */
  told: readonly NodePodEni[];
  /** Device names by MAC; undefined for a device that is not there. */
  devices: ReadonlyMap<string, string | undefined>;
}

/** @param pods the pod ENIs that this run has found; none before attach */
export async function observeTables(
  context: Context,
  node: NodeFacts,
  pods: readonly PodEni[],
): Promise<TablesSeen> {
  const { loaded } = context;
  context.loaded = undefined;
  const told = earlierNodeFile()?.podEnis ?? [];
  const macs = new Set([...node.otherEnis, ...told, ...pods].map((eni) => eni.mac));
  return {
    kernel: loaded ?? (await readTables()),
    owned: listOwned(),
    told,
    devices: new Map([...macs].map((mac) => [mac, deviceOf(mac)])),
  };
}

/** The inputs of the tables beside what was observed. */
export interface TablesInput {
  /** Name of the boot ENI's device. */
  device: string;
  vpcCidrs: readonly string[];
  pods: readonly PodEni[];
  /** What is about to enter the pool. */
  entering?: readonly Owned[];
}

export function planTables(seen: TablesSeen, node: NodeFacts, input: TablesInput): Change[] {
  const made = tablesInput(seen, node, input);
  const text = renderTables(made);
  const { intact, present } = compareTables(seen.kernel, text);
  if (intact) return [];
  const loaded = renderTables(made, seen.kernel.counted);
  const summary = `${present ? 'replace' : 'create'} tables inet and netdev eniboot`;
  return [{ do: 'tables', text, loaded, present, summary }];
}

export function tablesState(seen: TablesSeen, node: NodeFacts, input: TablesInput): TableState {
  return compareTables(seen.kernel, renderTables(tablesInput(seen, node, input)));
}

function tablesInput(
  seen: TablesSeen,
  node: NodeFacts,
  { device, vpcCidrs, pods, entering = [] }: TablesInput,
): EgressInput {
  const { config, bootEni } = node;
  const owned = [...seen.owned, ...entering];
  const told6 = seen.told.flatMap((eni) => eni.ipv6Prefix ?? []);
  return {
    device,
    nodeAddress: bootEni.addresses[0] ?? '',
    vpcCidrs: [...vpcCidrs],
    poolCidrs: owned.map((one) => one.cidr),
    poolPrefixes6: isDualStack(node)
      ? [...new Set([...told6, ...pods.flatMap((pod) => pod.ipv6Prefix ?? [])])]
      : undefined,
    enis: guardedEnis(seen, node, pods, owned),
    config,
  };
}

/**
 * The ENIs of the earlier node file and those that were found. When node.json is lost, IMDS knows the ENIs that the pool's
 * addresses are on.
 */
function guardedEnis(
  { told, devices }: TablesSeen,
  node: NodeFacts,
  pods: readonly PodEni[],
  owned: Owned[],
): GuardedEni[] {
  const known = new Map<string, Omit<GuardedEni, 'device' | 'cidrs'>>();
  for (const { eniId, mac, addresses, ipv6Prefixes } of node.otherEnis) {
    if (!owned.some((one) => one.eniId === eniId)) continue;
    known.set(eniId, { eniId, mac, primaryAddress: addresses[0], ipv6Prefix: [...ipv6Prefixes].sort()[0] });
  }
  for (const eni of [...told, ...pods]) {
    const { eniId, mac, ipv6Prefix } = eni;
    const primaryAddress = eni.primaryAddress || known.get(eniId)?.primaryAddress;
    known.set(eniId, { eniId, mac, primaryAddress, ipv6Prefix });
  }
  // In one order, independent of the source: the same ENIs give the same text.
  const inOrder = [...known.values()].sort((a, b) => (a.eniId < b.eniId ? -1 : 1));
  return inOrder.flatMap((eni) => {
    const device = devices.get(eni.mac);
    if (device === undefined) return [];
    const cidrs = owned.filter((one) => one.eniId === eni.eniId).map((one) => one.cidr);
    return [{ ...eni, device, cidrs, ipv6Prefix: isDualStack(node) ? eni.ipv6Prefix : undefined }];
  });
}
