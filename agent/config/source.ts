/** Media type of a part of user data that holds configuration. */
export const configMediaType = 'application/vnd.eniboot.config+yaml';
/** First line of user data, or of a part of it, that holds configuration. */
export const configMarker = '#eniboot-config';

/** What is said about a source as a whole, and in which of its lines, from 1. */
export interface SourceFinding {
  problem: string;
  remedy: string;
  line?: number;
}

/** One place configuration comes from; a list of them goes from lowest to highest precedence. */
export type ConfigSource =
  | {
      /** As messages name it: a path, or `user data`. */
      name: string;
      content: Uint8Array | string;
    }
  | {
      name: string;
      /** It is there and cannot be used: reported with all other problems. */
      refused: SourceFinding;
    }
  | {
      name: string;
      /** It is somebody else's, and yet something in it may have been meant for us: a warning. */
      passedOver: SourceFinding;
    };
