// Traffic that has to work with all guards: the node's own, and that of pods.
import {
  type Attacker,
  type Attempt,
  type Family,
  type Field,
  type Operation,
  type Place,
  PORT,
  type Stage,
} from '../attempt.ts';

const DNS = { 4: '169.254.169.253', 6: 'fd00:ec2::253' } as const;
const TIME = { 4: '169.254.169.123', 6: 'fd00:ec2::123' } as const;

/**
 * The services beside IMDS that the VPC answers at, as pairs of address and port. Sources: VPC user guide, "Amazon DNS server"; EC2
 * user guide, "Amazon Time Sync Service".
 */
export function linkLocalServices(ipv6: boolean): [string, number][] {
  const of = (family: Family): [string, number][] => [
    [DNS[family], 53],
    [TIME[family], 123],
  ];
  return [...of(4), ...(ipv6 ? of(6) : [])];
}

export function ordinary(f: Field): Attempt[] {
  const cache = works('a', 4, 'a DNS cache at a local address of the node', {
    op: 'udp',
    to: f.local.ip4,
    port: PORT,
  });
  const six = f.a.ip6 !== undefined;
  return [...ofFamily(f, 4), ...(six ? ofFamily(f, 6) : []), cache, ...paths(f), ...services(f)];
}

function works(
  from: Place,
  family: Family,
  what: string,
  operation: Operation,
  stage: Stage = 'plain',
  as: Attacker = 'process',
): Attempt {
  return { what, as, family, from, stage, expected: 'works', operation: () => operation, signs: ['answer'] };
}

function ofFamily(f: Field, family: Family): Attempt[] {
  const key = family === 6 ? 'ip6' : 'ip4';
  const [b = '', far = '', c = '', internet = ''] = [f.b[key], f.far[key], f.c[key], f.internet[key]];
  const [node, other] = [f.one[key], f.two[key]];
  const pods = ['a', 'b', 'c', 'far'] as const;
  const both = (from: Place, what: string, to: string) =>
    (['udp', 'tcp'] as const).map((op) =>
      works(from, family, `${op.toUpperCase()} ${what}`, { op, to, port: PORT }),
    );
  const ping = (what: string, to: string) =>
    works('a', family, `ping from pod a to ${what}`, { op: 'ping', to }, 'plain', 'net_raw');
  // biome-ignore format: one attempt, one line
  return [
    ...pods.flatMap((from) => pods.filter((to) => to !== from).flatMap((to) => both(from, `from pod ${from} to pod ${to}`, f[to][key] ?? ''))),
    ping('pod b', b),
    ping('pod far', far),
    ...(node === undefined ? [] : [
      ...both('a', 'from pod a to its node', node),
      ...both('one', 'from the node to pod c', c),
      ping('its node', node),
      works('one', family, 'the node itself reaches IMDS', { op: 'imds', to: f.imds[key], port: 80 }),
    ]),
    ...(other === undefined ? [] : [...both('a', 'from pod a to another node', other), ...both('two', 'from another node to pod b', b)]),
    ...both('a', 'from pod a to the Internet', internet),
    ping('the Internet', internet),
    works('a', family, `DNS of the VPC at ${DNS[family]}`, { op: 'udp', to: DNS[family], port: 53 }),
    works('a', family, `DNS of the VPC at ${DNS[family]}, TCP`, { op: 'tcp', to: DNS[family], port: 53 }),
    works('a', family, `the time at ${TIME[family]}`, { op: 'udp', to: TIME[family], port: 123 }),
  ];
}

/** An ICMP error reaches the pod that it is for. */
function paths(f: Field): Attempt[] {
  const path = (family: Family, what: string, to: string) =>
    works('a', family, `the path ${what} has a smaller MTU, which the pod learns`, {
      op: 'path_mtu',
      to,
      port: PORT,
      size: 1350,
    });
  return [
    path(4, 'to the Internet', f.internet.ip4),
    path(4, 'to another node', f.far.ip4),
    ...(f.far.ip6 === undefined ? [] : [path(6, 'to another node', f.far.ip6)]),
  ];
}

function services(f: Field): Attempt[] {
  return (['iptables', 'ipvs', 'nftables'] as const).flatMap((stage) => {
    const ask = (from: Place, what: string, to: string, port = 80, family: Family = 4) =>
      works(from, family, `${what}, ${stage}`, { op: 'tcp', to, port }, stage);
    // biome-ignore format: one attempt, one line
    return [
      ...(['b', 'c', 'far'] as const).flatMap((backend) => [
        ask('a', `a Service whose backend is pod ${backend}`, f.services[backend]),
        ask('one', `a Service whose backend is pod ${backend}, from the node`, f.services[backend]),
      ]),
      ask('far', 'NodePort, policy Cluster, backend elsewhere', f.one.ip4, 30010),
      ask('far', 'NodePort, policy Local', f.one.ip4, 30013),
      ask('far', 'hostPort', f.one.ip4, 8080),
      ask('two', 'hostPort, from another node', f.one.ip4, 8080),
      ask('c', 'hostPort of its node', f.one.ip4, 8080),
      ask('two', 'NodePort, policy Local, from another node', f.one.ip4, 30013),
      ask('c', 'NodePort of its node, policy Local', f.one.ip4, 30013),
      ...(f.far.ip6 === undefined || stage === 'iptables' ? [] : [ask('a', 'a Service whose backend is pod far', f.services6.far, 80, 6)]),
    ];
  });
}
