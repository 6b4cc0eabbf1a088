// The answers of a load, which cases look at, and whether any answer is missing.
import assert from 'node:assert/strict';
import { ONCE } from './manager/resources.ts';
import { type Load, type Place, until } from './place.ts';
import type { Asked } from './pod/load.ts';

/** The facts that a case has found, for the evidence. */
export type Facts = Record<string, string | number>;

/** The name of the service for requests that are sent only once, so that no retry hides a lost request. */
export const once = (service: string) => `${service}${ONCE}`;

export const failures = (answers: readonly Asked[]) => answers.filter(({ status }) => status !== 200);

/** @throws with the first failures, when there are any. */
export function noneFailed(what: string, answers: readonly Asked[]): void {
  const failed = failures(answers);
  const some = failed.slice(0, 3).map((one) => JSON.stringify(one));
  assert.equal(failed.length, 0, `${what}: ${failed.length} of ${answers.length} failed: ${some.join('\n')}`);
}

/** Number of answers from each server or zone. */
export function tally(answers: readonly Asked[], by: 'by' | 'zone' = 'by'): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { answer } of answers)
    if (answer !== undefined) counts[answer[by]] = (counts[answer[by]] ?? 0) + 1;
  return counts;
}

/** Waits for `count` answers to requests that begin from now on. */
export async function next(load: Load, count: number): Promise<Asked[]> {
  const now = Date.now();
  const fresh = () => load.answers.filter(({ at }) => at >= now);
  await until(`${count} more answers`, 20_000, () => fresh().length >= count);
  return fresh();
}

/** Waits until the sidecar knows the service: it hears of a new service a moment after the API does. */
export async function known(place: Place, service: string): Promise<void> {
  await until(`${place.name} knows ${service}`, 10_000, async () =>
    (await place.ask(service, 1)).every(({ status }) => status === 200),
  );
}
