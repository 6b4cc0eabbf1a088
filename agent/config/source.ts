/** Media type of a part of user data that holds configuration. */
export const configMediaType = 'application/vnd.eniboot.config+yaml';
/** First line of user data, or of a part of it, that holds configuration. */
export const configMarker = '#eniboot-config';

/** A finding about a source as a whole, and the line it is in, from 1. */
export interface SourceFinding {
  problem: string;
  remedy: string;
  line?: number;
}

/** One place that configuration comes from. A list of sources goes from lowest to highest precedence. */
export type ConfigSource =
  | {
      /** The name that messages use: a path, or `user data`. */
      name: string;
      content: Uint8Array | string;
    }
  | {
      name: string;
      /** The source exists and cannot be used: reported with all other problems. */
      refused: SourceFinding;
    }
  | {
      name: string;
      /** The text belongs to another program, but something in it may have been meant for eniboot: a warning. */
      passedOver: SourceFinding;
    };
