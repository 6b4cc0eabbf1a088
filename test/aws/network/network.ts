// The kernel side of the model: subnets are bridges with a router at .1, ENIs are ports on them; an Internet gateway.
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { parseCidr, toAddress } from '../ec2/addresses.ts';
import { linkLocalOf } from '../ec2/ipv6.ts';
import type { Eni, Subnet } from '../ec2/state.ts';
import type { World } from '../ec2/world.ts';
import { createQueue, feed } from './programs.ts';
import { startResolver } from './resolver.ts';
import { baseRules, hopChain, type RouterArp, routerArpRules } from './rules.ts';

/**
 * The place of the instance's end of a link: the namespace of a process, or a VM that opens a tap.
 * `mac` is the device's first MAC, where the ENI's MAC is set later.
 */
export type Socket = { mtu: number; carrier: boolean } & (
  | { kind: 'netns'; pid: number; device: string; mac?: string }
  | { kind: 'tap'; device: string }
);

export interface Drop {
  mac: string;
  address: string;
  packets: number;
}

export interface Network {
  /** Connects an ENI. The instance's end arrives down and without an address. */
  plug(eni: Eni, socket: Socket): Promise<void>;
  unplug(eniId: string): Promise<void>;
  /** Brings rules and neighbours in line with what EC2 says about the ENI now. */
  update(eni: Eni): Promise<void>;
  /** Packets dropped because their sender is not assigned to the ENI they came from. */
  spoofed(): Promise<Drop[]>;
  /** Packets not delivered because their destination is not assigned to the ENI. */
  undelivered(): Promise<Drop[]>;
  /** Packets to the Internet from an address without a public one. */
  withoutPublic(): Promise<{ address: string; packets: number }[]>;
  /** Sets which ARP requests are answered from now on; at the start all are. */
  answerArp(answers: RouterArp): Promise<void>;
  /** A process in the Internet's namespace. */
  internetPid: number;
  /** Resolves when everything asked for so far has reached the kernel. */
  settled(): Promise<void>;
  stop(): Promise<void>;
}

/** The host here answers any path with the source address that it saw. */
export const internetAddress = '203.0.113.80';
export const metadataAddress = '169.254.169.254';
/** The same host over IPv6, for instances of a subnet that has IPv6. */
export const internetAddress6 = '2001:db8:ffff::80';
export const metadataAddress6 = 'fd00:ec2::254';
/** The subnet router's link-local address, the same in every subnet. */
export const routerAddress6 = 'fe80:ec2::1';

export async function createNetwork(world: World, serviceAddress: string): Promise<Network> {
  const queue = createQueue();
  const bridges = new Map([...world.subnets.keys()].map((id, index) => [id, `sub${index}`]));
  const ports = new Map<string, Port>();
  const hopChains = new Set<number>();

  for (const [name, value] of [
    ['ipv4/ip_forward', '1'],
    ['ipv4/conf/all/rp_filter', '0'],
    ['ipv4/conf/default/rp_filter', '0'],
    ['ipv6/conf/default/disable_ipv6', '1'],
  ] as const)
    writeFileSync(`/proc/sys/net/${name}`, value);
  const internet = startInternet();
  const [internetPid] = await Promise.all([internet.unshared, feed('nft', ['-f', '-'], baseRules)]);
  await feed('ip', ['-batch', '-'], vpcLinks(world, bridges, serviceAddress, internetPid));
  const ipv6 = await addIpv6(world, bridges);
  internet.configure(ipv6);
  const [resolver] = await Promise.all([startResolver(world, bridges, serviceAddress), internet.listening]);

  function bridgeOf(eni: Eni): string {
    const bridge = bridges.get(eni.subnetId);
    if (bridge === undefined) throw new Error(`subnet ${eni.subnetId} was added after the network was made`);
    return bridge;
  }

  async function sync(eni: Eni, port: Port, wanted: PortState): Promise<void> {
    const bridge = bridgeOf(eni);
    const lines: string[] = [];
    const chain = hopChains.has(wanted.hopLimit) ? '' : hopChain(wanted.hopLimit);
    hopChains.add(wanted.hopLimit);
    const rules = [
      chain,
      change('bridge vpc ports', port.state.ports, wanted.ports),
      change('bridge vpc owned', port.state.owned, wanted.owned),
      change('bridge vpc owned6', port.state.owned6, wanted.owned6),
      change('bridge vpc unchecked', port.state.unchecked, wanted.unchecked),
      change('ip vpc hops', port.state.hops, wanted.hops),
      change('ip vpc publics', port.state.publics, wanted.publics),
      change('ip vpc public_of', port.state.publicOf, wanted.publicOf),
      change('ip vpc private_of', port.state.privateOf, wanted.privateOf),
    ].join('');
    // When dnsmasq answers, it replaces our neighbour entry by its own, which may be gone already. So put one before deleting.
    for (const address of port.state.neighbours.filter((one) => !wanted.neighbours.includes(one)))
      lines.push(
        `neigh replace ${address} lladdr ${eni.mac} dev ${bridge} nud permanent`,
        `neigh del ${address} dev ${bridge}`,
      );
    for (const address of wanted.neighbours.filter((one) => !port.state.neighbours.includes(one)))
      lines.push(`neigh replace ${address} lladdr ${eni.mac} dev ${bridge} nud permanent`);
    // The VPC delivers a whole block to its ENI without neighbour discovery: a route via a link-local address of the ENI's MAC.
    const way = linkLocalOf(eni.mac);
    const gone6 = port.state.routes6.filter((one) => !wanted.routes6.includes(one));
    const added6 = wanted.routes6.filter((one) => !port.state.routes6.includes(one));
    lines.push(...gone6.map((block) => `route del ${block} via ${way} dev ${bridge}`));
    if (added6.length > 0) lines.push(`neigh replace ${way} lladdr ${eni.mac} dev ${bridge} nud permanent`);
    lines.push(...added6.map((block) => `route replace ${block} via ${way} dev ${bridge}`));
    port.state = wanted;
    await Promise.all([
      rules === '' ? '' : feed('nft', ['-f', '-'], rules),
      lines.length === 0 ? '' : feed('ip', ['-batch', '-'], `${lines.join('\n')}\n`),
    ]);
  }

  return {
    plug: (eni, socket) =>
      queue(async () => {
        const device = socket.kind === 'tap' ? socket.device : portName(eni);
        const port: Port = { eni, device, state: nothing };
        ports.set(eni.id, port);
        resolver?.know(eni);
        await feed('ip', ['-batch', '-'], portLinks(eni, bridgeOf(eni), device, socket));
        await Promise.all([
          feed('bridge', ['fdb', 'replace', eni.mac, 'dev', device, 'master', 'static']),
          sync(eni, port, stateOf(world, eni, device)),
        ]);
      }),
    unplug: (eniId) =>
      queue(async () => {
        const port = ports.get(eniId);
        if (port === undefined) return;
        ports.delete(eniId);
        resolver?.forget(eniId);
        await sync(port.eni, port, { ...nothing, hopLimit: port.state.hopLimit });
        // When the namespace has died, the kernel has deleted both ends of the link: before `ip` looks it up, or just after.
        await feed('ip', ['link', 'del', port.device]).catch((error: Error) => {
          if (!/Cannot find device|No such device/.test(error.message)) throw error;
        });
      }),
    update: (eni) =>
      queue(async () => {
        const port = ports.get(eni.id);
        if (port !== undefined) await sync(eni, port, stateOf(world, eni, port.device));
      }),
    spoofed: () => queue(async () => dropsIn('spoofed', 'spoofed6')),
    undelivered: () => queue(async () => dropsIn('undelivered', 'undelivered6')),
    withoutPublic: () =>
      queue(async () =>
        (await listSet('ip', 'no_public')).map(({ key, packets }) => ({ address: String(key), packets })),
      ),
    answerArp: (answers) => queue(async () => void (await feed('nft', ['-f', '-'], routerArpRules(answers)))),
    internetPid,
    settled: () => queue(async () => {}),
    stop: () =>
      queue(async () => {
        internet.child.kill('SIGKILL');
        resolver?.stop();
        const links = [...[...ports.values()].map((port) => port.device), ...bridges.values(), 'igw0'];
        await feed(
          'ip',
          ['-force', '-batch', '-'],
          [
            ...links.map((link) => `link del ${link}`),
            `addr del ${serviceAddress}/32 dev lo`,
            `addr del ${metadataAddress}/32 dev lo`,
            `addr del ${metadataAddress6}/128 dev lo`,
            ...[...world.subnets.values()].flatMap(({ ipv6Cidr }) =>
              ipv6Cidr === undefined ? [] : [`route del unreachable ${ipv6Cidr}`],
            ),
            '',
          ].join('\n'),
        ).catch(() => {});
        await feed('nft', ['-f', '-'], 'delete table bridge vpc\ndelete table ip vpc\n');
      }),
  };
}

interface Port {
  eni: Eni;
  device: string;
  state: PortState;
}

/** What the kernel holds for one ENI: nftables elements and permanent neighbours. */
interface PortState {
  ports: string[];
  owned: string[];
  unchecked: string[];
  hops: string[];
  publics: string[];
  publicOf: string[];
  privateOf: string[];
  neighbours: string[];
  owned6: string[];
  /** IPv6 blocks that are routed to this ENI. */
  routes6: string[];
  hopLimit: number;
}

const nothing: PortState = {
  ports: [],
  owned: [],
  unchecked: [],
  hops: [],
  publics: [],
  publicOf: [],
  privateOf: [],
  neighbours: [],
  owned6: [],
  routes6: [],
  hopLimit: 1,
};

function stateOf(world: World, eni: Eni, device: string): PortState {
  const blocks = [eni.primaryIp, ...eni.secondaryIps, ...eni.prefixes];
  const blocks6 = [...eni.ipv6Addresses, ...eni.ipv6Prefixes];
  const hopLimit = world.instances.get(eni.attachment?.instanceId ?? '')?.hopLimit ?? 1;
  return {
    ports: [`"${device}" . ${eni.mac}`],
    owned: blocks.map((block) => `${eni.mac} . ${block}`),
    unchecked: eni.sourceDestCheck ? [] : [eni.mac],
    hops: blocks.map((block) => `${block} : goto hop${hopLimit}`),
    publics: eni.publicIp === undefined ? [] : [eni.primaryIp],
    publicOf: eni.publicIp === undefined ? [] : [`${eni.primaryIp} : ${eni.publicIp}`],
    privateOf: eni.publicIp === undefined ? [] : [`${eni.publicIp} : ${eni.primaryIp}`],
    neighbours: blocks.flatMap(addressesIn),
    owned6:
      blocks6.length === 0 ? [] : [...blocks6, linkLocalOf(eni.mac)].map((one) => `${eni.mac} . ${one}`),
    routes6: blocks6,
    hopLimit,
  };
}

function addressesIn(block: string): string[] {
  const { first, last } = parseCidr(block);
  return Array.from({ length: last - first + 1 }, (_, offset) => toAddress(first + offset));
}

function change(set: string, before: string[], after: string[]): string {
  const gone = before.filter((one) => !after.includes(one));
  const added = after.filter((one) => !before.includes(one));
  return (
    (gone.length > 0 ? `delete element ${set} { ${gone.join(', ')} }\n` : '') +
    (added.length > 0 ? `add element ${set} { ${added.join(', ')} }\n` : '')
  );
}

/** The name fits IFNAMSIZ and never begins with "sub", as bridges do. */
export function portName(eni: Eni): string {
  return `e${eni.id.slice(-12)}`;
}

function portLinks(eni: Eni, bridge: string, device: string, socket: Socket): string {
  const create =
    socket.kind === 'tap'
      ? [`tuntap add dev ${device} mode tap`, `link set ${device} mtu ${socket.mtu}`]
      : [
          `link add ${device} mtu ${socket.mtu} type veth peer name ${socket.device} address ${socket.mac ?? eni.mac} mtu ${socket.mtu} netns ${socket.pid}`,
        ];
  const up = !socket.carrier ? [] : [`link set ${device} up`];
  return [
    ...create,
    `link set ${device} master ${bridge}`,
    `link set ${device} type bridge_slave learning off flood off mcast_flood off`,
    ...up,
    '',
  ].join('\n');
}

function vpcLinks(
  world: World,
  bridges: Map<string, string>,
  serviceAddress: string,
  internetPid: number,
): string {
  const lines = [
    `addr add ${serviceAddress}/32 dev lo`,
    `addr add ${metadataAddress}/32 dev lo`,
    `link add igw0 type veth peer name eth0 netns ${internetPid}`,
    'addr add 203.0.113.1/24 dev igw0',
    'link set igw0 up',
    `route add default via ${internetAddress} dev igw0`,
  ];
  for (const subnet of world.subnets.values()) {
    const bridge = bridges.get(subnet.id) ?? '';
    lines.push(
      `link add ${bridge} address ${routerMac(subnet)} mtu 9001 type bridge mcast_snooping 0`,
      `addr add ${routerAddress(subnet)}/${parseCidr(subnet.cidr).length} dev ${bridge}`,
      `addr add ${dnsAddress(subnet)}/${parseCidr(subnet.cidr).length} dev ${bridge}`,
      `link set ${bridge} up`,
    );
  }
  return `${lines.join('\n')}\n`;
}

/** Sets up the router and the Internet gateway for IPv6; false when no subnet has it. */
async function addIpv6(world: World, bridges: Map<string, string>): Promise<boolean> {
  const subnets = [...world.subnets.values()].filter((subnet) => subnet.ipv6Cidr !== undefined);
  if (subnets.length === 0) return false;
  const set = (name: string, value: string) => writeFileSync(`/proc/sys/net/ipv6/conf/${name}`, value);
  set('all/forwarding', '1');
  const lines = [
    `addr add ${metadataAddress6}/128 dev lo nodad`,
    'addr add 2001:db8:ffff::1/64 dev igw0 nodad',
    `route add default via ${internetAddress6} dev igw0`,
  ];
  for (const device of ['lo', 'igw0']) set(`${device}/disable_ipv6`, '0');
  for (const subnet of subnets) {
    const bridge = bridges.get(subnet.id) ?? '';
    set(`${bridge}/disable_ipv6`, '0');
    lines.push(
      `addr add ${routerAddress6}/64 dev ${bridge} nodad`,
      // An address that no ENI has is not routed to the Internet.
      `route add unreachable ${subnet.ipv6Cidr}`,
    );
  }
  await feed('ip', ['-6', '-batch', '-'], `${lines.join('\n')}\n`);
  return true;
}

export function routerAddress(subnet: Subnet): string {
  return toAddress(parseCidr(subnet.cidr).first + 1);
}

export function dnsAddress(subnet: Subnet): string {
  return toAddress(parseCidr(subnet.cidr).first + 2);
}

function routerMac(subnet: Subnet): string {
  return `0e:${(subnet.id.slice(-10).match(/../g) ?? []).join(':')}`;
}

/** Starts a namespace with one host, which answers with the source address that it saw. */
function startInternet(): {
  child: ChildProcess;
  unshared: Promise<number>;
  listening: Promise<void>;
  configure: (ipv6: boolean) => void;
} {
  const program = new URL('internet-host.ts', import.meta.url).pathname;
  const child = spawn('unshare', ['--net', '--', process.execPath, program], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout });
  const heard = (word: string): Promise<void> =>
    new Promise((resolve, reject) => {
      lines.on('line', (line) => line === word && resolve());
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`the Internet host ended with ${code}`)));
    });
  const listening = heard('listening');
  listening.catch(() => {}); // the caller that awaits it sees the error; after stop() no caller does
  const unshared = heard('unshared').then(() => child.pid ?? 0);
  unshared.catch(() => {});
  child.unref();
  return { child, unshared, listening, configure: (ipv6) => child.stdin.end(ipv6 ? 'ipv6\n' : 'ipv4\n') };
}

interface Counted {
  key: unknown;
  packets: number;
}

async function listSet(family: string, name: string): Promise<Counted[]> {
  const listed = JSON.parse(await feed('nft', ['-j', 'list', 'set', family, 'vpc', name])) as {
    nftables: { set?: { elem?: { elem: { val: unknown; counter?: { packets: number } } }[] } }[];
  };
  const elements = listed.nftables.flatMap((entry) => entry.set?.elem ?? []);
  return elements.map(({ elem }) => ({ key: elem.val, packets: elem.counter?.packets ?? 0 }));
}

async function dropsIn(...sets: string[]): Promise<Drop[]> {
  const found = await Promise.all(sets.map((set) => listSet('bridge', set)));
  return drops(found.flat());
}

function drops(counted: Counted[]): Drop[] {
  return counted.map(({ key, packets }) => {
    const [mac = '', address = ''] = (key as { concat: string[] }).concat;
    return { mac, address, packets };
  });
}
