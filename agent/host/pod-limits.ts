// Bandwidth limits of a pod as text for `tc -batch` and `nft`: pure. Both links have buckets of their own, in both
// directions: Service traffic crosses the veth twice before eth0, and one bucket would cut it to a third.
//
// Out of the pod a token bucket (tbf) delays, which TCP takes best. Into the pod nftables drops what is above the
// rate: no device, filter or process more, and TCP reaches the rate as well as behind an ifb (docs/decisions.md).

/** Limits of one direction. */
export interface Limit {
  bitsPerSecond: number;
  /** What may pass at once after a pause. */
  burstBytes: number;
}

/** A direction without a limit is absent. As seen from the pod, as in CNI's `bandwidth`. */
export interface PodLimits {
  ingress?: Limit | undefined;
  egress?: Limit | undefined;
}

/** The largest packets that offloads make, twice: a bucket that is smaller than a packet never lets it pass. */
const SMALLEST_BURST = 128 * 1024;
/** Milliseconds of the rate that may pass at once, where nobody asks for a burst. */
const BURST_MS = 10;
/** tbf counts a burst in ticks of 64 ns, in 32 bits: 274 s of the rate. */
const LONGEST_BURST_SECONDS = 250;
/** nftables and tbf keep a burst in 32 bits. */
const LARGEST_BURST = 2 ** 31;
/** Above it no limit is set: no ENI carries more, and nftables' arithmetic ends at 147 Gbit/s. */
const LARGEST_RATE = 100e9;
/** A packet that would have to wait longer is dropped: what the reference plugin `bandwidth` uses. */
const LATENCY_MS = 25;

/**
 * A limit as the kernel can hold it; undefined when it is above what an ENI carries.
 *
 * @param bitsPerSecond above 0.
 * @param burstBits what was asked for; undefined for a burst that fits the rate.
 */
export function limitOf(bitsPerSecond: number, burstBits?: number): Limit | undefined {
  if (bitsPerSecond > LARGEST_RATE) return undefined;
  const bytesPerSecond = bitsPerSecond / 8;
  const asked = burstBits === undefined ? (bytesPerSecond * BURST_MS) / 1000 : burstBits / 8;
  const most = Math.min(LARGEST_BURST, bytesPerSecond * LONGEST_BURST_SECONDS);
  return {
    bitsPerSecond: Math.round(bitsPerSecond),
    burstBytes: Math.round(Math.max(SMALLEST_BURST, Math.min(asked, most))),
  };
}

/** `tc` shows a rate in whole bytes per second. */
export function shownRate(limit: Limit): number {
  return Math.floor(limit.bitsPerSecond / 8);
}

/** Lines for `tc -batch` in the pod: what leaves it. */
export function limitLines({ egress }: PodLimits, devices: string[]): string[] {
  if (egress === undefined) return [];
  const { bitsPerSecond, burstBytes } = egress;
  return devices.map(
    (device) =>
      `qdisc replace dev ${device} root tbf rate ${bitsPerSecond}bit burst ${burstBytes} latency ${LATENCY_MS}ms`,
  );
}

/** A chain for the pod's own nftables table: what arrives. Empty without a limit. */
export function limitChain({ ingress }: PodLimits, devices: string[]): string {
  if (ingress === undefined) return '';
  const rate = Math.max(1, Math.round(ingress.bitsPerSecond / 8));
  const rules = devices.map(
    (device) =>
      `    iifname "${device}" limit rate over ${rate} bytes/second burst ${ingress.burstBytes} bytes drop\n`,
  );
  return `  chain ${LIMIT_CHAIN} {
    type filter hook prerouting priority raw; policy accept;
${rules.join('')}  }
`;
}

/** Name of that chain. */
export const LIMIT_CHAIN = 'arriving';
