import type { Bench } from './bench.ts';
import type { Timing } from './cases.ts';

/** What main.ts asks of run.ts, which sits in a network namespace of its own. */
export interface Job {
  bench: Bench;
  names: string[];
  /** Where the results go. */
  results: string;
}

export interface CaseResult {
  name: string;
  title: string;
  passed: boolean;
  seconds: number;
  error: string | undefined;
  timings: Timing[];
}
