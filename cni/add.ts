import { attachmentOf } from '../agent/attachment/attachment.ts';
import { mtuOf } from '../agent/host/devices.ts';
import { readNodeFile } from '../agent/host/node-file.ts';
import { isFailure } from '../agent/messages/failure.ts';
import { closedTable } from '../agent/policy/local.ts';
import { forgetInUse, noteInUse } from '../agent/pool/in-use.ts';
import { type Lease, undoLease } from '../agent/pool/lease.ts';
import { systemClock } from '../agent/port/clock.ts';
import { requireNamespace, takeAddress, usableEnis } from './address.ts';
import { type Configuration, refuse, refusePrevResult, type Variables } from './call.ts';
import { makeAttachment, removeAttachment } from './kernel.ts';
import { requireLease } from './lost.ts';
import { limitsOf } from './pod-share.ts';
import { interfaceRoutes, linkInterfaces, linkRoutes, renderResult } from './result.ts';
import { timed } from './stopwatch.ts';

/**
 * For so long an ADD tries further addresses after the kernel has said that an address is in use. A pod with NET_ADMIN
 * can occupy a whole pool, and each try takes some 30 ms. The runtime waits two minutes for its pod (kubelet's
 * runtimeRequestTimeout). Its next attempt continues where this one ended, since this one has left notes.
 * https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/
 */
const PATIENCE_MS = 10_000;

/**
 * Takes an address by a rename, then makes its attachment. A failure undoes everything and leaves the address as it
 * was. Asks neither EC2 nor IMDS.
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
      const { ipv6 } = timed('kernel', () =>
        makeAttachment(attachment, netns, eni.device, closedTable(node, variables.pod, ifName)),
      );
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
      // performance.now() counts from the start of this process.
      if (performance.now() > PATIENCE_MS) throw error;
    }
  }
}

/** @throws CNI_FIELD, CNI_CONFIG */
export function refuseOfWhole(configuration: Configuration): void {
  refuse({ ipam: configuration.raw['ipam'] });
  refusePrevResult(configuration, 'eniboot makes the interface');
}

/** False when this fails too. The lease then stays, so that DEL and garbage collection can try again. */
function takeBack(lease: Lease, netns: string): boolean {
  try {
    removeAttachment(lease.address, [netns]);
  } catch {
    return false;
  }
  undoLease(lease);
  return true;
}
