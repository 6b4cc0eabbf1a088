// AWS as commands for operators use it: patient, and ended by Ctrl-C. Load this module on first use: it brings the SDK.

import { awsClock } from '../aws/aws-clock.ts';
import type { Ec2 } from '../aws/ec2.ts';
import { createOperatorEc2 } from '../aws/ec2-sdk.ts';
import { type FleetAws, fleetAws } from '../aws/fleet.ts';
import { createSend } from '../aws/fleet-sdk.ts';
import { type ImageAws, imageAws } from '../aws/images.ts';
import { createImageSend } from '../aws/images-sdk.ts';
import { type PatienceOptions, withPatience } from '../aws/patience.ts';
import { failureCodes } from '../messages/codes.ts';
import { type Clock, systemClock } from '../port/clock.ts';
import { LEASE_MS } from '../rollout/record.ts';
import type { CommandIo } from './command.ts';

/**
 * Who only looks tries again soon enough; work that is under way outlasts a disturbance of AWS. Whoever has a lease gives up
 * before it is over: a call that came through afterwards would act beside the one who has taken over.
 */
export type Errand = 'look' | 'work' | 'leased';

/** Milliseconds AWS may leave us without any good answer. */
const SILENCE_MS: Record<Errand, number> = { look: 30_000, work: 5 * 60_000, leased: LEASE_MS - 30_000 };
/** Milliseconds after which somebody is told what is waited for. */
const NOTICE_MS = 1_500;

/** `clock`: whose wall clock is that of AWS, from the first answer on. */
export async function connectFleet(
  region: string | undefined,
  errand: Errand,
  io: CommandIo,
): Promise<{ aws: FleetAws; clock: Clock }> {
  const clock = awsClock(systemClock);
  return { aws: fleetAws(await createSend(region, clock.learn), patience(errand, io)), clock };
}

export async function connectImages(
  region: string | undefined,
  errand: Errand,
  io: CommandIo,
): Promise<ImageAws> {
  return imageAws(await createImageSend(region), patience(errand, io));
}

/** `stopped` ends its pauses too. */
export async function connectEc2(
  wanted: string | undefined,
  errand: Errand,
  io: CommandIo,
  stopped: AbortSignal,
): Promise<{ ec2: Ec2; region: string }> {
  const { ec2, region } = await createOperatorEc2(wanted);
  const sleep = (ms: number, signal = stopped) => systemClock.sleep(ms, AbortSignal.any([stopped, signal]));
  const options = { ...patience(errand, io), clock: { ...systemClock, sleep } };
  return { ec2: withPatience(ec2, options), region };
}

function patience(errand: Errand, io: CommandIo): PatienceOptions {
  const silenceMs = SILENCE_MS[errand];
  let lastAnswer = systemClock.bootMs();
  let notice: NodeJS.Timeout | undefined;
  let said = false;
  return {
    clock: systemClock,
    until: () => lastAnswer + silenceMs,
    onThrottled: () => {},
    onAttempt(action) {
      // From the first attempt that is not answered; once, since what runs for hours draws its own picture.
      if (said) return;
      notice ??= setTimeout(() => {
        said = true;
        io.stderr(
          `waiting for AWS to answer ${action}; giving up after ${silenceMs / 1000} s without an answer\n`,
        );
      }, NOTICE_MS).unref();
    },
    onCall({ outcome }) {
      if (outcome === 'accepted') lastAnswer = systemClock.bootMs();
      // Without an answer, or throttled, it is tried again, and the wait goes on.
      if (outcome !== 'accepted' && failureCodes[outcome].transient) return;
      clearTimeout(notice);
      notice = undefined;
    },
  };
}
