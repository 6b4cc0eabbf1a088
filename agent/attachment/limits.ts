// Bandwidth limits of a pod. Pure. Each of the pod's two links has its own buckets in both directions: Service traffic
// crosses the veth twice before eth0, and one common bucket would cut it to a third.
//
// Out of the pod a token bucket (tbf) delays packets, which suits TCP best. Into the pod nftables drops the packets
// above the rate: this needs no further device, filter or process, and TCP reaches the rate as well as behind an ifb
// (docs/decisions.md).
import type { Chain, Program } from '../kernel/operation.ts';

/** The limit of one direction. */
export interface Limit {
  bitsPerSecond: number;
  /** Bytes that may pass at once after a pause. */
  burstBytes: number;
}

/** The limits of both directions, as seen from the pod (as in CNI's `bandwidth`). A direction without a limit is absent. */
export interface PodLimits {
  ingress?: Limit | undefined;
  egress?: Limit | undefined;
}

/** Twice the largest packet that offloads make: a bucket that is smaller than a packet never lets the packet pass. */
const SMALLEST_BURST = 128 * 1024;
/** The default burst: so many milliseconds of the rate. */
const BURST_MS = 10;
/** The longest burst. tbf counts a burst in ticks of 64 ns in 32 bits: 274 s of the rate. */
const LONGEST_BURST_SECONDS = 250;
/** nftables and tbf store a burst in 32 bits. */
const LARGEST_BURST = 2 ** 31;
/** Above this rate no limit is set: no ENI carries more, and nftables cannot compute with more than 147 Gbit/s. */
const LARGEST_RATE = 100e9;
/** A packet that would have to wait longer is dropped. The reference plugin `bandwidth` uses the same value. */
const LATENCY_MS = 25;

/**
 * A limit that the kernel can store; undefined for a rate above what an ENI carries.
 *
 * @param bitsPerSecond above 0.
 * @param burstBits what the caller asked for; undefined for a burst that fits the rate.
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

/** The rate as `tc` shows it, in whole bytes per second. */
export function shownRate(limit: Limit): number {
  return Math.floor(limit.bitsPerSecond / 8);
}

/** A token bucket (tbf) on a device of the pod. It delays the packets that leave by the device. */
export interface Bucket {
  device: string;
  limit: Limit;
}

/** The buckets that delay what leaves the pod. */
export function bucketsOf({ egress }: PodLimits, devices: string[]): Bucket[] {
  return egress === undefined ? [] : devices.map((device) => ({ device, limit: egress }));
}

/**
 * The program that makes the buckets; none without a limit. It uses `tc`, because netlink expects buckets in the
 * kernel's ticks and `tc` converts to them.
 */
export function limitProgram(limits: PodLimits, devices: string[]): Program[] {
  const lines = bucketsOf(limits, devices).map((bucket) => `${bucketLine(bucket)}\n`);
  return lines.length === 0
    ? []
    : [{ on: 'pod', do: 'program', file: 'tc', args: ['-batch', '-'], input: lines.join('') }];
}

/** A line for `tc -batch`, which is also the command that makes this bucket alone. */
export function bucketLine(bucket: Bucket): string {
  return `qdisc replace dev ${bucketText(bucket)}`;
}

/** A bucket in words, for people. */
export function bucketText({ device, limit }: Bucket): string {
  const { bitsPerSecond, burstBytes } = limit;
  return `${device} root tbf rate ${bitsPerSecond}bit burst ${burstBytes} latency ${LATENCY_MS}ms`;
}

/** The chains in the pod's own table that limit what arrives; none without a limit. */
export function limitChain({ ingress }: PodLimits, devices: string[]): Chain[] {
  if (ingress === undefined) return [];
  const bytesPerSecond = Math.max(1, Math.round(ingress.bitsPerSecond / 8));
  return [
    {
      ...{ name: LIMIT_CHAIN, type: 'filter', hook: 'prerouting', priority: 'raw', policy: 'accept' },
      rules: devices.map((is) => [
        { match: 'iifname', is },
        { match: 'over', bytesPerSecond, burstBytes: ingress.burstBytes },
        { verdict: 'drop' },
      ]),
    },
  ];
}

/** Name of the chain that limitChain makes. */
export const LIMIT_CHAIN = 'arriving';
