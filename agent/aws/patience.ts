// Patience with AWS: a client-side token bucket for calls that change something, and retries with full
// jitter. Thousands of nodes boot at once against one account's buckets, so the spread is what keeps them
// all moving; and time lost to throttling is reported, since it extends the boot's deadline.
import { Failure, type FailureCode, isFailure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import { type Ec2, ec2Actions, isMutating } from './ec2.ts';

export interface CallRecord {
  action: string;
  mutating: boolean;
  outcome: 'accepted' | FailureCode;
  /** Milliseconds of this attempt. */
  ms: number;
}

export interface PatienceOptions {
  clock: Clock;
  /** Boot-clock milliseconds after which no further attempt is made; asked again before each. */
  until: () => number;
  /** Called with the milliseconds spent waiting because EC2 throttled. */
  onThrottled: (ms: number) => void;
  /** Before each attempt. */
  onAttempt?: (action: string) => void;
  onCall: (record: CallRecord) => void;
  /** Uniform in [0, 1). */
  random?: () => number;
}

/** Mutating calls this process allows itself: a burst, then so many a second. */
const BURST = 8;
const REFILL_PER_SECOND = 1;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 20_000;
/** An attempt made when the time is all but over still gets so long. */
const SHORTEST_ATTEMPT_MS = 500;
/** What patience has to know about an interface, each of whose methods is one API call. */
export interface Service<Api> {
  /** How messages call it. */
  name: string;
  actions: Record<keyof Api & string, string>;
  isMutating: (method: keyof Api & string) => boolean;
  /**
   * Calls that do more when sent twice and have no token: without an answer, only a look can tell whether they
   * were carried out, so they are not repeated blindly.
   */
  notRepeatable: ReadonlySet<keyof Api>;
  unanswered: FailureCode;
}

const THROTTLED: ReadonlySet<string> = new Set<FailureCode>(['EC2_THROTTLED', 'SSM_THROTTLED']);
const UNANSWERED: ReadonlySet<string> = new Set<FailureCode>(['EC2_UNAVAILABLE', 'SSM_FAILED']);

const ec2Service: Service<Ec2> = {
  name: 'EC2',
  actions: ec2Actions,
  isMutating,
  notRepeatable: new Set<keyof Ec2>(['assignAddresses', 'assignIpv6Prefix']),
  unanswered: 'EC2_UNAVAILABLE',
};

export function withPatience(ec2: Ec2, options: PatienceOptions): Ec2 {
  return patient(ec2, ec2Service, options);
}

/** The same interface, each call repeated as long as that can help. */
export function patient<Api extends object>(api: Api, service: Service<Api>, options: PatienceOptions): Api {
  const random = options.random ?? Math.random;
  let tokens = BURST;
  let filledAt = options.clock.bootMs();
  // Raised by each throttled answer and lowered by each accepted one: the slow-down outlives one call.
  let slowdown = 0;

  async function takeToken(): Promise<void> {
    for (;;) {
      const now = options.clock.bootMs();
      tokens = Math.min(BURST, tokens + ((now - filledAt) / 1000) * REFILL_PER_SECOND);
      filledAt = now;
      if (tokens >= 1) break;
      await options.clock.sleep(Math.ceil(((1 - tokens) / REFILL_PER_SECOND) * 1000));
    }
    tokens -= 1;
  }

  async function call(method: keyof Api & string, args: unknown[]): Promise<unknown> {
    const mutating = service.isMutating(method);
    for (let tries = 0; ; tries += 1) {
      if (mutating) await takeToken();
      options.onAttempt?.(service.actions[method]);
      const started = options.clock.bootMs();
      const record = (outcome: CallRecord['outcome']) =>
        options.onCall({
          action: service.actions[method],
          mutating,
          outcome,
          ms: options.clock.bootMs() - started,
        });
      try {
        const attempt = (api[method] as (...all: unknown[]) => Promise<unknown>)(...args);
        const result = await inTime(attempt, method);
        record('accepted');
        slowdown = Math.max(0, slowdown - 1);
        return result;
      } catch (error) {
        record(isFailure(error) ? error.code : 'INTERNAL');
        if (!isFailure(error) || !error.transient) throw error;
        if (UNANSWERED.has(error.code) && service.notRepeatable.has(method)) throw error;
        const throttled = THROTTLED.has(error.code);
        if (throttled) slowdown = Math.min(6, slowdown + 1);
        const ceiling = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.max(tries, slowdown));
        const pause = Math.ceil(random() * ceiling);
        // Time lost to throttling extends the deadline, so it counts before the deadline is looked at.
        if (throttled) options.onThrottled(pause);
        if (options.clock.bootMs() + pause >= options.until()) throw error;
        await options.clock.sleep(pause);
      }
    }
  }

  /** No attempt outlasts the time there is: a service that never answers must not hold up a verdict. */
  async function inTime(attempt: Promise<unknown>, method: keyof Api & string): Promise<unknown> {
    const limit = Math.max(SHORTEST_ATTEMPT_MS, options.until() - options.clock.bootMs());
    if (!Number.isFinite(limit)) return attempt;
    const timer = new AbortController();
    const late = options.clock.sleep(limit, timer.signal).then(() => {
      const action = service.actions[method];
      throw new Failure(service.unanswered, `no answer from ${service.name} to ${action} in the time left`, {
        action,
      });
    });
    try {
      return await Promise.race([attempt, late]);
    } finally {
      timer.abort();
      late.catch(() => {});
      attempt.catch(() => {});
    }
  }

  const methods = Object.keys(service.actions) as (keyof Api & string)[];
  return Object.fromEntries(
    methods.map((method) => [method, (...args: unknown[]) => call(method, args)]),
  ) as unknown as Api;
}
