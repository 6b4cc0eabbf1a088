// A stand-in for ipvlan on a kernel without it. In a build for tests (test/build/stand-in.ts) it replaces
// agent/kernel/execute.ts. The real executor does everything but the operation that makes an ipvlan. For that the stand-in
// makes a veth whose two directions are tied to the ENI's device by address, as with ipvlan (L2) (switch.sh); the pod's end has
// the ENI's MAC. Where the pod's links are read, the veth is shown as an ipvlan. As ipvlan does, it refuses an address that
// another link of the same ENI has when it is added (ipvlan_addr4_validator_event in drivers/net/ipvlan/ipvlan_main.c).
//
// Files in /run/stand-in: with `ipvlan` a real ipvlan is made; with `no-ipvlan` the kernel has none. A number in `refuse`
// refuses that operation, counted over calls, with the errno and the words behind it. `no-netlink` and `node` concern only
// sessions in the node's namespace. With `defect` a session throws an unexpected error.
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Kernel, Problem } from '../../../agent/kernel/execute.ts';
import * as real from '../../../agent/kernel/execute.ts';
import { IPVLAN_L2, type ListedLink, type Listing } from '../../../agent/kernel/is-there.ts';
import type { Ipvlan, KernelOperation } from '../../../agent/kernel/operation.ts';

import { render } from '../../../agent/kernel/render.ts';
import { SystemCallError } from '../../../agent/port/libc.ts';

export type { Kernel, Problem } from '../../../agent/kernel/execute.ts';

const STATE = '/run/stand-in';
const SYS_NET = '/sys/class/net';
const EAFNOSUPPORT = 97;
const EADDRINUSE = 98;
const EOPNOTSUPP = 95;

/** A link that was made in a session. */
interface Made {
  parent: string;
  name: string;
  port: string;
  /** Another link has the address. */
  taken: boolean;
  addresses: string[];
}

export function inPod<T>(netns: string, work: (kernel: Kernel) => T): T {
  defect();
  return connecting((made) => real.inPod(netns, (kernel) => work(standIn(kernel, made))));
}

export function inPodIfThere<T>(netns: string, work: (kernel: Kernel) => T): T | undefined {
  return connecting((made) => real.inPodIfThere(netns, (kernel) => work(standIn(kernel, made))));
}

function defect(): void {
  if (existsSync(`${STATE}/defect`)) throw new TypeError('a planted defect');
}

export function inNode<T>(work: (kernel: Kernel) => T): T {
  defect();
  // As under RestrictAddressFamilies= without AF_NETLINK (systemd.exec(5)).
  if (existsSync(`${STATE}/no-netlink`)) throw new SystemCallError('socket', EAFNOSUPPORT);
  return real.inNode((kernel) => work(hindered(kernel)));
}

/**
 * The node's kernel with faults: each line of the file `node` is a pattern of commands (render.ts), a tab, and errno and words of
 * the refusal. A line without the tab undoes such an operation as soon as it is done.
 */
function hindered(kernel: Kernel): Kernel {
  const hindrances = (readIfThere(`${STATE}/node`) ?? '').split('\n').filter((line) => line !== '');
  if (hindrances.length === 0) return kernel;
  const one = (operation: KernelOperation): Problem | undefined => {
    const met = hindrances.find((line) => new RegExp(line.split('\t')[0] ?? '').test(render(operation)));
    if (met === undefined) return kernel.run([operation]);
    const [, refusal] = met.split('\t');
    if (refusal === undefined) return undefined;
    const [errno, ...words] = refusal.split(' ');
    return { operation, errno: Number(errno), words: words.join(' ') };
  };
  return Object.assign(Object.create(kernel) as Kernel, { run: runner(one) });
}

/** Runs operations up to the first that is refused. */
function runner(one: (operation: KernelOperation) => Problem | undefined): Kernel['run'] {
  return (operations) => {
    for (const operation of operations) {
      const problem = one(operation);
      if (problem !== undefined) return problem;
    }
    return undefined;
  };
}

/** Starts the programs after the thread is back in the node's namespace. */
function connecting<T>(work: (made: Made[]) => T): T {
  const made: Made[] = [];
  try {
    return work(made);
  } finally {
    const { spawnSync } = process.getBuiltinModule('node:child_process');
    for (const { parent, port, addresses } of made)
      if (addresses.length > 0)
        spawnSync('/bin/sh', [`${STATE}/switch`, parent, port, ...addresses], { stdio: 'inherit' });
  }
}

function standIn(kernel: Kernel, made: Made[]): Kernel {
  const one = (operation: KernelOperation): Problem | undefined => {
    const refused = refusalOf(operation);
    if (refused !== undefined) return refused;
    if (operation.do !== 'make' || existsSync(`${STATE}/ipvlan`)) return kernel.run([operation]);
    const { what } = operation;
    if (what.kind === 'ipvlan') return makeLink(kernel, operation, what, made);
    const of = what.kind === 'address' ? made.find(({ name }) => name === what.device) : undefined;
    if (what.kind !== 'address' || of === undefined) return kernel.run([operation]);
    const words = 'ipvlan: Address already assigned to an ipvlan device';
    if (of.taken) return { operation, errno: EADDRINUSE, words };
    const problem = kernel.run([operation]);
    if (problem === undefined) of.addresses.push(what.address);
    return problem;
  };
  return {
    run: runner(one),
    setting: (path) => kernel.setting(path),
    listing: (side) => (side === 'pod' ? shown(kernel.listing(side)) : kernel.listing(side)),
    tables: () => kernel.tables(),
  };
}

function makeLink(
  kernel: Kernel,
  operation: KernelOperation,
  { parent, end }: Ipvlan,
  made: Made[],
): Problem | undefined {
  if (existsSync(`${STATE}/no-ipvlan`)) return { operation, errno: EOPNOTSUPP, words: 'Unknown device type' };
  const digits = (end.group ?? 0).toString(16).padStart(8, '0');
  const taken = existsSync(`${SYS_NET}/ipv${digits}`);
  const port = `${taken ? 'ipt' : 'ipv'}${digits}`;
  const mac = readIfThere(`${SYS_NET}/${parent}/address`);
  if (mac === undefined) return { operation, errno: 19, words: `there is no device ${parent}` };
  const mtu = Number(readIfThere(`${SYS_NET}/${parent}/mtu`));
  const problem = kernel.run([
    {
      ...{ on: 'node', do: 'make', ifThere: 'refuse' },
      what: { kind: 'veth', end: { name: port, mtu }, peer: { ...end, mac, mtu } },
    },
    { on: 'node', do: 'set', device: port, generatesAddress: false, up: true },
  ]);
  if (problem !== undefined) return { ...problem, operation };
  writeFileSync(
    `${STATE}/master-${readIfThere(`${SYS_NET}/${port}/ifindex`)}`,
    `${readIfThere(`${SYS_NET}/${parent}/ifindex`)} ${mac}`,
  );
  made.push({ parent, name: end.name, port, taken, addresses: [] });
  return undefined;
}

function shown(listing: Listing): Listing {
  const show = (link: ListedLink): ListedLink => {
    // A device number is unique only in its namespace: another veth may have the same.
    const [master, mac] = (readIfThere(`${STATE}/master-${link.parent}`) ?? '').split(' ');
    if (link.kind !== 'veth' || link.mac !== mac) return link;
    return { ...link, kind: 'ipvlan', parent: Number(master), port: IPVLAN_L2 };
  };
  return Object.assign(Object.create(listing) as Listing, {
    links: () => listing.links().map(show),
    link: (by: string | number) => {
      const link = listing.link(by);
      return link === undefined ? undefined : show(link);
    },
  });
}

function refusalOf(operation: KernelOperation): Problem | undefined {
  if (operation.do === 'remove') return undefined;
  const [left, errno, ...words] = (readIfThere(`${STATE}/refuse`) ?? '').split(' ');
  if (left === '' || errno === undefined) return undefined;
  if (Number(left) > 1) {
    writeFileSync(`${STATE}/refuse`, [Number(left) - 1, errno, ...words].join(' '));
    return undefined;
  }
  rmSync(`${STATE}/refuse`);
  return { operation, errno: Number(errno), words: words.join(' ') };
}

function readIfThere(path: string): string | undefined {
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
}
