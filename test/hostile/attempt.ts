// The fields of an attempt: who makes it, from where, and its signs; and short helpers for the rows of the table.
import { ether, multicastMac } from './frames.ts';

/** `process`: without any capability. `net_raw`: as containerd starts containers, with NET_RAW. `net_admin`: also with NET_ADMIN. */
export type Attacker = 'process' | 'net_raw' | 'net_admin';

/** Where an attempt comes from, or is seen: a pod by its name, a node, the VPC, the Internet. */
export type Place = 'a' | 'b' | 'c' | 'd' | 'far' | 'one' | 'two' | 'vpc' | 'internet';

/** The state of the node during an attempt. */
export type Stage =
  | 'plain'
  /** Without any reverse-path filter on the node. */
  | 'loose'
  /** With kube-proxy's rules, of this mode. */
  | 'iptables'
  | 'ipvs'
  | 'nftables';

export type Family = 4 | 6;

interface Machine {
  ip4: string;
  ip6?: string | undefined;
}

interface BothFamilies extends Machine {
  ip6: string;
}

/** The addresses of all machines. */
export interface Field {
  imds: BothFamilies;
  /** Pods of node one: `a` and `b` share an ENI with `d`, `c` is on another. `far` is on node two. */
  a: Machine & { vethMac: string; nodeMac: string };
  b: Machine;
  c: Machine;
  far: Machine;
  /** The nodes; with IPv6 when the boot ENI has it. */
  one: Machine;
  two: Machine;
  /** An address of node one that is on no ENI, as a local DNS cache has. */
  local: Machine;
  router: { ip4: string; mac: string };
  internet: Machine;
  /** An address of the pool, on the first ENI, that no pod has. */
  free: Machine;
  eniMac: string;
  /** Addresses that no VPC has. */
  foreign: BothFamilies;
  services: { b: string; c: string; far: string; imds: string };
  services6: { far: string; imds: string };
}

/** An operation of attacker.py. */
export type Operation =
  | {
      op: 'udp' | 'tcp' | 'imds' | 'ping';
      to: string;
      port?: number;
      dev?: string;
      from?: string;
      mark?: number;
      free?: true;
      transparent?: true;
    }
  | { op: 'path_mtu'; to: string; port: number; size: number }
  | { op: 'frames'; dev: string; frames: Buffer[]; hear?: Buffer; mark?: number; bypass?: true; xdp?: true }
  | { op: 'raw'; to: string; dev?: string; packets: Buffer[] }
  | { op: 'imds_by_frames'; dev: string; from: string; to: string; ether: Buffer }
  | { op: 'listen'; dev: string; hear: Buffer }
  | { op: 'nothing' };

/** A sign that an attempt got through. */
export type Sign =
  /** The attacker got an answer. */
  | 'answer'
  /** A program at that place received it, from any sender but those in `not`. */
  | { heard: Place; not?: string[] }
  /** A frame of it arrived at that place, for `to` only, from any sender but those in `not`. */
  | { frame: Place; to?: string; not?: string[] }
  /** The neighbour table at that place has an entry that the attacker invented. */
  | { neighbour: Place }
  /** A shell script at that place has another output than before. */
  | { changed: 'one'; script: string };

export interface Attempt {
  what: string;
  as: Attacker;
  family: Family;
  /** The pod that makes it; default `a`. `d` is for attempts that damage their pod. */
  from?: Place;
  /** Default `plain`. */
  stage?: Stage;
  /**
   * `refused`: by the guard, so that it gets through without it; or by the means in `held`, with the guard and without it.
   * `works`: it has to get through. `open`: it gets through, and `why` has the reason why eniboot does not prevent it.
   * `mended`: it gets through, and `eniboot repair` restores everything.
   */
  expected: 'refused' | 'works' | 'open' | 'mended';
  held?: string;
  why?: string;
  /** True: only a real ipvlan shows it. */
  ipvlan?: true;
  /** Shell commands in the pod, with the attacker's capabilities, before and after the attempt. */
  before?: string[];
  after?: string[];
  /** For a permanent change: a shell script on the node that undoes it. */
  undo?: string;
  operation: Act;
  signs: Sign[];
}

/** `mark` is the text, `n` the number, by which witnesses know an attempt's packets. */
export type Act = (mark: string, n: number) => Operation;
export type Rest = Partial<Omit<Attempt, 'what' | 'as' | 'family' | 'operation' | 'signs'>>;

/** Refused by other means than the guard. */
export const by = (held: string): Rest => ({ held });

/** It gets through, and eniboot does not prevent it. */
export const open = (why: string): Rest => ({ expected: 'open', why });

/** Rows of one attacker and family that have to be refused, unless the row tells otherwise. */
export const refused =
  (as: Attacker, family: Family, more: Rest = {}) =>
  (what: string, operation: Act, signs: Sign[], rest: Rest = {}): Attempt => ({
    ...{ what, as, family, expected: 'refused', operation, signs },
    ...more,
    ...rest,
  });

/** The port on which witnesses answer; CLIENT_PORT is the port from which they talk to their peers. */
export const PORT = 7777;
export const CLIENT_PORT = 7778;

export type Payload = (mark: string, n: number) => Buffer | Buffer[];

/** Helpers that make frames of pod `a`, by destination. */
export function framesOf({ eniMac, router, a }: Field) {
  const send =
    (dev: 'eth0' | 'veth0', from: string, to: string) =>
    (payload: Payload): Act =>
    (mark, n) => ({
      op: 'frames',
      dev,
      frames: [payload(mark, n)].flat().map((one) => ether({ from, to }, one)),
    });
  return {
    toRouter: send('eth0', eniMac, router.mac),
    /** To the MAC that all pods of the ENI share. */
    toEni: send('eth0', eniMac, eniMac),
    toEverybody: send('eth0', eniMac, 'ff:ff:ff:ff:ff:ff'),
    toGroup: (group: string, payload: Payload) => send('eth0', eniMac, multicastMac(group))(payload),
    /** Through veth0. */
    toNode: send('veth0', a.vethMac, a.nodeMac),
    /** Frames unchanged. */
    onEth0:
      (frame: Payload): Act =>
      (mark, n) => ({ op: 'frames', dev: 'eth0', frames: [frame(mark, n)].flat() }),
  };
}

/** A MAC that the attacker invents, with the number of the attempt in it. */
export function evilMac(n: number): string {
  const [high, low] = [n >> 8, n & 255].map((byte) => byte.toString(16).padStart(2, '0'));
  return `02:de:ad:00:${high}:${low}`;
}
