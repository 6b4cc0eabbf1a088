import { deviceOf, isUp } from '../agent/host/devices.ts';
import { type NodeFile, readNodeFile } from '../agent/host/node-file.ts';
import { Failure, isFailure } from '../agent/messages/failure.ts';
import { listLeases } from '../agent/pool/lease.ts';

/** The plugin cannot serve ADD. */
export const UNAVAILABLE = 50;
/** The plugin cannot serve ADD, and existing pods may have no network. */
const LIMITED = 51;

/**
 * Whether the node can make pods' networks, from local state alone. An empty pool is not reported: kubelet would turn
 * the node NotReady although its pods are well.
 */
export function status(): void {
  let node: NodeFile;
  try {
    node = readNodeFile();
  } catch (error) {
    if (!isFailure(error, 'NODE_NOT_READY', 'NODE_FILE_DAMAGED')) throw error;
    throw new Failure(error.code, error.message, { cniCode: UNAVAILABLE });
  }
  const down = node.podEnis.filter((eni) => {
    const device = deviceOf(eni.mac);
    return device === undefined || !isUp(device);
  });
  const leased = new Set(listLeases().map((lease) => lease.eniId));
  const cutOff = down.filter((eni) => leased.has(eni.eniId));
  if (cutOff.length > 0) {
    throw new Failure('POD_ENI_DOWN', `pod ENIs with pods on them are gone or down: ${names(cutOff)}`, {
      cniCode: LIMITED,
    });
  }
  if (down.length === node.podEnis.length) {
    throw new Failure('POD_ENI_DOWN', `no pod ENI is there and up: ${names(down)}`, {
      cniCode: UNAVAILABLE,
    });
  }
}

function names(enis: { eniId: string; mac: string }[]): string {
  return enis.map((eni) => `${eni.eniId} (${eni.mac})`).join(', ');
}
