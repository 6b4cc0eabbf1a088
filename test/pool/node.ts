// A simulated node's pool as a test reads it from outside, and pods that only the pool knows. A lease is a file: a test takes and
// ends one as the plugin does, by a rename.
import { readdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { rangeOf, toAddress } from '../../agent/host/ipv4.ts';
import type { ExecResult } from '../../agent/port/exec-result.ts';
import type { Cloud, Instance } from '../aws/index.ts';
import { configText, launchNode, type Node, type NodeOptions } from '../boot/node.ts';

const states = ['free', 'leased', 'cooling', 'retiring'] as const;
type State = (typeof states)[number];

/** A booted node; `pool` is the text of its pool configuration. */
export async function bootedNode(cloud: Cloud, pool: string, options: NodeOptions = {}): Promise<Node> {
  const node = await launchNode(cloud, { config: configText(cloud, `pool: ${pool}\n`), ...options });
  const { status, result } = await node.boot();
  if (status?.verdict !== 'ready')
    throw new Error(`not booted: ${JSON.stringify(status?.failure)} ${result.stderr}`);
  return node;
}

export async function refill(node: Node): Promise<ExecResult & { changes: string[]; waiting: string[] }> {
  const result = await node.eniboot(['pool', 'refill', '--json']);
  const answer = result.stdout === '' ? {} : (JSON.parse(result.stdout) as object);
  return { changes: [], waiting: [], ...answer, ...result };
}

export function poolDirectory(instance: Instance): string {
  return join(instance.root, 'run/eniboot/pool');
}

/** Names of entries in a state, in the order of addresses. */
export function entries(instance: Instance, state: State | 'leaving' | 'leaving-enis'): string[] {
  return names(join(poolDirectory(instance), state)).sort(byAddress);
}

/** CIDRs with a marker, with their ENI. */
export function markers(instance: Instance): string[] {
  const owned = join(poolDirectory(instance), 'owned');
  return names(owned)
    .flatMap((eniId) => names(join(owned, eniId)).map((name) => `${eniId} ${name.replace('-', '/')}`))
    .sort();
}

/** The assignments of the node's pod ENIs in EC2, in the form of markers. */
export function assigned(instance: Instance): string[] {
  return instance.enis
    .filter((eni) => eni.tags.get('eniboot:role') === 'pods')
    .flatMap((eni) =>
      [...eni.prefixes, ...eni.secondaryIps.map((ip) => `${ip}/32`)].map((cidr) => `${eni.id} ${cidr}`),
    )
    .sort();
}

/** Leases so many addresses for pods, lowest first, of those that have rested or never had a pod. */
export function lease(instance: Instance, count: number): void {
  const pool = poolDirectory(instance);
  const rested = (['free', 'cooling'] as const)
    .flatMap((state) => entries(instance, state).map((name) => ({ state, name })))
    .filter(({ name }) => /,(?:0|new)$/.test(name))
    .sort((a, b) => byAddress(a.name, b.name));
  for (const { state, name } of rested.slice(0, count)) {
    const [address, eniId] = name.split(',');
    renameSync(join(pool, state, name), join(pool, 'leased', `${address},${eniId},c-${address},eth0`));
  }
}

/** Ends leases; their addresses count as released at so many milliseconds of the boot clock. */
export function end(instance: Instance, count: number, releasedAtMs: number): void {
  const pool = poolDirectory(instance);
  for (const name of entries(instance, 'leased').slice(-count)) {
    const [address, eniId] = name.split(',');
    renameSync(join(pool, 'leased', name), join(pool, 'cooling', `${address},${eniId},${releasedAtMs}`));
  }
}

export function bootClockMs(): number {
  return Math.round(Number.parseFloat(readFileSync('/proc/uptime', 'utf8')) * 1000);
}

/** What must hold whenever no program works in the pool, after any kill. */
export function poolProblems(instance: Instance): string[] {
  const problems: string[] = [];
  const seen = new Map<string, string>();
  for (const state of states) {
    for (const name of entries(instance, state)) {
      const [address = '', eniId = ''] = name.split(',');
      const key = `${eniId} ${address}`;
      if (seen.has(key)) problems.push(`${key} is in ${seen.get(key)} and ${state}`);
      seen.set(key, state);
    }
  }
  const leaving = entries(instance, 'leaving').map((name) => {
    const [prefix = '', eniId = ''] = name.split(',');
    return `${eniId} ${prefix.replace('-', '/')}`;
  });
  const adding = names(join(poolDirectory(instance), 'adding'));
  for (const marker of markers(instance)) {
    const [eniId = '', cidr = ''] = marker.split(' ');
    const { first, last } = rangeOf(cidr);
    for (let address = first; address <= last; address += 1) {
      const present = seen.delete(`${eniId} ${toAddress(address)}`);
      if (!present && !leaving.includes(marker) && !adding.includes(cidr.replace('/', '-')))
        problems.push(`${marker} lacks ${toAddress(address)}`);
    }
  }
  for (const [key, state] of seen) problems.push(`${key} in ${state} has no marker`);
  return problems;
}

/** Addresses that a pod could get, and that EC2 has not assigned or the egress set does not have. */
export async function deadAddresses(instance: Instance): Promise<string[]> {
  const reachable = [...entries(instance, 'free'), ...entries(instance, 'cooling')];
  const inEc2 = assigned(instance);
  const { stdout } = await instance.run('nft', ['-j', 'list', 'set', 'inet', 'eniboot', 'pool4']);
  const ranges = egressRanges(stdout);
  return reachable.flatMap((name) => {
    const [address = '', eniId = ''] = name.split(',');
    const value = rangeOf(`${address}/32`).first;
    const has = inEc2.some((one) => {
      const [id = '', cidr = ''] = one.split(' ');
      const { first, last } = rangeOf(cidr);
      return id === eniId && first <= value && value <= last;
    });
    const leaves = ranges.some(({ first, last }) => first <= value && value <= last);
    return [
      ...(has ? [] : [`${address} of ${eniId} is not in EC2`]),
      ...(leaves ? [] : [`${address} has no egress`]),
    ];
  });
}

/** After EC2 has settled: the pool is whole, it equals EC2, no address in reach is dead, and nothing has leaked. */
export async function agrees(cloud: Cloud, { instance }: Node): Promise<void> {
  await cloud.settled();
  assert.equal(poolProblems(instance), []);
  assert.equal(markers(instance), assigned(instance), 'markers and EC2 agree');
  assert.equal(await deadAddresses(instance), []);
  assert.equal(cloud.leakReport(), []);
}

/** Number of addresses in the egress set that are not in the pool. */
export async function strangersInEgress(instance: Instance): Promise<number> {
  const { stdout } = await instance.run('nft', ['-j', 'list', 'set', 'inet', 'eniboot', 'pool4']);
  const size = (ranges: { first: number; last: number }[]) =>
    ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0);
  return size(egressRanges(stdout)) - size(markers(instance).map((one) => rangeOf(one.split(' ')[1] ?? '')));
}

function egressRanges(json: string): { first: number; last: number }[] {
  const { nftables } = JSON.parse(json) as { nftables: { set?: { elem?: unknown[] } }[] };
  return nftables
    .flatMap((one) => one.set?.elem ?? [])
    .map((element) => {
      if (typeof element === 'string') return rangeOf(`${element}/32`);
      const { range, prefix } = element as {
        range?: [string, string];
        prefix?: { addr: string; len: number };
      };
      if (prefix !== undefined) return rangeOf(`${prefix.addr}/${prefix.len}`);
      const [first = '', last = ''] = range ?? [];
      return { first: rangeOf(`${first}/32`).first, last: rangeOf(`${last}/32`).first };
    });
}

function names(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch {
    return [];
  }
}

function byAddress(a: string, b: string): number {
  const value = (name: string) => (/^[\d.]+/.test(name) ? rangeOf(`${name.split(/[,-]/)[0]}/32`).first : 0);
  return value(a) - value(b) || a.localeCompare(b);
}
