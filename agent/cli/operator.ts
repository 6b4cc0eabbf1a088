// AWS as commands for operators use it: patient, and ended by Ctrl-C.

import { type FleetAws, fleetAws } from '../aws/fleet.ts';
import { createSend } from '../aws/fleet-sdk.ts';
import { type ImageAws, imageAws } from '../aws/images.ts';
import { createImageSend } from '../aws/images-sdk.ts';
import type { PatienceOptions } from '../aws/patience.ts';
import { systemClock } from '../port/clock.ts';

/** Milliseconds AWS may leave us without any good answer. */
const SILENCE_MS = 5 * 60_000;

/** Load this module on first use: it brings the SDK. */
export async function connectFleet(region: string | undefined): Promise<FleetAws> {
  return fleetAws(await createSend(region), operatorPatience());
}

/** As connectFleet, for images. */
export async function connectImages(region: string | undefined): Promise<ImageAws> {
  return imageAws(await createImageSend(region), operatorPatience());
}

function operatorPatience(): PatienceOptions {
  let lastAnswer = systemClock.bootMs();
  return {
    clock: systemClock,
    until: () => lastAnswer + SILENCE_MS,
    onThrottled: () => {},
    onCall: (record) => {
      if (record.outcome === 'accepted') lastAnswer = systemClock.bootMs();
    },
  };
}
