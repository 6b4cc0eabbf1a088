import { readNodeFile } from '../agent/host/node-file.ts';
import { Failure } from '../agent/messages/failure.ts';
import { findLease, type Lease, takeLease, undoLease } from '../agent/pool/lease.ts';
import { noteNamespace } from '../agent/pool/namespace.ts';
import { systemClock } from '../agent/port/clock.ts';
import { readIfPresent } from '../agent/port/fs.ts';
import { attachmentOf } from './attachment.ts';
import { type Configuration, isOwnNamespace, ownerOf, type Variables } from './call.ts';
import { deviceOf, makeAttachment, removeAttachment } from './kernel.ts';
import { renderResult } from './result.ts';

/**
 * Takes an address by a rename, then makes its attachment; a failure takes everything back and leaves the
 * address as it was. Asks neither EC2 nor IMDS.
 */
export function add(variables: Variables, configuration: Configuration): Record<string, unknown> {
  const { netns } = variables;
  const own = isOwnNamespace(netns);
  if (own === undefined) throw new Failure('NETNS_GONE', `${netns} is not there`, { netns });
  if (own) throw new Failure('NETNS_OWN', `${netns} is the network namespace of the node`, { netns });
  const node = readNodeFile();
  const owner = ownerOf(variables);
  if (findLease(owner) !== undefined) {
    throw new Failure('ALREADY_ATTACHED', `${owner.containerId} has ${owner.ifName} already`, { ...owner });
  }
  const usable = node.podEnis.flatMap((eni) => {
    const device = deviceOf(eni.mac);
    return device === undefined ? [] : [{ ...eni, device }];
  });
  if (usable.length === 0) {
    throw new Failure('NODE_NOT_READY', 'no pod ENI has its device', { podEnis: node.podEnis });
  }
  const lease = takeLease(owner, {
    eniIds: usable.map((eni) => eni.eniId),
    restMs: node.restMs,
    nowMs: systemClock.bootMs(),
    lowWater: node.lowWater,
  });
  const eni = usable.find((one) => one.eniId === lease.eniId) ?? usable[0];
  if (eni === undefined) throw new Failure('INTERNAL', `leased ${lease.address} of an ENI not asked for`);
  noteNamespace(lease, netns);
  const attachment = attachmentOf(node, lease.address, eni.subnetCidr, variables.ifName);
  try {
    makeAttachment(attachment, netns, eni.device);
  } catch (error) {
    takeBack(lease, netns);
    throw error;
  }
  return renderResult(configuration.cniVersion, {
    attachment,
    eniMac: eni.mac,
    netns,
    eniMtu: Number(readIfPresent(`/sys/class/net/${eni.device}/mtu`) ?? node.mtu),
    dns: configuration.raw['dns'],
  });
}

/** When even this fails, the lease stays, and with it what DEL and garbage collection need to try again. */
function takeBack(lease: Lease, netns: string): void {
  try {
    removeAttachment(lease.address, netns);
  } catch {
    return;
  }
  undoLease(lease);
}
