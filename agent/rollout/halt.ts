// The operator's side of the halt flag.
import type { FleetAws } from '../aws/fleet.ts';
import { type HaltFlag, haltParameter, parseHaltFlag } from '../aws/halt-flag.ts';

export async function readHaltFlag(aws: FleetAws, cluster: string): Promise<HaltFlag | undefined> {
  return parseHaltFlag((await aws.readParameter(haltParameter(cluster)))?.value);
}

export async function raiseHaltFlag(aws: FleetAws, cluster: string, why: string): Promise<void> {
  await aws.writeParameter(haltParameter(cluster), JSON.stringify({ halted: true, why }));
}

export async function lowerHaltFlag(aws: FleetAws, cluster: string): Promise<void> {
  if ((await readHaltFlag(aws, cluster)) === undefined) return;
  await aws.writeParameter(haltParameter(cluster), JSON.stringify({ halted: false }));
}
