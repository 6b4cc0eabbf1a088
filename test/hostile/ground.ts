// Where attempts are made: two nodes and the VPC between them.
import type { Field, Place, Stage } from './attempt.ts';

/** Who runs shell scripts: the nodes, and this namespace, which is the VPC. */
export type Host = 'one' | 'two' | 'vpc';

export interface Ground {
  /** Whether pods have a real ipvlan. */
  ipvlan: boolean;
  /** What the node can be made to be. */
  stages: readonly Stage[];
  /** How long an attacker waits for an answer, seconds. */
  wait: number;
  /** Path of attacker.py there. */
  program: Record<Host, string>;
  /** The VPC's device of node one's first pod ENI. */
  eniPort: string;
  internetPid: number;
  /** Everybody's addresses now. */
  field(): Promise<Field>;
  /** As root; anything but exit code 0 is thrown with its words. */
  sh(host: Host, script: string): Promise<string>;
  /** Puts another pod in the place of `d`, which attackers have spoilt. */
  renew(): Promise<void>;
}

export const pods = ['a', 'b', 'c', 'd'] as const;
export const places = [...pods, 'far', 'one', 'two', 'vpc', 'internet'] as const;
/** On each host. */
export const FOLDER = '/run/hostile';

export function isPod(place: Place): boolean {
  return !['one', 'two', 'vpc', 'internet'].includes(place);
}

export function hostOf(place: Place): Host {
  if (place === 'vpc' || place === 'internet') return 'vpc';
  return place === 'far' || place === 'two' ? 'two' : 'one';
}

/** The start of a command there. */
export function within(place: Place, internetPid = 0): string {
  if (place === 'internet') return `nsenter --net=/proc/${internetPid}/ns/net`;
  return isPod(place) ? `ip netns exec ${place}` : '';
}
