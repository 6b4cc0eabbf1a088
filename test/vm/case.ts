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
  /** Which of its suite's layers its nodes have; the only one without it. */
  layer?: string;
  run(bench: Bench): Promise<Facts>;
}

/** A root file system that nodes start from: an image, and what a suite lays over it. */
export interface Root {
  image: Suite;
  layer: string;
}

export function rootOf({ image = 'trixie', layer = '' }: Pick<Case<unknown>, 'image' | 'layer'>): Root {
  return { image, layer };
}

export function nameOf({ image, layer }: Root): string {
  return layer === '' ? image : `${image}-${layer}`;
}

/** What the command asks of the runner, which sits in a network namespace of its own. */
export interface Job {
  /** By the names of their roots. */
  benches: Record<string, Bench>;
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
