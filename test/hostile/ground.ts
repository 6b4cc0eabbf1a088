// The machines on which attempts are made: two nodes and the VPC between them.
import type { Field, Place, Stage } from './attempt.ts';

/** Where shell scripts run: on the nodes, and in this namespace, which is the VPC. */
export type Host = 'one' | 'two' | 'vpc';

export interface Ground {
  /** Whether pods have a real ipvlan. */
  ipvlan: boolean;
  /** The states that the node can be put into. */
  stages: readonly Stage[];
  /** How long an attacker waits for an answer, seconds. */
  wait: number;
  /** Path of attacker.py on each host. */
  program: Record<Host, string>;
  /** The VPC's device of node one's first pod ENI. */
  eniPort: string;
  internetPid: number;
  /** The present addresses of all machines. */
  field(): Promise<Field>;
  /** Runs a script as root; throws the output with any exit code but 0. */
  sh(host: Host, script: string): Promise<string>;
  /** Replaces pod `d`, which attackers have damaged, by a new one. */
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

/** The beginning of a command that runs at that place. */
export function within(place: Place, internetPid = 0): string {
  if (place === 'internet') return `nsenter --net=/proc/${internetPid}/ns/net`;
  return isPod(place) ? `ip netns exec ${place}` : '';
}
