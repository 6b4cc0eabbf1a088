import type { Archive } from '../../aws/release.ts';

/** What a run knows of the zone's bundle. */
export interface BundleState {
  running: string;
  /** The zone's version; undefined when there is no parameter to follow, or when it could not be read. */
  wanted?: string | undefined;
  /** Why this node does not run the version that the zone wants. */
  reason?: string | undefined;
  /** A rollout has put the running version here, and the zone's parameter has not been written since. */
  ahead: boolean;
  /** The version to stage; absent once staging was tried. */
  source?: Source | undefined;
  /** Folder of a version that is staged and verified, and is not the running one. */
  staged?: string | undefined;
}

export interface Wanted extends Archive {
  version: string;
}

/** A version to stage, and the boot-clock milliseconds at which following the zone must be over. */
export type Source = Wanted & { until: number };
