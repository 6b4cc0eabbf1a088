// eniboot-ptp: only the unnumbered link, after a plugin that has made the pod's interface with an address of the pool.
// The link leads to the node itself, to Services and to everything outside the VPC.
import { attachmentOf } from '../agent/attachment/attachment.ts';
import { hasHostLink } from '../agent/host/devices.ts';
import { readNodeFile } from '../agent/host/node-file.ts';
import { Failure, isFailure } from '../agent/messages/failure.ts';
import { closedTable } from '../agent/policy/local.ts';
import { findLease } from '../agent/pool/lease.ts';
import { noteLease } from '../agent/pool/lease-note.ts';
import { systemClock } from '../agent/port/clock.ts';
import { requireNamespace } from './address.ts';
import {
  type Configuration,
  ownerOf,
  refuse,
  requirePrevResult,
  type Variables,
  wrongConfig,
} from './call.ts';
import { checkLease, checkObjects, givenIpv6, throwIfAny } from './check.ts';
import { detach } from './del.ts';
import { makeAttachment, removeAttachment } from './kernel.ts';
import { requireLease } from './lost.ts';
import { limitsOf } from './pod-share.ts';
import { extendResult } from './result.ts';
import { timed } from './stopwatch.ts';

/** @throws CNI_FIELD */
export function refuseOfPtp({ raw }: Configuration): void {
  refuse({ ipam: raw['ipam'] });
}

/** Makes the link for the address in prevResult. A failure removes only the link. */
export function ptpAdd(variables: Variables, configuration: Configuration): Record<string, unknown> {
  const { netns, ifName } = variables;
  requireNamespace(netns);
  const node = readNodeFile();
  const why = "is missing: eniboot-ptp comes after the plugin that makes the pod's interface";
  const prevResult = requirePrevResult(configuration, why);
  const lease = timed('lease', () => findLease(ownerOf(variables)));
  const eni = node.podEnis.find((one) => one.eniId === lease?.eniId);
  if (lease === undefined || eni === undefined)
    throw wrongConfig(
      'prevResult',
      `its address is not one that ${variables.containerId} has leased from the pool of this node; the plugin before needs "ipam": {"type": "eniboot-ipam"}`,
    );
  const limits = limitsOf(variables, configuration, node);
  const whole = attachmentOf(node, lease.address, eni, ifName);
  const attachment = { ...whole, limits, ipv6: givenIpv6(whole, prevResult) };
  // Computed before anything is made, so that an error here leaves nothing behind.
  const result = extendResult(configuration.cniVersion, prevResult, attachment, netns);
  if (hasHostLink(lease.address)) {
    throw new Failure('ALREADY_ATTACHED', `${variables.containerId} has its link to the node already`, {
      link: attachment.hostLink,
    });
  }
  const { pod } = variables;
  if (!noteLease(lease, { netns, network: configuration.name, pod, limits, madeMs: systemClock.bootMs() }))
    throw wrongConfig('prevResult', `the lease of ${lease.address} has just ended`);
  try {
    timed('kernel', () => makeAttachment(attachment, netns, undefined, closedTable(node, pod, ifName)));
    requireLease(lease, netns, configuration.name);
  } catch (error) {
    if (isFailure(error, 'LEASE_LOST')) throw error;
    takeBack(lease.address, netns);
    throw error;
  }
  return result;
}

/** Removes the link; eniboot-ipam ends the lease. */
export function ptpDel(variables: Variables): void {
  const lease = findLease(ownerOf(variables));
  if (lease !== undefined) detach(lease, variables.netns);
}

/** Checks both ends of the link, and that the previous plugin's interface has the address. @throws ATTACHMENT_DIFFERS */
export function ptpCheck(variables: Variables, configuration: Configuration): void {
  const { problems, attachment } = checkLease(variables, configuration);
  throwIfAny([...problems, ...checkObjects(attachment, variables.netns, undefined)]);
}

/** When this fails too, the lease stays, and DEL finds by it what is left. */
function takeBack(address: string, netns: string): void {
  try {
    removeAttachment(address, [netns]);
  } catch (error) {
    if (!isFailure(error)) throw error;
  }
}
