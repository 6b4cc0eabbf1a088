import { type Attachment, attachmentOf } from '../agent/host/attachment.ts';
import { differencesOf, lookAtAttachment } from '../agent/host/attachment-state.ts';
import { deviceOf } from '../agent/host/devices.ts';
import { type NodePodEni, readNodeFile } from '../agent/host/node-file.ts';
import { Failure } from '../agent/messages/failure.ts';
import { findLease } from '../agent/pool/lease.ts';
import { noteOf } from '../agent/pool/lease-note.ts';
import { isThere } from '../agent/port/fs.ts';
import { type Configuration, isOwnNamespace, ownerOf, type Variables } from './call.ts';
import { addressesIn } from './result.ts';

/**
 * Compares an attachment with what ADD makes: the lease, and every object its lines name. More than
 * that may be there, since later plugins add to it. Names all differences. @throws ATTACHMENT_DIFFERS
 */
export function check(variables: Variables, configuration: Configuration): void {
  const { problems, eni, attachment } = checkLease(variables, configuration);
  throwIfAny([...problems, ...checkObjects(attachment, variables.netns, eni)]);
}

/**
 * The lease of an attachment, on an ENI that is here, and prevResult, which must hold its address; problems go
 * into a list. @throws ATTACHMENT_DIFFERS when there is nothing to compare the rest with, CNI_CONFIG
 */
export function checkLease(
  variables: Variables,
  configuration: Configuration,
): { problems: string[]; attachment: Attachment; eni: NodePodEni } {
  const { netns, ifName } = variables;
  const { prevResult } = configuration.raw;
  if (typeof prevResult !== 'object' || prevResult === null) {
    throw new Failure('CNI_CONFIG', 'prevResult: CHECK needs the result of the ADD', { path: 'prevResult' });
  }
  const lease = findLease(ownerOf(variables));
  if (lease === undefined) throw differs([`${variables.containerId} has no address for ${ifName}`]);
  if (isOwnNamespace(netns) !== false) throw differs([`the network namespace ${netns} is not there`]);
  const node = readNodeFile();
  const eni = node.podEnis.find((one) => one.eniId === lease.eniId);
  if (eni === undefined)
    throw differs([`${lease.eniId}, which ${lease.address} belongs to, is not on this node`]);
  const made = attachmentOf(node, lease.address, eni, ifName);
  const limits = noteOf(lease)?.limits ?? {};
  const attachment = { ...made, limits, ipv6: givenIpv6(made, prevResult) };
  const own = `${attachment.address}/${attachment.prefixLength}`;
  const problems = addressesIn(prevResult).includes(own) ? [] : [`prevResult does not hold ${own}`];
  return { problems, attachment, eni };
}

/** What prevResult holds of the pod's IPv6: nothing where that was off, or came to the node later than the pod. */
export function givenIpv6({ ipv6 }: Attachment, prevResult: unknown): Attachment['ipv6'] {
  return addressesIn(prevResult).includes(`${ipv6?.address}/${ipv6?.prefixLength}`) ? ipv6 : undefined;
}

/** @param eni undefined where another plugin has made the pod's interface, and knows what it should be. */
export function checkObjects(a: Attachment, netns: string, eni: NodePodEni | undefined): string[] {
  return differencesOf(
    lookAtAttachment(a, {
      netns,
      eni: eni === undefined ? undefined : { device: deviceOf(eni.mac) ?? '', mac: eni.mac },
      ipv6: isThere('/proc/sys/net/ipv6'),
    }),
  );
}

/** @throws ATTACHMENT_DIFFERS with all of them. */
export function throwIfAny(problems: string[]): void {
  if (problems.length > 0) throw differs(problems);
}

function differs(problems: string[]): Failure {
  return new Failure('ATTACHMENT_DIFFERS', problems.join('; '), { problems });
}
