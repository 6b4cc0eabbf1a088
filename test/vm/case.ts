import type { Bench } from './bench.ts';
import type { Suite } from './image/image.ts';

/** A case: events of one or more nodes. Its facts are in the evidence, beside its result. */
export interface Case<Facts> {
  name: string;
  title: string;
  /** Part of `--quick`. */
  quick?: true;
  /** An hour and more in emulation: runs only when it is named. */
  long?: true;
  /** The root image it runs on; trixie without it. */
  image?: Suite;
  /** The suite's layer that its nodes have; default: the suite's only one. */
  layer?: string;
  run(bench: Bench): Promise<Facts>;
}

/** A root file system from which nodes start: an image, and a suite's files laid over it. */
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

/** The command's orders to the runner, which runs in a network namespace of its own. */
export interface Job {
  /** By the names of their roots. */
  benches: Record<string, Bench>;
  names: string[];
  /** Path of the file for the results. */
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
