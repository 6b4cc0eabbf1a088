// The shape of limits.generated.json: written by generate.ts, read by limits.ts.

/** A published Go module from which the table was made. */
export interface Source {
  module: string;
  version: string;
  /** Day on which the version was published, YYYY-MM-DD. */
  published: string;
  /** The module's checksum as in go.sum. */
  sum: string;
}

/**
 * ENIs of the default network card, IPv4 addresses per ENI, 1 where prefixes are allowed, baseline Mbit/s of the whole instance
 * (0: not published). For types with several network cards also the number of cards and the ENIs of all of them.
 */
export type Row =
  | [enis: number, addressesPerEni: number, nitro: 0 | 1, baselineMbps: number]
  | [
      enis: number,
      addressesPerEni: number,
      nitro: 0 | 1,
      baselineMbps: number,
      cards: number,
      allEnis: number,
    ];

export interface Table {
  sources: Source[];
  types: Record<string, Row>;
}
