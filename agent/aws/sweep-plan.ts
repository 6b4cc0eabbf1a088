// Which pod ENIs are left over from dead instances: pure, from EC2's answers. In doubt an ENI stays: it costs one address,
// while the deletion of a wrong ENI costs a node its pods.
import type { Eni } from './ec2.ts';
import { CLUSTER_TAG, CREATED_TAG, INSTANCE_TAG, POD_ROLE, ROLE_TAG, SWEEP_SEEN_TAG } from './tags.ts';

/** Minutes between the run that marks an ENI and the first one that may delete it. */
export const REST_MINUTES = 5;

export interface SweepOptions {
  /** Only ENIs of this cluster; undefined: of every cluster. */
  cluster: string | undefined;
  /** Minutes that an ENI must have existed: far longer than a boot takes to attach an ENI that it created. */
  minAgeMinutes: number;
  /** Number of ENIs deleted in one run, at most. */
  max: number;
}

export interface SweepItem {
  eniId: string;
  /** Instance ID in the tag; empty when the tag is missing. */
  instanceId: string;
  cluster: string;
  /** Minutes since the ENI was created; undefined when its tag holds no time. */
  ageMinutes: number | undefined;
  /** `mark`: seen without its instance for the first time. `wait`: a later run will act. `keep`: must not be deleted. */
  action: 'delete' | 'mark' | 'wait' | 'keep';
  why: string;
}

/** The instance for which an ENI was created; undefined when its tag does not hold an instance ID. */
export function ownerOf(eni: Eni): string | undefined {
  const id = eni.tags[INSTANCE_TAG] ?? '';
  return /^i-[0-9a-f]{8,17}$/.test(id) ? id : undefined;
}

/** One item for each ENI, the oldest first. `live`: instances that EC2 knows and that are not terminated. */
export function planSweep(
  enis: Eni[],
  live: ReadonlySet<string>,
  options: SweepOptions,
  now: Date,
): SweepItem[] {
  const items = enis
    .map((eni) => itemFor(eni, live, options, now))
    .sort((a, b) => (b.ageMinutes ?? 0) - (a.ageMinutes ?? 0) || a.eniId.localeCompare(b.eniId));
  let deletes = 0;
  return items.map((item) => {
    if (item.action !== 'delete') return item;
    deletes += 1;
    return deletes <= options.max
      ? item
      : { ...item, action: 'wait', why: `over the limit of ${options.max} a run` };
  });
}

function itemFor(eni: Eni, live: ReadonlySet<string>, options: SweepOptions, now: Date): SweepItem {
  const owner = ownerOf(eni);
  const age = minutesSince(eni.tags[CREATED_TAG], now);
  const item = (action: SweepItem['action'], why: string): SweepItem => ({
    eniId: eni.eniId,
    instanceId: eni.tags[INSTANCE_TAG] ?? '',
    cluster: eni.tags[CLUSTER_TAG] ?? '',
    ageMinutes: age === undefined ? undefined : Math.floor(age),
    action,
    why,
  });
  // The filter of the call has checked this already, but a deletion must not depend on a filter alone.
  if (eni.tags[ROLE_TAG] !== POD_ROLE) return item('keep', `is not tagged ${ROLE_TAG}=${POD_ROLE}`);
  if (options.cluster !== undefined && eni.tags[CLUSTER_TAG] !== options.cluster)
    return item('keep', `is not tagged ${CLUSTER_TAG}=${options.cluster}`);
  if (eni.status !== 'available' || eni.attachment !== undefined)
    return item('keep', `is ${eni.status || 'attached'}`);
  if (owner === undefined) return item('keep', `${INSTANCE_TAG} does not name an instance`);
  if (age === undefined) return item('keep', `${CREATED_TAG} is not a time`);
  if (age < 0) return item('keep', `${CREATED_TAG} lies in the future: check this machine's clock`);
  if (live.has(owner)) return item('keep', 'its instance exists and will attach it again');
  if (age < options.minAgeMinutes) return item('wait', `younger than ${options.minAgeMinutes} minutes`);
  const rested = minutesSince(eni.tags[SWEEP_SEEN_TAG], now);
  if (rested === undefined || rested < 0)
    return item('mark', 'its instance is gone; seen for the first time');
  return rested < REST_MINUTES
    ? item('wait', `its instance is gone; marked less than ${REST_MINUTES} minutes ago`)
    : item('delete', 'its instance is gone; seen twice');
}

/** Minutes since an ISO 8601 UTC time, as eniboot writes it; undefined for anything else. */
function minutesSince(text: string | undefined, now: Date): number | undefined {
  if (text === undefined || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(text)) return undefined;
  const then = Date.parse(text);
  return Number.isNaN(then) ? undefined : (now.getTime() - then) / 60_000;
}
