// What all phases of one run share: the clock, IMDS, EC2, the time limits, and the records of calls and waits.
import type { Ec2 } from '../aws/ec2.ts';
import { createImds, type Imds } from '../aws/imds.ts';
import type { InstanceIdentity } from '../aws/metadata.ts';
import { type CallRecord, withPatience } from '../aws/patience.ts';
import type { Config } from '../config/schema.ts';
import type { NodeTables } from '../host/nft.ts';
import { note } from '../host/tally.ts';
import { Failure } from '../messages/failure.ts';
import { isSilence } from '../messages/kinds.ts';
import type { Clock } from '../port/clock.ts';
import type { Log } from '../port/log.ts';
import { Cloud } from './cloud.ts';
import type { BundleState } from './facts/bundle-state.ts';
import { configOfFiles, type Provenance } from './facts/config.ts';

export interface Mode {
  /** `repair` asks EC2 nothing and changes nothing there. `look` changes nothing at all, and waits for no device. */
  kind: 'boot' | 'repair' | 'refill' | 'look';
  /** The configuration is the booted one. A configuration that was edited since waits for the next run of boot. */
  asBooted: boolean;
  /** Another version handed this boot over to this run, so this run does not hand over again. */
  handedOver?: boolean;
}

export interface Context {
  readonly mode: Mode;
  readonly clock: Clock;
  readonly log: Log;
  readonly imds: Imds;
  /** EC2's latest answers in this run. */
  readonly cloud: Cloud;
  /** What identify has learned, set as soon as it is known and before anything else can fail. */
  readonly known: { identity?: InstanceIdentity; config?: Config; provenance?: Provenance };
  /** The latest knowledge of the zone's bundle. */
  bundle: BundleState | undefined;
  /** The token of `join`, once it has been read in this run, or why a node that needs none now goes on without it. */
  joinToken: string | Failure | undefined;
  /** The node's tables as this run has just loaded them. The next look takes them from here, once. */
  loaded: NodeTables | undefined;
  /** Opens EC2 on first use, with the run's time limits. The region is needed only before identify is done. */
  ec2(region?: string): Promise<Ec2>;
  /** Boot-clock milliseconds at which the running phase must be over. */
  until(): number;
  /** The latest value of until(). The code that runs the phases sets it. */
  phaseEndsAt: number;
  /** Limits until() from now on, to at most this many milliseconds from now; undefined removes the limit. */
  limitPatience(ms: number | undefined): void;
  /** Waits for the cloud and books the time, so that the agent's own time can be told apart. */
  waiting<T>(wait: Promise<T>): Promise<T>;
  /** Milliseconds in which at least one wait for the cloud was open. */
  waitedMs(): number;
  readonly calls: readonly CallRecord[];
}

export interface ContextOptions {
  clock: Clock;
  log: Log;
  mode: Mode;
  onThrottled?: (ms: number) => void;
}

export function openContext({ clock, log, mode, onThrottled = () => {} }: ContextOptions): Context {
  const calls: CallRecord[] = [];
  let patienceEndsAt: number | undefined;
  let ec2: Promise<Ec2> | undefined;
  let open = 0;
  let openSince = 0;
  let waited = 0;

  const context: Context = {
    mode,
    clock,
    log,
    imds: createImds(clock, () => context.until()),
    cloud: new Cloud(),
    known: {},
    bundle: undefined,
    joinToken: undefined,
    loaded: undefined,
    phaseEndsAt: Number.POSITIVE_INFINITY,
    calls,
    until: () => Math.min(context.phaseEndsAt, patienceEndsAt ?? Number.POSITIVE_INFINITY),
    limitPatience(ms) {
      patienceEndsAt = ms === undefined ? undefined : clock.bootMs() + ms;
    },
    async ec2(region) {
      ec2 ??= connect(region ?? context.known.identity?.region);
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
    if (region === undefined) throw new Failure('INTERNAL', 'EC2 was asked before the region was known');
    const { createEc2 } = await import('../aws/ec2-sdk.ts');
    const raw = await createEc2({
      region,
      endpoint: (context.known.config ?? configOfFiles())?.aws.endpoints.ec2,
      imds: context.imds,
    });
    return withPatience(raw, {
      clock,
      until: () => context.until(),
      onThrottled,
      onCall: (record) => {
        calls.push(record);
        // For the metrics. A look writes nothing.
        if (mode.kind === 'boot' || mode.kind === 'refill') note(`ec2 ${record.action} ${record.outcome}`);
        if (record.outcome !== 'accepted') log.warn('EC2 call failed', { ...record });
      },
    });
  }

  return context;
}

/** Milliseconds that EC2 may stay silent where the run can go on without it. A short deadline leaves less. */
function silenceMs({ clock, until }: Context): number {
  return Math.max(0, Math.min(12_000, (until() - clock.bootMs()) / 4));
}

/** EC2's answer; or why there is none, where the run can go on without it. */
export async function orSilence<T>(
  context: Context,
  canGoOn: boolean,
  ask: () => Promise<T>,
): Promise<T | Failure> {
  try {
    if (canGoOn) context.limitPatience(silenceMs(context));
    return await ask();
  } catch (error) {
    if (!canGoOn || !isSilence(error)) throw error;
    return error;
  } finally {
    context.limitPatience(undefined);
  }
}
