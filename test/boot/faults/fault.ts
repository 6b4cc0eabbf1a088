// One named fault: a node, its fault, and the required end of its boot.
import type { PhaseName } from '../../../agent/boot/phase.ts';
import type { Status } from '../../../agent/boot/verdict/status.ts';
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
  /** The agent's largest resident memory, in MiB. */
  peakMb: number;
}

/** Sections of the configuration, added to the smallest configuration or replacing its sections. */
export type ConfigChange = Record<string, object | string>;

export interface Fault {
  name: string;
  launch?: Omit<NodeOptions, 'config'>;
  config?: ConfigChange;
  /** Replaces the whole configuration file; null: there is no file. */
  configText?: string | null;
  /** Seconds; default 60, which only a boot that wrongly waits reaches. */
  deadlineSeconds?: number;
  /** Changes the whole cloud: no other fault runs meanwhile. Returns a function that undoes the change. */
  alone?: (cloud: Cloud) => () => void;
  /** Boots the node once in good health, before the fault is made. */
  bootedBefore?: boolean;
  arrange?: (bench: Bench) => unknown;
  /** Limit on the agent's open file descriptors. */
  openFiles?: number;
  /** Directories that come first on the agent's PATH, or the whole PATH. */
  path?: string;
  /** Runs beside the boot; the signal tells that the boot is over. */
  during?: (bench: Bench, over: AbortSignal) => Promise<void>;
  /** After the boot `during` changes the node again: `eniboot plan` then lists the changes that undo it. */
  changesBack?: true;
  /** Changes that `eniboot plan` lists after the boot, before the refused change. */
  leaves?: readonly (string | RegExp)[];
  /** The boot makes other programs change their addresses and routes, as intended. */
  othersChange?: true;
  expect: Expectation;
  /** Further assertions after the boot; throws when one does not hold. */
  prove?: (bench: Bench, outcome: Outcome) => unknown;
}

export interface Expectation {
  /** `refused`: the agent ended without a verdict. */
  verdict: 'ready' | 'degraded' | 'failed' | 'refused';
  code?: FailureCode;
  phase?: PhaseName;
  /** The longest run of the agent. Default 30 for a boot that ends READY, 15 for a permanent failure. */
  withinSeconds?: number;
  /** The phase fails at its first try: a permanent failure is not tried again. */
  atOnce?: true;
  /** The number of unattached ENIs that remain, all tagged with the instance. Default 0. */
  leftBehind?: number;
  /** Attached ENIs that could not be set to be deleted on termination: they stay when the instance is terminated. Default 0. */
  outlive?: number;
  /** Default: released when READY, else held. */
  kubelet?: 'released' | 'held';
}
