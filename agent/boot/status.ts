// The verdict as a file: what `eniboot status` shows and what a rollout judges a node by. The schema is
// documented in docs/status.md.
import { STATUS_FILE } from '../host/names.ts';
import type { Failure } from '../messages/failure.ts';
import { redactValue } from '../messages/redact.ts';
import { bootId } from '../port/clock.ts';
import { readJsonIfPresent, writeAtomic } from '../port/fs.ts';
import { version } from '../port/runtime.ts';
import { capacityOf } from './attach.ts';
import type { Provenance } from './node-config.ts';
import { type Check, type PhaseName, phaseNames } from './phase.ts';
import type { Session } from './session.ts';

export interface PhaseStatus {
  name: PhaseName;
  state: 'pending' | 'running' | 'done' | 'failed';
  attempts: number;
  /** Milliseconds in all, and the part of them in which the agent waited for IMDS, EC2 or a device. */
  ms: number;
  waitMs: number;
  budgetSeconds: number;
  changes: string[];
  checks: Check[];
}

export interface FailureStatus {
  code: string;
  phase: PhaseName;
  message: string;
  remedy: string;
  facts: Record<string, unknown>;
}

/** Whether this node runs its zone's bundle; undefined before install has asked. */
export interface BundleStatus {
  running: string;
  /** undefined when there is no parameter to follow or it could not be read. */
  wanted: string | undefined;
  /** It does not run what the parameter names, or could not find out; never without a parameter to follow. */
  behind: boolean;
  reason: string | undefined;
}

export interface Status {
  schema: 1;
  verdict: 'booting' | 'ready' | 'failed';
  /** READY, but without something that was asked for; each with its reason. */
  degraded: string[];
  failure: FailureStatus | undefined;
  version: string;
  commit: string;
  bootId: string;
  /** Runs of the agent in this boot until the verdict. */
  attempts: number;
  startedAt: string;
  finishedAt: string | undefined;
  seconds: number;
  /** Seconds until the deadline, at the time of writing. */
  remainingSeconds: number;
  instance:
    | { id: string; type: string; zone: string; zoneId: string; region: string; image: string }
    | undefined;
  bootEni: { id: string; device: string; address: string; publicAddress: string | undefined } | undefined;
  podEnis: { id: string; deviceIndex: number; subnet: string; addresses: number }[];
  capacity: { maxPods: number; explain: string } | undefined;
  /** Where the configuration is from; undefined until identify has read it. */
  configuration: Provenance | undefined;
  bundle: BundleStatus | undefined;
  phases: PhaseStatus[];
  cloud: { imdsRequests: number; ec2Calls: Record<string, number>; ec2Mutating: number; waitMs: number };
}

export function pendingPhases(budgets: Record<PhaseName, number>): PhaseStatus[] {
  return phaseNames.map((name) => ({
    name,
    state: 'pending',
    attempts: 0,
    ms: 0,
    waitMs: 0,
    budgetSeconds: budgets[name],
    changes: [],
    checks: [],
  }));
}

export interface Progress {
  session: Session;
  phases: PhaseStatus[];
  startedAt: Date;
  attempts: number;
  deadlineMs: number;
  startedMs: number;
}

/** The status at this moment; `failure` and `verdict` say how it ended. */
export function statusOf(progress: Progress, verdict: Status['verdict'], failure?: FailureStatus): Status {
  const { session, phases, startedAt } = progress;
  const { node } = session;
  const now = session.clock.bootMs();
  const { version: running, commit } = version();
  const accepted = session.calls.filter((call) => call.outcome === 'accepted');
  return {
    schema: 1,
    verdict,
    degraded: [...new Set(session.degradations)],
    failure,
    version: running,
    commit,
    bootId: bootId(),
    attempts: progress.attempts,
    startedAt: startedAt.toISOString(),
    finishedAt: verdict === 'booting' ? undefined : session.clock.now().toISOString(),
    seconds: seconds(now - progress.startedMs),
    remainingSeconds: seconds(progress.deadlineMs - now),
    instance:
      node === undefined
        ? undefined
        : {
            id: node.identity.instanceId,
            type: node.identity.instanceType,
            zone: node.identity.zone,
            zoneId: node.identity.zoneId,
            region: node.identity.region,
            image: node.identity.imageId,
          },
    bootEni:
      node === undefined
        ? undefined
        : {
            id: node.bootEni.eniId,
            device: node.bootDevice.name,
            address: node.bootEni.addresses[0] ?? '',
            publicAddress: node.bootEni.publicAddress,
          },
    podEnis: session.pods.map((pod) => ({
      id: pod.eniId,
      deviceIndex: pod.deviceIndex,
      subnet: pod.subnetId,
      addresses: pod.cidrs.reduce((sum, cidr) => sum + (cidr.endsWith('/28') ? 16 : 1), 0),
    })),
    capacity: capacityIfKnown(session),
    configuration: session.provenance,
    bundle: bundleOf(session),
    phases,
    cloud: {
      imdsRequests: session.imds.requests,
      ec2Calls: count(session.calls.map((call) => call.action)),
      ec2Mutating: accepted.filter((call) => call.mutating).length,
      waitMs: Math.round(session.waitedMs()),
    },
  };
}

export function failureStatus(failure: Failure, phase: PhaseName): FailureStatus {
  return {
    code: failure.code,
    phase,
    message: failure.message,
    remedy: failure.remedy,
    facts: failure.facts,
  };
}

/** `/etc/eniboot/config.yaml (5 keys); user data, part 2 (1 key)`; undefined until the configuration is read. */
export function sourcesLine({ configuration }: Status): string | undefined {
  if (configuration === undefined) return undefined;
  return configuration.sources
    .filter(({ source }) => source !== 'default')
    .map(({ source, keys }) => `${source} (${keys.length} key${keys.length === 1 ? '' : 's'})`)
    .join('; ');
}

export function writeStatus(status: Status): void {
  writeAtomic(STATUS_FILE, `${JSON.stringify(redactValue(status), null, 2)}\n`);
}

/** undefined when this boot has none yet, or when it is damaged. */
export function readStatus(): Status | undefined {
  const value = readJsonIfPresent(STATUS_FILE);
  return isStatus(value) ? value : undefined;
}

/** Has what every reader relies on; other versions may write more. */
function isStatus(value: unknown): value is Status {
  const { schema, verdict, cloud, phases, degraded, podEnis } = (value ?? {}) as Record<
    keyof Status,
    unknown
  >;
  return (
    schema === 1 &&
    ['booting', 'ready', 'failed'].includes(String(verdict)) &&
    typeof cloud === 'object' &&
    cloud !== null &&
    [phases, degraded, podEnis].every(Array.isArray)
  );
}

function bundleOf({ bundle }: Session): BundleStatus | undefined {
  if (bundle === undefined) return undefined;
  const { running, wanted, reason, ahead } = bundle;
  return {
    running,
    wanted,
    behind: reason !== undefined || (!ahead && wanted !== undefined && wanted !== running),
    reason,
  };
}

function capacityIfKnown(session: Session): Status['capacity'] {
  if (session.node === undefined || !session.hasConfig()) return undefined;
  try {
    const { maxPods, explain } = capacityOf(session);
    return { maxPods, explain };
  } catch {
    // An instance type without any is what identify fails with.
    return undefined;
  }
}

function count(names: string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

function seconds(ms: number): number {
  return Math.round(ms / 10) / 100;
}
