// eniboot-ptp: the unnumbered link alone, behind a plugin that has made the pod's interface with an address of the
// pool: the node itself, Services and everything outside the VPC.
import { attachmentOf } from '../agent/host/attachment.ts';
import { hasHostLink } from '../agent/host/devices.ts';
import { readNodeFile } from '../agent/host/node-file.ts';
import { Failure, isFailure } from '../agent/messages/failure.ts';
import { findLease } from '../agent/pool/lease.ts';
import { noteLease } from '../agent/pool/lease-note.ts';
import { systemClock } from '../agent/port/clock.ts';
import { requireNamespace } from './address.ts';
import { type Configuration, ownerOf, refuse, type Variables } from './call.ts';
import { checkLease, checkObjects, givenIpv6, throwIfAny } from './check.ts';
import { detach } from './del.ts';
import { makeAttachment, removeAttachment } from './kernel.ts';
import { limitsOf } from './limits.ts';
import { requireLease } from './lost.ts';
import { extendResult } from './result.ts';
import { timed } from './stopwatch.ts';

/** @throws CNI_FIELD */
export function refuseOfPtp({ raw }: Configuration): void {
  refuse({ ipam: raw['ipam'] });
}

/** Makes the link for the address that prevResult holds; a failure takes the link back, and nothing else. */
export function ptpAdd(variables: Variables, configuration: Configuration): Record<string, unknown> {
  const { netns, ifName } = variables;
  requireNamespace(netns);
  const node = readNodeFile();
  const { prevResult } = configuration.raw;
  if (typeof prevResult !== 'object' || prevResult === null) {
    throw new Failure(
      'CNI_CONFIG',
      "prevResult: is missing: eniboot-ptp comes after the plugin that makes the pod's interface",
      { path: 'prevResult' },
    );
  }
  const lease = timed('lease', () => findLease(ownerOf(variables)));
  const eni = node.podEnis.find((one) => one.eniId === lease?.eniId);
  if (lease === undefined || eni === undefined) {
    throw new Failure(
      'CNI_CONFIG',
      `prevResult: its address is not one that ${variables.containerId} has leased from the pool of this node; the plugin before needs "ipam": {"type": "eniboot-ipam"}`,
      { path: 'prevResult' },
    );
  }
  const limits = limitsOf(variables, configuration, node);
  const whole = attachmentOf(node, lease.address, eni, ifName);
  const attachment = { ...whole, limits, ipv6: givenIpv6(whole, prevResult) };
  // Before anything is made: an error here leaves nothing behind.
  const result = extendResult(
    configuration.cniVersion,
    prevResult as Record<string, unknown>,
    attachment,
    netns,
  );
  if (hasHostLink(lease.address)) {
    throw new Failure('ALREADY_ATTACHED', `${variables.containerId} has its link to the node already`, {
      link: attachment.hostLink,
    });
  }
  const { pod } = variables;
  if (!noteLease(lease, { netns, network: configuration.name, pod, limits, madeMs: systemClock.bootMs() }))
    throw new Failure('CNI_CONFIG', `prevResult: the lease of ${lease.address} has just ended`, {
      path: 'prevResult',
    });
  try {
    timed('kernel', () => makeAttachment(attachment, netns, undefined));
    requireLease(lease, netns, configuration.name);
  } catch (error) {
    if (isFailure(error, 'LEASE_LOST')) throw error;
    takeBack(lease.address, netns);
    throw error;
  }
  return result;
}

/** Takes the link away; the lease is eniboot-ipam's to end. */
export function ptpDel(variables: Variables): void {
  const lease = findLease(ownerOf(variables));
  if (lease !== undefined) detach(lease, variables.netns);
}

/** The link's both ends, and that the interface before it has the address. @throws ATTACHMENT_DIFFERS */
export function ptpCheck(variables: Variables, configuration: Configuration): void {
  const { problems, attachment } = checkLease(variables, configuration);
  throwIfAny([...problems, ...checkObjects(attachment, variables.netns, undefined)]);
}

/** When this fails too, the lease stays, by which DEL finds what is left. */
function takeBack(address: string, netns: string): void {
  try {
    removeAttachment(address, [netns]);
  } catch (error) {
    if (!isFailure(error)) throw error;
  }
}
