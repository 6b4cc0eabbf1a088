import { attachmentOf } from '../agent/host/attachment.ts';
import { mtuOf } from '../agent/host/devices.ts';
import { readNodeFile } from '../agent/host/node-file.ts';
import { Failure, isFailure } from '../agent/messages/failure.ts';
import { forgetInUse, noteInUse } from '../agent/pool/in-use.ts';
import { type Lease, undoLease } from '../agent/pool/lease.ts';
import { systemClock } from '../agent/port/clock.ts';
import { requireNamespace, takeAddress, usableEnis } from './address.ts';
import { type Configuration, refuse, type Variables } from './call.ts';
import { makeAttachment, removeAttachment } from './kernel.ts';
import { limitsOf } from './limits.ts';
import { requireLease } from './lost.ts';
import { interfaceRoutes, linkInterfaces, linkRoutes, renderResult } from './result.ts';
import { timed } from './stopwatch.ts';

/**
 * How long an ADD goes on to the next address when the kernel says of one that somebody carries it. A pod with NET_ADMIN
 * can carry a whole pool, at some 30 ms for each address that is tried. The runtime waits two minutes for its pod
 * (kubelet's runtimeRequestTimeout), and its next attempt goes on where this one has come to, by the notes.
 * https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/
 */
const PATIENCE_MS = 10_000;

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
  const tried = new Set<string>();
  for (;;) {
    const { lease, eni } = timed('lease', () =>
      takeAddress(variables, configuration.name, node, enis, limits, tried),
    );
    try {
      const attachment = { ...attachmentOf(node, lease.address, eni, ifName), limits };
      const { ipv6 } = timed('kernel', () => makeAttachment(attachment, netns, eni.device));
      const made = ipv6 ? attachment : { ...attachment, ipv6: undefined };
      requireLease(lease, netns, configuration.name);
      forgetInUse(lease);
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
      if (isFailure(error, 'LEASE_LOST')) throw error;
      const undone = takeBack(lease, netns);
      if (!undone || !isFailure(error, 'ADDRESS_IN_USE')) throw error;
      noteInUse(lease, systemClock.bootMs());
      tried.add(lease.address);
      // Since this process began.
      if (performance.now() > PATIENCE_MS) throw error;
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

/** False when even this fails: the lease stays then, and with it what DEL and garbage collection need to try again. */
function takeBack(lease: Lease, netns: string): boolean {
  try {
    removeAttachment(lease.address, [netns]);
  } catch {
    return false;
  }
  undoLease(lease);
  return true;
}
