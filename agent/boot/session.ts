// One run's Boot: the clock, IMDS, EC2 and patience that the phases share, and the books kept about them.

import type { Ec2 } from '../aws/ec2.ts';
import { createImds } from '../aws/imds.ts';
import { type CallRecord, withPatience } from '../aws/patience.ts';
import type { Config } from '../config/schema.ts';
import { note } from '../host/tally.ts';
import { Failure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import type { Log } from '../port/log.ts';
import { configOfFiles } from './node-config.ts';
import { type Boot, nodeOf } from './phase.ts';

export interface Session extends Boot {
  /** Set by the sequence when a phase begins: boot-clock milliseconds. */
  phaseEndsAt: number;
  calls: CallRecord[];
  /** Milliseconds in which at least one wait for the cloud was open. */
  waitedMs(): number;
  /** Credentials, endpoints: known only once identify has read the configuration. */
  hasConfig(): boolean;
}

export interface SessionOptions {
  clock: Clock;
  log: Log;
  onThrottled: (ms: number) => void;
  handedOver?: boolean;
  /** EC2 calls are noted for the metrics; not those of a look, which leaves no trace. */
  counted: boolean;
}

export function openSession(options: SessionOptions): Session {
  const { clock, log } = options;
  let config: Config | undefined;
  let patienceEndsAt: number | undefined;
  let ec2: Promise<Ec2> | undefined;
  let open = 0;
  let openSince = 0;
  let waited = 0;

  const session: Session = {
    clock,
    log,
    phaseEndsAt: Number.POSITIVE_INFINITY,
    calls: [],
    localOnly: false,
    asBooted: false,
    handedOver: options.handedOver ?? false,
    bundle: undefined,
    degradations: [],
    provenance: undefined,
    ec2Silent: false,
    identity: undefined,
    node: undefined,
    pods: [],
    foreignEnis: 0,
    get config() {
      if (config === undefined)
        throw new Failure('INTERNAL', 'the configuration was asked for before it was read');
      return config;
    },
    set config(value) {
      config = value;
    },
    hasConfig: () => config !== undefined,
    imds: createImds(clock, () => session.until()),
    until: () => Math.min(session.phaseEndsAt, patienceEndsAt ?? Number.POSITIVE_INFINITY),
    limitPatience(ms) {
      patienceEndsAt = ms === undefined ? undefined : clock.bootMs() + ms;
    },
    async ec2(region) {
      ec2 ??= connect(region);
      return ec2.catch((error: unknown) => {
        ec2 = undefined;
        throw error;
      });
    },
    async waiting(wait) {
      if (open === 0) openSince = performance.now();
      open += 1;
      try {
        return await wait;
      } finally {
        open -= 1;
        if (open === 0) waited += performance.now() - openSince;
      }
    },
    waitedMs: () => waited,
  };

  async function connect(region: string | undefined): Promise<Ec2> {
    const { createEc2 } = await import('../aws/ec2-sdk.ts');
    const raw = await createEc2({
      region: region ?? nodeOf(session).identity.region,
      endpoint: (config ?? configOfFiles())?.aws.endpoints.ec2,
      imds: session.imds,
    });
    return withPatience(raw, {
      clock,
      until: () => session.until(),
      onThrottled: options.onThrottled,
      onCall: (record) => {
        session.calls.push(record);
        if (options.counted) note(`ec2 ${record.action} ${record.outcome}`);
        if (record.outcome !== 'accepted') log.warn('EC2 call failed', { ...record });
      },
    });
  }

  return session;
}
