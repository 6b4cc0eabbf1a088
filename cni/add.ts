import { attachmentOf } from '../agent/host/attachment.ts';
import { mtuOf } from '../agent/host/devices.ts';
import { readNodeFile } from '../agent/host/node-file.ts';
import { Failure, isFailure } from '../agent/messages/failure.ts';
import { type Lease, releaseLease, undoLease } from '../agent/pool/lease.ts';
import { systemClock } from '../agent/port/clock.ts';
import { requireNamespace, takeAddress, usableEnis } from './address.ts';
import { type Configuration, refuse, type Variables } from './call.ts';
import { makeAttachment, removeAttachment } from './kernel.ts';
import { limitsOf } from './limits.ts';
import { interfaceRoutes, linkInterfaces, linkRoutes, renderResult } from './result.ts';
import { timed } from './stopwatch.ts';

/** Addresses tried when the kernel says of one that it is in use. */
const TRIES = 4;

/**
 * Takes an address by a rename, then makes its attachment; a failure takes everything back and leaves the
 * address as it was. Asks neither EC2 nor IMDS.
 */
export function add(variables: Variables, configuration: Configuration): Record<string, unknown> {
  const { netns, ifName } = variables;
  requireNamespace(netns);
  const node = readNodeFile();
  const limits = limitsOf(variables, configuration, node);
  const enis = usableEnis(node);
  for (let tries = 1; ; tries += 1) {
    const { lease, eni } = timed('lease', () =>
      takeAddress(variables, configuration.name, node, enis, limits),
    );
    try {
      const attachment = { ...attachmentOf(node, lease.address, eni, ifName), limits };
      const { ipv6 } = timed('kernel', () => makeAttachment(attachment, netns, eni.device));
      const made = ipv6 ? attachment : { ...attachment, ipv6: undefined };
      return renderResult(configuration.cniVersion, {
        interfaces: [
          { name: ifName, mac: eni.mac, mtu: mtuOf(eni.device) ?? node.mtu, sandbox: netns },
          ...linkInterfaces(attachment, netns),
        ],
        ip: {
          address: `${lease.address}/${attachment.prefixLength}`,
          gateway: attachment.router,
          interface: 0,
        },
        ipv6: made.ipv6,
        routes: [...interfaceRoutes(made), ...linkRoutes(made)],
        dns: configuration.raw['dns'],
      });
    } catch (error) {
      const inUse = isFailure(error, 'ADDRESS_IN_USE');
      takeBack(lease, netns, inUse);
      if (!inUse || tries === TRIES) throw error;
    }
  }
}

/** @throws CNI_FIELD, CNI_CONFIG */
export function refuseOfWhole({ raw }: Configuration): void {
  refuse({ ipam: raw['ipam'] });
  if (raw['prevResult'] === undefined) return;
  throw new Failure('CNI_CONFIG', 'prevResult: eniboot makes the interface, so it comes first in the chain', {
    path: 'prevResult',
  });
}

/**
 * When even this fails, the lease stays, and with it what DEL and garbage collection need to try again. An
 * address that some lost namespace still holds rests, or every ADD from now on would choose it first.
 */
function takeBack(lease: Lease, netns: string, rest: boolean): void {
  try {
    removeAttachment(lease.address, [netns]);
  } catch {
    return;
  }
  if (rest) releaseLease(lease, systemClock.bootMs());
  else undoLease(lease);
}
