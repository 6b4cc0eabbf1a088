import { existsSync } from 'node:fs';
import { type Attachment, attachmentOf } from '../agent/host/attachment.ts';
import { differencesOf, lookAtAttachment } from '../agent/host/attachment-state.ts';
import { readNodeFile } from '../agent/host/node-file.ts';
import { Failure } from '../agent/messages/failure.ts';
import { findLease } from '../agent/pool/lease.ts';
import { type Configuration, isOwnNamespace, ownerOf, type Variables } from './call.ts';
import { deviceOf } from './kernel.ts';

/**
 * Compares an attachment with what ADD makes: the lease, and every object its lines name. More than
 * that may be there, since later plugins add to it. Names all differences. @throws ATTACHMENT_DIFFERS
 */
export function check(variables: Variables, configuration: Configuration): void {
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
  const attachment = attachmentOf(node, lease.address, eni.subnetCidr, ifName);
  const problems = [
    ...checkResult(prevResult, attachment),
    ...differencesOf(
      lookAtAttachment(attachment, {
        netns,
        eniDevice: deviceOf(eni.mac) ?? '',
        eniMac: eni.mac,
        ipv6: existsSync('/proc/sys/net/ipv6'),
      }),
    ),
  ];
  if (problems.length > 0) throw differs(problems);
}

function checkResult(prevResult: object, a: Attachment): string[] {
  const { ips, ip4 } = prevResult as { ips?: { address?: unknown }[]; ip4?: { ip?: unknown } };
  const listed = Array.isArray(ips) ? ips.map((ip) => ip?.address) : [ip4?.ip];
  const own = `${a.address}/${a.prefixLength}`;
  return listed.includes(own) ? [] : [`prevResult does not hold ${own}`];
}

function differs(problems: string[]): Failure {
  return new Failure('ATTACHMENT_DIFFERS', problems.join('; '), { problems });
}
