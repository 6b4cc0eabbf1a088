// The state that is compared with the model: pool files, kernel objects, egress set and EC2, each read without the product's
// code.

import { rangeOf, toAddress } from '../../agent/host/ipv4.ts';
import { addressOfHostLink } from '../../agent/host/pod-link-name.ts';
import type { Machine } from './machine.ts';

/** An address's file in the pool. */
export interface Entry {
  eniId: string;
  address: string;
  state: 'free' | 'leased' | 'cooling' | 'retiring';
  /** Owner (`container,interface`) of a leased address; release stamp of any other. */
  rest: string;
}

export interface Look {
  /** Boot clock, in milliseconds. */
  nowMs: number;
  entries: Entry[];
  /** Markers as `<eni> <cidr>`, sorted. */
  owned: string[];
  /** Prefixes that no lease may use, as `<eni> <cidr>`, and why. */
  leaving: Map<string, string>;
  /** ENIs that are being returned to EC2. */
  leavingEnis: string[];
  /** Names below adding/, which is empty after each run. */
  unfinished: string[];
  /** Names of the node's parts of attachments, by address. */
  kernel: Map<string, Set<string>>;
  /** Ranges of the egress set, ascending and merged; undefined when there is no set. */
  egress: string | undefined;
  /** Interfaces of the namespaces asked for, without `lo`, each with its addresses; undefined when the namespace is gone. */
  inside: Map<string, string[] | undefined>;
  /** Pod ENIs that the plugin knows, in the order in which it fills them. */
  podEnis: string[];
  /** The addresses and prefixes that EC2 has assigned to the node's pod ENIs, as `<eni> <cidr>`. */
  ec2: string[];
}

const POOL = '/run/eniboot/pool';
/** A script whose output readLook() understands; `== inside NAME` parts may follow. */
export const LOOK = `cut -d' ' -f1 /proc/uptime
echo == pool; cd ${POOL} && find . -type f
echo == links; ls /sys/class/net
echo == rules; ip -4 rule show
echo == routes; ip -4 route show table all proto 140
echo == neighbours; ip neigh show nud permanent
echo == node; grep -o 'eni-[0-9a-f]*' /run/eniboot/node.json
echo == egress; nft list set inet eniboot pool4 2>&1
`;

export function readLook(text: string, namespaces: string[], instance: Machine['instance']): Look {
  const parts = new Map<string, string[]>();
  for (const part of text.split(/^== /m)) {
    const [name = '', ...lines] = part.split('\n');
    parts.set(
      name,
      lines.filter((line) => line !== ''),
    );
  }
  const of = (name: string) => parts.get(name) ?? [];
  return {
    nowMs: Math.round(Number.parseFloat(text) * 1000),
    ...poolOf(of('pool')),
    kernel: kernelOf(of('links'), of('rules'), of('routes'), of('neighbours')),
    egress: egressOf(of('egress').join(' ')),
    inside: new Map(namespaces.map((name) => [name, insideOf(of(`inside ${name}`))])),
    podEnis: of('node'),
    ec2: assignedBy(instance),
  };
}

/** The pool, from the paths of all files below its folder. */
export function poolOf(
  paths: string[],
): Pick<Look, 'entries' | 'owned' | 'leaving' | 'leavingEnis' | 'unfinished'> {
  const files = paths.map((path) => path.replace(/^\.\//, '').split('/'));
  const below = (folder: string) => files.filter(([first]) => first === folder).map((path) => path.slice(1));
  return {
    entries: (['free', 'leased', 'cooling', 'retiring'] as const).flatMap((state) =>
      below(state).map(([name = '']) => {
        const [address = '', eniId = '', ...rest] = name.split(',');
        return { state, address, eniId, rest: rest.join(',') };
      }),
    ),
    owned: below('owned')
      .map(([eniId, cidr = '']) => `${eniId} ${cidr.replace('-', '/')}`)
      .sort(),
    leaving: new Map(
      below('leaving').map(([name = '']) => {
        const [cidr = '', eniId = '', why = ''] = name.split(',');
        return [`${eniId} ${cidr.replace('-', '/')}`, why];
      }),
    ),
    leavingEnis: below('leaving-enis').map(([eniId = '']) => eniId),
    unfinished: below('adding').map((path) => path.join('/')),
  };
}

export function assignedBy(instance: Machine['instance']): string[] {
  return instance.enis
    .filter((eni) => eni.tags.get('eniboot:role') === 'pods' && eni.attachment?.status !== 'detaching')
    .flatMap((eni) => eni.prefixes.map((cidr) => `${eni.id} ${cidr}`));
}

function kernelOf(
  links: string[],
  rules: string[],
  routes: string[],
  neighbours: string[],
): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  const add = (address: string | undefined, name: string) => {
    if (address === undefined) return;
    found.set(address, (found.get(address) ?? new Set()).add(name));
  };
  for (const link of links) add(addressOfHostLink(link), 'link');
  for (const rule of rules) {
    const table = /^(?:1024|1025):.* lookup (\d+) proto 140/.exec(rule)?.[1];
    if (table === undefined) continue;
    add(toAddress(Number(table)), rule.startsWith('1024') ? 'rule' : 'mark rule');
  }
  for (const route of routes) {
    const table = / table (\d+)/.exec(route)?.[1];
    const [first = '', second = ''] = route.split(' ');
    const to = first === 'throw' ? `throw ${second}` : first;
    add(table === undefined ? to : toAddress(Number(table)), table === undefined ? 'route' : `table: ${to}`);
  }
  for (const line of neighbours) {
    const [, address, link = '', mac] = /^(\S+) dev (\S+) lladdr (\S+)/.exec(line) ?? [];
    if (link.startsWith('enb')) add(address, `neighbour ${mac}`);
  }
  return found;
}

/** The node's parts of a whole attachment, and its routes by CIDR. */
export function attachmentOf(address: string, vpcCidrs: string[]): Set<string> {
  const { first } = rangeOf(`${address}/32`);
  const mac = (first.toString(16).padStart(8, '0').match(/../g) ?? []).join(':');
  return new Set([
    'link',
    'rule',
    'mark rule',
    'route',
    `neighbour 02:e1:${mac}`,
    ...vpcCidrs.map((cidr) => `table: ${cidr}`),
  ]);
}

export function rangesOf(cidrs: string[]): string {
  const ranges = cidrs.map(rangeOf).sort((a, b) => a.first - b.first);
  const merged: { first: number; last: number }[] = [];
  for (const range of ranges) {
    const before = merged.at(-1);
    if (before !== undefined && range.first <= before.last + 1)
      before.last = Math.max(before.last, range.last);
    else merged.push({ ...range });
  }
  return merged.map(({ first, last }) => `${toAddress(first)}-${toAddress(last)}`).join(' ');
}

function egressOf(text: string): string | undefined {
  if (/No such file or directory/.test(text)) return undefined;
  const [, elements = ''] = /elements = \{([^}]*)\}/.exec(text) ?? [];
  const cidrs = elements.split(',').flatMap((element) => {
    const [from = '', to] = element.trim().split('-');
    if (from === '') return [];
    if (to === undefined) return [from];
    const { first } = rangeOf(`${from}/32`);
    const { first: last } = rangeOf(`${to}/32`);
    return Array.from({ length: last - first + 1 }, (_, at) => `${toAddress(first + at)}/32`);
  });
  return rangesOf(cidrs);
}

/** Interfaces with their IPv4 addresses, without `lo`, from `ip -br`; undefined when the namespace does not exist. */
export function insideOf(lines: string[]): string[] | undefined {
  if (lines[0] === 'gone') return undefined;
  return lines
    .map((line) => {
      const [name = '', , ...addresses] = line.split(/\s+/);
      return [name.split('@')[0], ...addresses.filter((one) => /^\d+\./.test(one))].join(' ');
    })
    .filter((line) => line !== '' && line !== 'lo' && !line.startsWith('lo '));
}
