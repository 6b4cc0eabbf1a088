// What one named fault is: a node, what is wrong with it, and what must become of its boot.
import type { PhaseName } from '../../../agent/boot/phase.ts';
import type { Status } from '../../../agent/boot/status.ts';
import type { FailureCode } from '../../../agent/messages/failure.ts';
import type { ExecResult } from '../../../agent/port/exec-result.ts';
import type { Cloud, Instance } from '../../aws/index.ts';
import type { Node, NodeOptions } from '../node.ts';

export interface Bench {
  cloud: Cloud;
  node: Node;
  instance: Instance;
}

export interface Outcome {
  result: ExecResult;
  status: Status | undefined;
  /** Wall time of the agent's run in seconds. */
  seconds: number;
  /** The most memory the agent had at a time, in MiB. */
  peakMb: number;
}

/** Sections of the configuration beside or instead of the smallest one. */
export type ConfigChange = Record<string, object | string>;

export interface Fault {
  name: string;
  launch?: Omit<NodeOptions, 'config'>;
  config?: ConfigChange;
  /** The whole configuration file instead; null: there is none. */
  configText?: string | null;
  /** Seconds; default 60, which only a boot that wrongly waits ever reaches. */
  deadlineSeconds?: number;
  /** Changes what the whole cloud does, so nothing else may run meanwhile; returns what undoes it. */
  alone?: (cloud: Cloud) => () => void;
  /** Boots the node once, in good health, before anything is made wrong. */
  bootedBefore?: boolean;
  arrange?: (bench: Bench) => unknown;
  /** The agent may have so many descriptors open and no more. */
  openFiles?: number;
  /** Directories that stand before the usual ones on the agent's PATH, or the whole of it. */
  path?: string;
  /** Runs beside the boot; told when it is over. */
  during?: (bench: Bench, over: AbortSignal) => Promise<void>;
  /** The boot makes others change addresses and routes of theirs, as it should. */
  othersChange?: true;
  expect: Expectation;
  /** What else must hold afterwards; throws when it does not. */
  prove?: (bench: Bench, outcome: Outcome) => unknown;
}

export interface Expectation {
  /** `refused`: the agent ended without a verdict of its own. */
  verdict: 'ready' | 'degraded' | 'failed' | 'refused';
  code?: FailureCode;
  phase?: PhaseName;
  /** The bound on the agent's run. Default 30 for a boot that ends READY, 15 for a permanent failure. */
  withinSeconds?: number;
  /** Ended by the first try of the phase: nothing permanent is tried again. */
  atOnce?: true;
  /** Unattached ENIs that may remain: exactly so many, all tagged with the instance. Default 0. */
  leftBehind?: number;
  /** Default: released exactly when READY. */
  kubelet?: 'released' | 'held';
}
