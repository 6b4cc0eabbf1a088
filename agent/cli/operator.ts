// AWS for commands of operators: repeated calls, ended by Ctrl-C. Load this module on first use: it brings the SDK.

import { awsClock } from '../aws/aws-clock.ts';
import type { Ec2 } from '../aws/ec2.ts';
import { createOperatorEc2 } from '../aws/ec2-sdk.ts';
import { type FleetAws, fleetAws } from '../aws/fleet.ts';
import { createSend } from '../aws/fleet-sdk.ts';
import { type ImageAws, imageAws } from '../aws/images.ts';
import { createImageSend } from '../aws/images-sdk.ts';
import { operatorRegion } from '../aws/operator-clients.ts';
import { type PatienceOptions, withPatience } from '../aws/patience.ts';
import { failureCodes } from '../messages/codes.ts';
import { type Clock, systemClock } from '../port/clock.ts';
import { LEASE_MS } from '../rollout/record.ts';
import type { CommandIo } from './command.ts';

/**
 * How long a command waits for AWS. A command that only looks gives up soon: the operator can call it again. Work under way
 * waits for the end of a disturbance. A process with a lease gives up before the lease ends: a call that succeeded after that
 * would act beside the process that has taken the lease.
 */
export type Patience = 'look' | 'work' | 'leased';

/** Milliseconds without a good answer of AWS after which a command gives up. */
const SILENCE_MS: Record<Patience, number> = { look: 30_000, work: 5 * 60_000, leased: LEASE_MS - 30_000 };
/** Milliseconds after which the operator is told what the command waits for. */
const NOTICE_MS = 1_500;

/** `region`: the region that is called. `clock`: its wall clock is AWS's from the first answer on. */
export async function connectFleet(
  wanted: string | undefined,
  patience: Patience,
  io: CommandIo,
): Promise<{ region: string; aws: FleetAws; clock: Clock }> {
  const clock = awsClock(systemClock);
  const aws = fleetAws(await createSend(wanted, clock.learn), patienceOf(patience, io));
  return { region: await operatorRegion(wanted), aws, clock };
}

export async function connectImages(
  region: string | undefined,
  patience: Patience,
  io: CommandIo,
): Promise<ImageAws> {
  return imageAws(await createImageSend(region), patienceOf(patience, io));
}

/** `stopped` also ends the pauses between attempts. */
export async function connectEc2(
  wanted: string | undefined,
  patience: Patience,
  io: CommandIo,
  stopped: AbortSignal,
): Promise<{ ec2: Ec2; region: string }> {
  const { ec2, region } = await createOperatorEc2(wanted);
  const sleep = (ms: number, signal = stopped) => systemClock.sleep(ms, AbortSignal.any([stopped, signal]));
  const options = { ...patienceOf(patience, io), clock: { ...systemClock, sleep } };
  return { ec2: withPatience(ec2, options), region };
}

/**
 * How long AWS may stay silent. The time counts from the last answer, as a lease does. A connection that was not used for
 * longer than that, as of a Region that waits for its turn, has no lease to lose: its time begins anew with the next call.
 */
export function silenceOf(
  { bootMs }: Pick<Clock, 'bootMs'>,
  silenceMs: number,
): { until(): number; asked(): void; answered(): void } {
  let since = bootMs();
  let asked = since;
  return {
    until: () => since + silenceMs,
    asked() {
      const now = bootMs();
      if (now - Math.max(asked, since) > silenceMs) since = now;
      asked = now;
    },
    answered() {
      since = bootMs();
    },
  };
}

function patienceOf(patience: Patience, io: CommandIo): PatienceOptions {
  const silenceMs = SILENCE_MS[patience];
  const silence = silenceOf(systemClock, silenceMs);
  let notice: NodeJS.Timeout | undefined;
  let said = false;
  return {
    clock: systemClock,
    until: silence.until,
    onThrottled: () => {},
    onAttempt(action) {
      silence.asked();
      // The timer starts with the first attempt. The notice comes once, since a long rollout shows its own picture.
      if (said) return;
      notice ??= setTimeout(() => {
        said = true;
        io.stderr(
          `waiting for AWS to answer ${action}; giving up after ${silenceMs / 1000} s without an answer\n`,
        );
      }, NOTICE_MS).unref();
    },
    onCall({ outcome }) {
      if (outcome === 'accepted') silence.answered();
      // A call without an answer, or a throttled one, is repeated: the wait goes on.
      if (outcome !== 'accepted' && failureCodes[outcome].transient) return;
      clearTimeout(notice);
      notice = undefined;
    },
  };
}
