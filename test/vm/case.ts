import type { Bench } from './bench.ts';
import type { Suite } from './image/image.ts';

/** One thing that happens to nodes; what it found out stands in the evidence beside its result. */
export interface Case<Facts> {
  name: string;
  title: string;
  /** Part of `--quick`. */
  quick?: true;
  /** The root image it runs on; trixie without it. */
  image?: Suite;
  run(bench: Bench): Promise<Facts>;
}

/** What the command asks of the runner, which sits in a network namespace of its own. */
export interface Job {
  benches: Partial<Record<Suite, Bench>>;
  names: string[];
  /** Where the results go. */
  results: string;
}

export interface CaseResult<Facts> {
  name: string;
  title: string;
  passed: boolean;
  seconds: number;
  error?: string;
  facts?: Facts;
}
