// AWS as commands for operators use it: patient, and ended by Ctrl-C.

import { type FleetAws, fleetAws } from '../aws/fleet.ts';
import { createSend } from '../aws/fleet-sdk.ts';
import { systemClock } from '../port/clock.ts';

/** Milliseconds AWS may leave us without any good answer. */
const SILENCE_MS = 5 * 60_000;

/** Load this module on first use: it brings the SDK. */
export async function connectFleet(region: string | undefined): Promise<FleetAws> {
  const send = await createSend(region);
  let lastAnswer = systemClock.bootMs();
  return fleetAws(send, {
    clock: systemClock,
    until: () => lastAnswer + SILENCE_MS,
    onThrottled: () => {},
    onCall: (record) => {
      if (record.outcome === 'accepted') lastAnswer = systemClock.bootMs();
    },
  });
}
