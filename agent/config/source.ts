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
      refused: { problem: string; remedy: string };
    };
