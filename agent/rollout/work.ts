// What all parts of a running rollout share: its means, its listener, and what this process remembers.
import type { FleetAws } from '../aws/fleet.ts';
import type { HaltFlag } from '../aws/halt-flag.ts';
import type { Wanted } from '../aws/wanted.ts';
import type { Clock } from '../port/clock.ts';
import { readHaltFlag } from './halt.ts';
import type { Judgement } from './judge.ts';
import type { Step } from './plan.ts';
import type { Progress, Rollout } from './progress.ts';
import type { RolloutRecord } from './record.ts';

/** What happens, for the listener. `tell` adds `atMs` and the step. */
export type RolloutEvent =
  | { kind: 'step'; step: Step; nodes: number }
  | { kind: 'sent'; commands: string[] }
  | { kind: 'look'; home: number; of: number }
  | { kind: 'node'; judgement: Judgement }
  | { kind: 'home'; good: number; failed: number; other: number }
  /** The answer of the operator's program at a gate. */
  | { kind: 'gate'; passed: boolean; said: string }
  /** An alarm has gone off, or (`seen: false`) the alarms cannot be read and no step begins meanwhile. */
  | { kind: 'alarm'; seen: boolean; why: string }
  | { kind: 'halted'; why: string }
  /**
   * `strays`: instances that came up during the rollout, do not run the version that it leaves in place, and could not be
   * asked.
   */
  | { kind: 'ended'; state: Progress['state']; strays: string[] };

/** What a program at a gate gets in its environment. */
export interface GateQuestion {
  command: readonly string[];
  timeoutMs: number;
  rollout: string;
  version: string;
  zoneId: string;
  after: 'canary' | 'share' | 'zone';
}

export interface Orchestration {
  aws: FleetAws;
  clock: Clock;
  record: RolloutRecord;
  tell: (happening: RolloutEvent) => void;
  /** When aborted, the work ends at the next moment at which nothing is lost. */
  stopped: AbortSignal;
  /** Runs the operator's program; without it, gates run no program. */
  gate?: (question: GateQuestion) => Promise<{ passed: boolean; said: string }>;
  /** No step begins: what is in flight is judged, then the rollout halts for this reason. */
  haltFor?: string;
}

/**
 * A rollout that is being carried out. Its own fields hold what only this process knows: a process that continues the rollout
 * later starts without them.
 */
export interface Work extends Orchestration {
  rollout: Rollout;
  /** The present state. Each part of the work records what it changes: a crash continues from the record. */
  progress: Progress;
  /** Whether this process recorded the intent to send the batch. If not, another process may have sent it already. */
  ours: boolean;
  /** Milliseconds until the batch in flight is looked at again. */
  pauseMs: number;
  /** The direction that is known to be written in the parameter of wanted.ts. */
  written: Wanted['direction'] | undefined;
  /** The state of the alarms is not known. */
  unseen: boolean;
}

/** Milliseconds until the batch in flight is looked at again: at first, and at most. */
export const LOOK_MS = { first: 5_000, longest: 20_000 };

/** Milliseconds since the epoch, by AWS's clock. */
export function nowMs({ clock }: Work): number {
  return clock.now().getTime();
}

/** Ends early when the work is stopped. */
export async function sleep({ clock, stopped }: Work, ms: number): Promise<void> {
  await clock.sleep(ms, stopped).catch((error: unknown) => {
    if (!stopped.aborted) throw error;
  });
}

export async function readFlag({ aws, rollout, haltFor }: Work): Promise<HaltFlag | undefined> {
  return haltFor === undefined ? readHaltFlag(aws, rollout.spec.where.cluster) : { why: haltFor };
}

/** Those of the given instances that EC2 no longer has. */
export async function goneOf({ aws }: Work, instanceIds: readonly string[]): Promise<Set<string>> {
  const living = new Set(await aws.findLiving(instanceIds));
  return new Set(instanceIds.filter((instanceId) => !living.has(instanceId)));
}
