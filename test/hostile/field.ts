// Two nodes with pods in the places that attempts need, and the addresses of all machines.
import { join } from 'node:path';
import { rangeOf, toAddress } from '../../agent/host/ipv4.ts';
import type { Cloud, Instance } from '../aws/index.ts';
import type { Field } from './attempt.ts';

/** Two pod ENIs of five addresses. */
export const NODE_TYPE = 't3.medium';
export const NODE_CONFIG = {
  pods: { addressing: 'addresses', max: 10 },
  pool: { lowWater: 0, restSeconds: 1 },
};

/** The program that attacks and witnesses. */
export const PROGRAM = join(import.meta.dirname, 'attacker.py');

interface Pod {
  address: string;
  address6?: string | undefined;
}

export type Pods = Record<'a' | 'b' | 'c' | 'd' | 'far', Pod>;

/** Makes pods so that `a`, `b` and `d` share the first ENI, which has two addresses left, and `c` is on the second. */
export async function placePods(
  one: { addPod(name: string): Promise<Pod>; deletePod(name: string): Promise<void> },
  two: { addPod(name: string): Promise<Pod> },
): Promise<Pods> {
  const [a, b, d] = [await one.addPod('a'), await one.addPod('b'), await one.addPod('d')];
  for (const name of ['filler', 'filler2']) await one.addPod(name);
  const c = await one.addPod('c');
  for (const name of ['filler', 'filler2']) await one.deletePod(name);
  return { a, b, c, d, far: await two.addPod('far') };
}

/** @param sh runs a script on node one, or in the VPC. */
export async function fieldOf(
  cloud: Cloud,
  one: Instance,
  two: Instance,
  pods: Pods,
  sh: (host: 'one' | 'vpc', script: string) => Promise<string>,
): Promise<Field> {
  const [, eni, other] = one.enis;
  if (eni === undefined || other === undefined) throw new Error('two pod ENIs were asked for');
  if (!['a', 'b', 'd'].every((name) => eni.secondaryIps.includes(pods[name as 'a'].address)))
    throw new Error('a, b and d do not share the first pod ENI');
  if (!other.secondaryIps.includes(pods.c.address)) throw new Error('c is not on the second pod ENI');
  const subnet = cloud.subnets.get(eni.subnetId)?.cidr ?? '';
  const ready = await sh('one', `cd /run/eniboot/pool; ls free cooling | grep ,${eni.id}, | cut -d, -f1`);
  const [free = ''] = ready.trim().split('\n');
  const mac = await sh(
    'vpc',
    `cat /sys/class/net/$(ip -o route get ${pods.a.address} | sed 's/.* dev \\([^ ]*\\).*/\\1/')/address`,
  );
  const six = pods.a.address6;
  const of6 = (address: string) => (six === undefined ? undefined : address);
  const both = ({ address, address6 }: Pod) => ({ ip4: address, ip6: address6 });
  const digits = Buffer.from(pods.a.address.split('.').map(Number))
    .toString('hex')
    .replace(/(..)(?=.)/g, '$1:');
  return {
    imds: { ip4: '169.254.169.254', ip6: 'fd00:ec2::254' },
    a: { ...both(pods.a), vethMac: `02:e1:${digits}`, nodeMac: `02:e0:${digits}` },
    b: both(pods.b),
    c: both(pods.c),
    far: both(pods.far),
    one: { ip4: one.bootEni.primaryIp, ip6: one.bootEni.ipv6Addresses[0] },
    two: { ip4: two.bootEni.primaryIp, ip6: two.bootEni.ipv6Addresses[0] },
    // The address of a DNS cache on the node (NodeLocal DNSCache's).
    local: { ip4: '169.254.20.10', ip6: of6('fd00:e2e::10') },
    router: { ip4: toAddress(rangeOf(subnet).first + 1), mac: mac.trim() },
    internet: { ip4: '203.0.113.80', ip6: of6('2001:db8:ffff::80') },
    free: { ip4: free, ip6: six === undefined ? undefined : sibling(six, pods.a.address, free) },
    eniMac: eni.mac,
    foreign: { ip4: '192.0.2.66', ip6: '2001:db8:dead::66' },
    services: { b: '172.20.0.11', c: '172.20.0.12', far: '172.20.0.10', imds: '172.20.0.99' },
    services6: { far: 'fd00:10:96::10', imds: 'fd00:10:96::99' },
  };
}

/** A pod's IPv6 address ends in its IPv4 address. */
function sibling(address6: string, address: string, other: string): string {
  const low = (ip: string) => {
    const [a = 0, b = 0, c = 0, d = 0] = ip.split('.').map(Number);
    return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  };
  return `${address6.slice(0, -low(address).length)}${low(other)}`;
}
