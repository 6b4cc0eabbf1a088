import { attachmentOf } from '../agent/host/attachment.ts';
import { readNodeFile } from '../agent/host/node-file.ts';
import { Failure, isFailure } from '../agent/messages/failure.ts';
import { findLease, type Lease, releaseLease, takeLease, undoLease } from '../agent/pool/lease.ts';
import { noteNamespace } from '../agent/pool/namespace.ts';
import { systemClock } from '../agent/port/clock.ts';
import { readIfPresent } from '../agent/port/fs.ts';
import { type Configuration, isOwnNamespace, ownerOf, type Variables } from './call.ts';
import { deviceOf, makeAttachment, removeAttachment } from './kernel.ts';
import { renderResult } from './result.ts';

/** Addresses tried when the kernel says of one that it is in use. */
const TRIES = 4;

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
  const options = {
    eniIds: usable.map((eni) => eni.eniId),
    restMs: node.restMs,
    nowMs: systemClock.bootMs(),
    lowWater: node.lowWater,
  };
  for (let tries = 1; ; tries += 1) {
    const lease = takeLease(owner, options);
    const eni = usable.find((one) => one.eniId === lease.eniId);
    if (eni === undefined) throw new Failure('INTERNAL', `leased ${lease.address} of an ENI not asked for`);
    const attachment = attachmentOf(node, lease.address, eni.subnetCidr, variables.ifName);
    try {
      noteNamespace(lease, netns);
      makeAttachment(attachment, netns, eni.device);
      return renderResult(configuration.cniVersion, {
        attachment,
        eniMac: eni.mac,
        netns,
        eniMtu: Number(readIfPresent(`/sys/class/net/${eni.device}/mtu`) ?? node.mtu),
        dns: configuration.raw['dns'],
      });
    } catch (error) {
      const inUse = isFailure(error, 'ADDRESS_IN_USE');
      takeBack(lease, netns, inUse);
      if (!inUse || tries === TRIES) throw error;
    }
  }
}

/**
 * When even this fails, the lease stays, and with it what DEL and garbage collection need to try again. An
 * address that some lost namespace still holds rests, or every ADD from now on would choose it first.
 */
function takeBack(lease: Lease, netns: string, rest: boolean): void {
  try {
    removeAttachment(lease.address, netns);
  } catch {
    return;
  }
  if (rest) releaseLease(lease, systemClock.bootMs());
  else undoLease(lease);
}
