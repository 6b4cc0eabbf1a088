// Whether network policies are in force, by what the policy service writes of itself. Asks no API server.
import { earlierNodeFile } from '../../host/node-file.ts';
import { countsAge, readCounts } from '../../policy/counts.ts';
import { wasKnown } from '../../policy/marks.ts';
import { systemClock } from '../../port/clock.ts';
import { type Check, row } from '../phase.ts';

export const POLICY_SERVICE = 'eniboot-policy.service';
/** Seconds. The service saves its counts every five. */
const STALE_S = 60;
/** How long a change by another program is told. */
const RECENT_MS = 600_000;

/** @param state ActiveState of the service. Empty where policies are not in force. */
export function checkPolicies(state: string | undefined): Check[] {
  if (earlierNodeFile()?.policy === undefined) return [];
  const counts = readCounts();
  const check = row('policies', { state, ...counts?.pods, putBack: counts?.putBack });
  if (state === 'activating') return [check.warn(`${POLICY_SERVICE} is starting`)];
  if (state !== 'active')
    return [check.fail('POLICY_SERVICE_DOWN', `${POLICY_SERVICE} is ${state ?? 'not installed'}`)];
  if (!wasKnown())
    return [check.warn('the API server has not listed policies since the boot: every new pod is closed')];
  if (counts === undefined) return [check.warn('the service has just listed the policies')];
  const age = Math.round(countsAge());
  if (age > STALE_S)
    return [check.fail('POLICY_SERVICE_DOWN', `${POLICY_SERVICE} has not looked at pods for ${age} s`)];
  const { pods, putBack } = counts;
  if (pods.pending > 0)
    return [check.warn(`${pods.pending} policy tables are not written: the journal of the service says why`)];
  const { times, last } = putBack;
  if (last !== undefined && systemClock.bootMs() - last.atMs < RECENT_MS)
    return [
      check.warn(
        `another program has changed the rules of ${last.where}; they were written again (${times} times since the boot)`,
      ),
    ];
  return [check.pass(`rules are as decided: ${pods.isolated} pods isolated, ${pods.open} open`)];
}
