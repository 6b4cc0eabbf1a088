import type { Scheduler } from './scheduler.ts';

export interface BucketSize {
  /** Requests that may come at once. */
  capacity: number;
  /** Requests per second after that. */
  refill: number;
}

/** Token buckets per action, as EC2 keeps them per account and Region. */
export class Throttle {
  readonly #scheduler: Scheduler;
  readonly #sizeOf: (action: string) => BucketSize;
  readonly #buckets = new Map<string, { tokens: number; at: number }>();

  constructor(scheduler: Scheduler, sizeOf: (action: string) => BucketSize) {
    this.#scheduler = scheduler;
    this.#sizeOf = sizeOf;
  }

  /** Takes one token; false means the request is to be refused. */
  take(action: string): boolean {
    const { capacity, refill } = this.#sizeOf(action);
    const now = this.#scheduler.now();
    const bucket = this.#buckets.get(action) ?? { tokens: capacity, at: now };
    bucket.tokens = Math.min(capacity, bucket.tokens + (Math.max(0, now - bucket.at) / 1000) * refill);
    bucket.at = now;
    this.#buckets.set(action, bucket);
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }
}
