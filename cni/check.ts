import { type Attachment, attachmentOf } from '../agent/attachment/attachment.ts';
import { differencesOf, lookAtAttachment } from '../agent/attachment/differences.ts';
import { deviceOf } from '../agent/host/devices.ts';
import { type NodePodEni, readNodeFile } from '../agent/host/node-file.ts';
import { Failure } from '../agent/messages/failure.ts';
import { findLease } from '../agent/pool/lease.ts';
import { noteOf } from '../agent/pool/lease-note.ts';
import { isThere } from '../agent/port/fs.ts';
import { type Configuration, isOwnNamespace, ownerOf, requirePrevResult, type Variables } from './call.ts';
import { addressesIn } from './result.ts';

/**
 * Compares an attachment with what ADD makes: the lease, and every object of the plan. Further objects are accepted,
 * since later plugins add some. Names all differences.
 *
 * @throws ATTACHMENT_DIFFERS
 */
export function check(variables: Variables, configuration: Configuration): void {
  const { problems, eni, attachment } = checkLease(variables, configuration);
  throwIfAny([...problems, ...checkObjects(attachment, variables.netns, eni)]);
}

/**
 * Checks the lease of an attachment, its ENI, which must be on this node, and prevResult, which must contain the
 * address. Adds what is wrong to a list.
 *
 * @throws ATTACHMENT_DIFFERS when nothing is left with which to compare the rest, CNI_CONFIG
 */
export function checkLease(
  variables: Variables,
  configuration: Configuration,
): { problems: string[]; attachment: Attachment; eni: NodePodEni } {
  const { netns, ifName } = variables;
  const prevResult = requirePrevResult(configuration, 'CHECK needs the result of the ADD');
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

/** The pod's IPv6 according to prevResult; undefined when it was off at the ADD, or when the node got IPv6 after the pod. */
export function givenIpv6({ ipv6 }: Attachment, prevResult: unknown): Attachment['ipv6'] {
  return addressesIn(prevResult).includes(`${ipv6?.address}/${ipv6?.prefixLength}`) ? ipv6 : undefined;
}

/** @param eni undefined when another plugin has made the pod's interface; that plugin checks it. */
export function checkObjects(a: Attachment, netns: string, eni: NodePodEni | undefined): string[] {
  return differencesOf(
    lookAtAttachment(
      a,
      {
        eniDevice: eni === undefined ? undefined : (deviceOf(eni.mac) ?? ''),
        ipv6: isThere('/proc/sys/net/ipv6'),
      },
      netns,
    ),
  );
}

/** @throws ATTACHMENT_DIFFERS with all problems. */
export function throwIfAny(problems: string[]): void {
  if (problems.length > 0) throw differs(problems);
}

function differs(problems: string[]): Failure {
  return new Failure('ATTACHMENT_DIFFERS', problems.join('; '), { problems });
}
