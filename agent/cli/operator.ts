// AWS as commands for operators use it: patient, and ended by Ctrl-C.

import { type FleetAws, fleetAws } from '../aws/fleet.ts';
import { createSend } from '../aws/fleet-sdk.ts';
import { type ImageAws, imageAws } from '../aws/images.ts';
import { createImageSend } from '../aws/images-sdk.ts';
import type { Send } from '../aws/operator-calls.ts';
import type { PatienceOptions } from '../aws/patience.ts';
import { failureCodes } from '../messages/codes.ts';
import { systemClock } from '../port/clock.ts';
import type { CommandIo } from './command.ts';

/** Who only looks tries again soon enough; work that is under way outlasts a disturbance of AWS. */
export type Errand = 'look' | 'work';

/** Milliseconds AWS may leave us without any good answer. */
const SILENCE_MS: Record<Errand, number> = { look: 30_000, work: 5 * 60_000 };
/** Milliseconds after which somebody is told what is waited for. */
const NOTICE_MS = 1_500;

/** Load this module on first use: it brings the SDK. */
export async function connectFleet(
  region: string | undefined,
  errand: Errand,
  io: CommandIo,
): Promise<FleetAws> {
  const { send, patience } = patient(await createSend(region), errand, io);
  return fleetAws(send, patience);
}

/** As connectFleet, for images. */
export async function connectImages(
  region: string | undefined,
  errand: Errand,
  io: CommandIo,
): Promise<ImageAws> {
  const { send, patience } = patient(await createImageSend(region), errand, io);
  return imageAws(send, patience);
}

function patient<Action extends string>(
  send: Send<Action>,
  errand: Errand,
  io: CommandIo,
): { send: Send<Action>; patience: PatienceOptions } {
  const silenceMs = SILENCE_MS[errand];
  let lastAnswer = systemClock.bootMs();
  let notice: NodeJS.Timeout | undefined;
  let said = false;
  return {
    send(action, request) {
      // From the first attempt that is not answered; once, since what runs for hours draws its own picture.
      if (!said)
        notice ??= setTimeout(() => {
          said = true;
          io.stderr(
            `waiting for AWS to answer ${action}; giving up after ${silenceMs / 1000} s without an answer\n`,
          );
        }, NOTICE_MS).unref();
      return send(action, request);
    },
    patience: {
      clock: systemClock,
      until: () => lastAnswer + silenceMs,
      onThrottled: () => {},
      onCall: ({ outcome }) => {
        if (outcome === 'accepted') lastAnswer = systemClock.bootMs();
        // Without an answer, or throttled, it is tried again, and the wait goes on.
        if (outcome !== 'accepted' && failureCodes[outcome].transient) return;
        clearTimeout(notice);
        notice = undefined;
      },
    },
  };
}
