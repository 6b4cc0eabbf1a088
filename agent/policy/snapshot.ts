// A decision from what the API server says at one moment, for commands that people run.
import { Failure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import { watchCluster } from './cluster.ts';
import { createDecision, type Decision } from './decide.ts';
import type { ApiServer } from './follow.ts';

const PATIENCE_MS = 30_000;

export interface Snapshot {
  decision: Decision;
  problems: ReadonlyMap<string, string>;
}

/** @param pods the pods that are asked about, wherever they run. @throws POLICY_API_FAILED */
export async function takeSnapshot(
  api: ApiServer,
  nodeName: string,
  pods: ReadonlySet<string>,
  clock: Clock,
): Promise<Snapshot> {
  const stop = new AbortController();
  const decision = createDecision();
  let last: Error | undefined;
  const cluster = watchCluster(
    api,
    nodeName,
    decision,
    { clock, signal: stop.signal, random: () => 0 },
    {
      changed: () => undefined,
      silent: (_path, problem) => {
        last = problem;
      },
    },
    [...pods].map((key) => key.slice(0, key.indexOf('/'))),
  );
  const end = clock.bootMs() + PATIENCE_MS;
  while (!cluster.isKnown()) {
    if (clock.bootMs() > end || isFinal(last)) {
      stop.abort();
      throw (
        last ?? new Failure('POLICY_API_FAILED', `${api.url} did not say all within ${PATIENCE_MS / 1000} s`)
      );
    }
    await clock.sleep(20);
  }
  stop.abort();
  decision.setLocal(pods);
  return { decision, problems: cluster.problems() };
}

/** The failure stays: trying again would not help a person who waits at a terminal. */
function isFinal(problem: Error | undefined): boolean {
  return problem instanceof Failure && [401, 403].includes(Number(problem.facts['status']));
}
