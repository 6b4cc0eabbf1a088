// What a pod's attachment leaves on the node, found and removed by its address alone: its host link, its two
// policy rules and its routing table all carry the address in their name or number.

import { run } from '../port/exec.ts';
import { must } from './command.ts';
import { toAddress, toNumber } from './ipv4.ts';
import { ROUTE_PROTOCOL } from './names.ts';
import { addressOfHostLink, hostLinkOf } from './pod-link-name.ts';

/** Table numbers below this are no addresses: 0.0.0.0/8 is never a pod's (RFC 1122). */
const LOWEST_POD_TABLE = 2 ** 24;

export interface PodTraces {
  /** Addresses that have a host link. */
  links: Set<string>;
  /** Addresses that have a host link or a policy rule. */
  all: Set<string>;
}

export async function listPodTraces(): Promise<PodTraces> {
  const [links, rules] = await Promise.all([
    must('KERNEL_QUERY', 'ip', ['-j', 'link', 'show', 'type', 'veth']),
    must('KERNEL_QUERY', 'ip', ['-j', '-4', 'rule', 'show']),
  ]);
  const linked = new Set(
    parse(links.stdout).flatMap((link) => addressOfHostLink(String(link['ifname'])) ?? []),
  );
  const ruled = parse(rules.stdout)
    .filter((rule) => String(rule['protocol']) === String(ROUTE_PROTOCOL))
    .map((rule) => Number(rule['table']))
    .filter((table) => Number.isInteger(table) && table >= LOWEST_POD_TABLE)
    .map(toAddress);
  return { links: linked, all: new Set([...linked, ...ruled]) };
}

/** Removes whatever there is; what is not there is no error. False when something still stands afterwards. */
export async function removePodTraces(address: string): Promise<boolean> {
  const table = toNumber(address);
  const { stdout } = await must('KERNEL_QUERY', 'ip', ['-j', '-4', 'rule', 'show']);
  const rules = parse(stdout).filter(
    (rule) => rule['table'] === String(table) && String(rule['protocol']) === String(ROUTE_PROTOCOL),
  );
  const lines = [
    `link del dev ${hostLinkOf(address)}`,
    ...rules.map((rule) => `rule del priority ${rule['priority']} table ${table} protocol ${ROUTE_PROTOCOL}`),
    `route flush table ${table} proto ${ROUTE_PROTOCOL}`,
  ];
  // Each line may find nothing, so the batch goes on and its exit code says nothing: look afterwards.
  await run('ip', ['-force', '-4', '-batch', '-'], { input: `${lines.join('\n')}\n` });
  const left = await listPodTraces();
  return !left.all.has(address);
}

function parse(json: string): Record<string, unknown>[] {
  return json.trim() === '' ? [] : (JSON.parse(json) as Record<string, unknown>[]);
}
