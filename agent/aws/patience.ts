// Repeating calls to AWS: a client-side token bucket for calls that change something, and retries with full jitter. Thousands
// of nodes boot at once against the buckets of one account, so jitter lets all of them get on. Time lost to throttling is
// reported, since it extends the boot's deadline.
import { Failure, type FailureCode, isFailure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import { type Ec2, ec2Actions, isMutating } from './ec2.ts';

export interface CallRecord {
  action: string;
  mutating: boolean;
  outcome: 'accepted' | FailureCode;
  /** Milliseconds that this attempt took. */
  ms: number;
}

export interface PatienceOptions {
  clock: Clock;
  /** Boot-clock milliseconds after which no further attempt is made; called again before each attempt. */
  until: () => number;
  /** Called with the milliseconds spent waiting because EC2 throttled. */
  onThrottled: (ms: number) => void;
  /** Called before each attempt. */
  onAttempt?: (action: string) => void;
  onCall: (record: CallRecord) => void;
  /** Returns a number, uniform in [0, 1). */
  random?: () => number;
}

/** Changing calls that this process may make: a burst, then a rate per second. */
const BURST = 8;
const REFILL_PER_SECOND = 1;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 20_000;
/** Milliseconds that an attempt gets at least, even when the time is almost over. */
const SHORTEST_ATTEMPT_MS = 500;
/** Describes an interface whose methods are API calls. */
export interface Service<Api> {
  /** Its name in messages. */
  name: string;
  actions: Record<keyof Api & string, string>;
  isMutating: (method: keyof Api & string) => boolean;
  /**
   * Calls that do more when sent twice and have no token. After a lost answer only a look can tell whether such a call was
   * carried out, so it is not repeated.
   */
  notRepeatable: ReadonlySet<keyof Api>;
  unanswered: FailureCode;
}

const THROTTLED: ReadonlySet<string> = new Set<FailureCode>([
  'EC2_THROTTLED',
  'SSM_THROTTLED',
  'CLOUDWATCH_THROTTLED',
]);
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

/** The same interface; each call is repeated as long as that can help. */
export function patient<Api extends object>(api: Api, service: Service<Api>, options: PatienceOptions): Api {
  const random = options.random ?? Math.random;
  let tokens = BURST;
  let filledAt = options.clock.bootMs();
  // Each throttled answer raises it and each accepted one lowers it: the slow-down lasts longer than one call.
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
        // Time lost to throttling extends the deadline, so it is reported before the deadline is checked.
        if (throttled) options.onThrottled(pause);
        if (options.clock.bootMs() + pause >= options.until()) throw error;
        await options.clock.sleep(pause);
      }
    }
  }

  /** No attempt lasts longer than the time that is left: a service that never answers must not delay a verdict. */
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
