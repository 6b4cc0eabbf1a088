// What an attempt is, who makes it from where, and short words for the rows of the table.
import { ether, multicastMac } from './frames.ts';

/** Without any capability; as containerd starts containers, with NET_RAW; the same and NET_ADMIN. */
export type Attacker = 'process' | 'net_raw' | 'net_admin';

/** Where an attempt comes from, or is seen: a pod by its name, a node, the VPC, the Internet. */
export type Place = 'a' | 'b' | 'c' | 'd' | 'far' | 'one' | 'two' | 'vpc' | 'internet';

/** What the node is like while an attempt is made. */
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

/** Everybody's addresses. */
export interface Field {
  imds: BothFamilies;
  /** On node one: `a` and `b` share an ENI with `d`, `c` is on another. `far` is on node two. */
  a: Machine & { vethMac: string; nodeMac: string };
  b: Machine;
  c: Machine;
  far: Machine;
  /** Of the nodes, IPv6 where the boot ENI has one. */
  one: Machine;
  two: Machine;
  /** Of node one and of no ENI, as a local DNS cache has. */
  local: Machine;
  router: { ip4: string; mac: string };
  internet: Machine;
  /** Of the pool, on the first ENI; no pod has it. */
  free: Machine;
  eniMac: string;
  /** What no VPC has. */
  foreign: BothFamilies;
  services: { b: string; c: string; far: string; imds: string };
  services6: { far: string; imds: string };
}

/** What attacker.py does. */
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

/** By what it is seen that an attempt got through. */
export type Sign =
  /** The attacker got an answer. */
  | 'answer'
  /** A program there received it, from anybody but who is named. */
  | { heard: Place; not?: string[] }
  /** A frame of it arrived there, for `to` alone, from anybody but who is named. */
  | { frame: Place; to?: string; not?: string[] }
  /** The neighbour table there has an entry of the attacker's making. */
  | { neighbour: Place }
  /** A shell script says something else there than before. */
  | { changed: 'one'; script: string };

export interface Attempt {
  what: string;
  as: Attacker;
  family: Family;
  /** The pod it comes from; `a` without it. `d` is for what spoils its pod. */
  from?: Place;
  /** `plain` without it. */
  stage?: Stage;
  /**
   * `refused`: by the guard alone, so that it gets through without it; or by what `held` names, with the guard and without.
   * `works`: it has to get through. `open`: it gets through, and `why` says why nothing is done about it.
   * `mended`: it gets through, and `eniboot repair` puts everything back.
   */
  expected: 'refused' | 'works' | 'open' | 'mended';
  held?: string;
  why?: string;
  /** Only a real ipvlan shows it. */
  ipvlan?: true;
  /** Shell commands in the pod, with what the attacker may do, around the attempt. */
  before?: string[];
  after?: string[];
  /** Where it changes something for good: a shell script of the node that takes it back. */
  undo?: string;
  operation: Act;
  signs: Sign[];
}

/** `mark` is the text, `n` the number, by which an attempt's packets are known. */
export type Act = (mark: string, n: number) => Operation;
export type Rest = Partial<Omit<Attempt, 'what' | 'as' | 'family' | 'operation' | 'signs'>>;

/** Held by what was there before the guard. */
export const by = (held: string): Rest => ({ held });

/** It gets through, and nothing is done about it. */
export const open = (why: string): Rest => ({ expected: 'open', why });

/** Rows of one attacker and family that have to be refused, unless they say otherwise. */
export const refused =
  (as: Attacker, family: Family, more: Rest = {}) =>
  (what: string, operation: Act, signs: Sign[], rest: Rest = {}): Attempt => ({
    ...{ what, as, family, expected: 'refused', operation, signs },
    ...more,
    ...rest,
  });

/** Where witnesses answer; where they talk to their peers from. */
export const PORT = 7777;
export const CLIENT_PORT = 7778;

export type Payload = (mark: string, n: number) => Buffer | Buffer[];

/** Frames of pod `a`, by where they go. */
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
    /** To the MAC that all pods of the ENI have. */
    toEni: send('eth0', eniMac, eniMac),
    toEverybody: send('eth0', eniMac, 'ff:ff:ff:ff:ff:ff'),
    toGroup: (group: string, payload: Payload) => send('eth0', eniMac, multicastMac(group))(payload),
    /** Over veth0. */
    toNode: send('veth0', a.vethMac, a.nodeMac),
    /** Frames as they are. */
    onEth0:
      (frame: Payload): Act =>
      (mark, n) => ({ op: 'frames', dev: 'eth0', frames: [frame(mark, n)].flat() }),
  };
}

/** Of the attacker's making, with the number of the attempt in it. */
export function evilMac(n: number): string {
  const [high, low] = [n >> 8, n & 255].map((byte) => byte.toString(16).padStart(2, '0'));
  return `02:de:ad:00:${high}:${low}`;
}
