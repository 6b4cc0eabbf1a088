import { type Attachment, attachmentOf, POD_VETH, turnBackRoutes } from '../agent/host/attachment.ts';
import { readNodeFile } from '../agent/host/node-file.ts';
import { Failure } from '../agent/messages/failure.ts';
import { findLease } from '../agent/pool/lease.ts';
import { runSync } from '../agent/port/exec-sync.ts';
import { type Configuration, isOwnNamespace, ownerOf, type Variables } from './call.ts';

/**
 * Compares an attachment with what ADD makes: lease, links, neighbours, addresses, routes and rules. More than
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
    ...checkHost(attachment),
    ...checkPod(attachment, netns, eni.mac),
  ];
  if (problems.length > 0) throw differs(problems);
}

function checkResult(prevResult: object, a: Attachment): string[] {
  const { ips, ip4 } = prevResult as { ips?: { address?: unknown }[]; ip4?: { ip?: unknown } };
  const listed = Array.isArray(ips) ? ips.map((ip) => ip?.address) : [ip4?.ip];
  const own = `${a.address}/${a.prefixLength}`;
  return listed.includes(own) ? [] : [`prevResult does not hold ${own}`];
}

function checkHost(a: Attachment): string[] {
  const problems = checkLink(show('link', 'show', 'dev', a.hostLink)[0], a.hostLink, { mac: a.hostMac });
  if (problems.length > 0) return problems;
  const neighbours = show('neigh', 'show', 'dev', a.hostLink);
  const main = show('-4', 'route', 'show', 'table', 'main', 'dev', a.hostLink);
  const own = show('-4', 'route', 'show', 'table', String(a.table));
  const rules = show('-4', 'rule', 'show', 'table', String(a.table));
  return [
    ...expectNeighbour(neighbours, a.address, a.podMac, a.hostLink),
    ...expect(
      main.some((route) => route['dst'] === a.address),
      `the route to ${a.address} by ${a.hostLink}`,
    ),
    ...turnBackRoutes(a).flatMap((cidr) =>
      expect(
        own.some((route) => sameCidr(route['dst'], cidr) && route['gateway'] === a.address),
        `the route to ${cidr} in table ${a.table}`,
      ),
    ),
    ...expect(
      rules.some((rule) => rule['iif'] === a.hostLink),
      `the rule for packets from ${a.hostLink}`,
    ),
    ...expect(
      rules.some((rule) => rule['src'] === a.address),
      `the rule for Service traffic from ${a.address}`,
    ),
  ];
}

function checkPod(a: Attachment, netns: string, eniMac: string): string[] {
  const inPod = (...args: string[]) => showIn(netns, ...args);
  const [link] = inPod('-d', 'address', 'show', 'dev', a.ifName);
  const [veth] = inPod('link', 'show', 'dev', POD_VETH);
  const problems = [
    ...checkLink(link, a.ifName, { mac: eniMac, kind: 'ipvlan' }),
    ...checkLink(veth, POD_VETH, { mac: a.podMac }),
  ];
  if (problems.length > 0) return problems;
  const addresses = (link?.['addr_info'] ?? []) as Record<string, unknown>[];
  const routes = inPod('-4', 'route', 'show', 'table', 'main');
  const neighbours = inPod('neigh', 'show', 'dev', POD_VETH);
  return [
    ...expect(
      addresses.some((one) => one['local'] === a.address && one['prefixlen'] === a.prefixLength),
      `${a.address}/${a.prefixLength} on ${a.ifName}`,
    ),
    ...a.routes.flatMap((cidr) =>
      expect(
        routes.some(
          (route) =>
            sameCidr(route['dst'], cidr) && route['gateway'] === a.router && route['dev'] === a.ifName,
        ),
        `the pod's route to ${cidr} by ${a.ifName}`,
      ),
    ),
    ...a.egressRoutes.flatMap((cidr) =>
      expect(
        routes.some((route) => sameCidr(route['dst'], cidr) && route['dev'] === POD_VETH),
        `the pod's route to ${cidr} by ${POD_VETH}`,
      ),
    ),
    ...expect(
      routes.some((route) => route['dst'] === 'default' && route['dev'] === POD_VETH),
      `the pod's default route by ${POD_VETH}`,
    ),
    ...a.nodeAddresses.flatMap((address) => expectNeighbour(neighbours, address, a.hostMac, POD_VETH)),
  ];
}

function checkLink(
  link: Record<string, unknown> | undefined,
  name: string,
  wanted: { mac: string; kind?: string },
): string[] {
  if (link === undefined) return [`${name} is missing`];
  const flags = (link['flags'] ?? []) as unknown[];
  const kind = (link['linkinfo'] as Record<string, unknown> | undefined)?.['info_kind'];
  return [
    ...(flags.includes('UP') ? [] : [`${name} is down`]),
    ...(link['address'] === wanted.mac
      ? []
      : [`${name} has MAC ${String(link['address'])}, not ${wanted.mac}`]),
    ...(wanted.kind === undefined || kind === wanted.kind
      ? []
      : [`${name} is ${String(kind)}, not ${wanted.kind}`]),
  ];
}

function expectNeighbour(
  neighbours: Record<string, unknown>[],
  address: string,
  mac: string,
  device: string,
): string[] {
  return expect(
    neighbours.some(
      (one) =>
        one['dst'] === address &&
        one['lladdr'] === mac &&
        ((one['state'] ?? []) as unknown[]).includes('PERMANENT'),
    ),
    `the permanent neighbour ${address} on ${device}`,
  );
}

function expect(holds: boolean, what: string): string[] {
  return holds ? [] : [`${what} is missing`];
}

/** `ip` leaves out the length of a single address. */
function sameCidr(shown: unknown, cidr: string): boolean {
  return shown === cidr || `${String(shown)}/32` === cidr;
}

function show(...args: string[]): Record<string, unknown>[] {
  return parse(runSync('ip', ['-j', ...args]).stdout);
}

function showIn(netns: string, ...args: string[]): Record<string, unknown>[] {
  return parse(runSync('nsenter', [`--net=${netns}`, '--', 'ip', '-j', ...args]).stdout);
}

/** Empty where `ip` found nothing to show. */
function parse(json: string): Record<string, unknown>[] {
  try {
    return JSON.parse(json) as Record<string, unknown>[];
  } catch {
    return [];
  }
}

function differs(problems: string[]): Failure {
  return new Failure('ATTACHMENT_DIFFERS', problems.join('; '), { problems });
}
