// The verdict as a file: `eniboot status` shows it, and a rollout judges a node by it. docs/status.md documents the schema.
import { deviceName } from '../../host/devices.ts';
import { STATUS_FILE } from '../../host/names.ts';
import { isObject, shape, text } from '../../host/shape.ts';
import type { Failure } from '../../messages/failure.ts';
import { redactValue } from '../../messages/redact.ts';
import { bootId } from '../../port/clock.ts';
import { readJsonIfPresent, writeAtomic } from '../../port/fs.ts';
import { version } from '../../port/runtime.ts';
import type { Context } from '../context.ts';
import type { Deadline } from '../deadline.ts';
import type { BundleState } from '../facts/bundle-state.ts';
import { capacityOf } from '../facts/capacity.ts';
import type { Provenance } from '../facts/config.ts';
import { type Facts, sizeOf } from '../facts/facts.ts';
import { budgetSeconds, type Check, type PhaseName, phaseNames } from '../phase.ts';

export interface PhaseStatus {
  name: PhaseName;
  state: 'pending' | 'running' | 'done' | 'failed';
  attempts: number;
  /** Milliseconds in all, and the part of them in which the agent waited for IMDS, EC2 or a device. */
  ms: number;
  waitMs: number;
  budgetSeconds: number;
  /** What was done, each change once; and the same by rounds. The phase observed again after each round. */
  changes: string[];
  rounds: string[][];
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
export interface BundleStatus extends Pick<BundleState, 'running' | 'wanted' | 'reason'> {
  /** The node does not run the version that the parameter names, or could not find out. False without a parameter to follow. */
  behind: boolean;
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
  /** Where the configuration comes from; undefined until identify has read it. */
  configuration: Provenance | undefined;
  bundle: BundleStatus | undefined;
  phases: PhaseStatus[];
  cloud: { imdsRequests: number; ec2Calls: Record<string, number>; ec2Mutating: number; waitMs: number };
}

export function pendingPhases(): PhaseStatus[] {
  return phaseNames.map((name) => ({
    name,
    state: 'pending',
    attempts: 0,
    ms: 0,
    waitMs: 0,
    budgetSeconds: budgetSeconds[name],
    changes: [],
    rounds: [],
    checks: [],
  }));
}

export interface Progress {
  context: Context;
  facts: Facts;
  deadline: Pick<Deadline, 'at' | 'startedMs' | 'attempts'>;
  phases: PhaseStatus[];
  /** What a READY node would not have of what was asked for, by each phase's last observation. */
  degraded: Map<PhaseName, string[]>;
  startedAt: Date;
}

/** The status at this moment; `failure` and `verdict` say how the boot ended. */
export function statusOf(progress: Progress, verdict: Status['verdict'], failure?: FailureStatus): Status {
  const { context, facts, deadline, phases, startedAt } = progress;
  const { calls, clock, known, imds } = context;
  const now = clock.bootMs();
  const { version: running, commit } = version();
  const accepted = calls.filter((call) => call.outcome === 'accepted');
  return {
    schema: 1,
    verdict,
    degraded: [...new Set([...progress.degraded.values()].flat())],
    failure,
    version: running,
    commit,
    bootId: bootId(),
    attempts: deadline.attempts,
    startedAt: startedAt.toISOString(),
    finishedAt: verdict === 'booting' ? undefined : clock.now().toISOString(),
    seconds: seconds(now - deadline.startedMs),
    remainingSeconds: seconds(deadline.at() - now),
    ...nodeOf(facts),
    configuration: known.provenance,
    bundle: bundleOf(context.bundle),
    phases,
    cloud: {
      imdsRequests: imds.requests,
      ec2Calls: count(calls.map((call) => call.action)),
      ec2Mutating: accepted.filter((call) => call.mutating).length,
      waitMs: Math.round(context.waitedMs()),
    },
  };
}

/** What the phases have found out about the node so far. */
function nodeOf(facts: Facts): Pick<Status, 'instance' | 'bootEni' | 'podEnis' | 'capacity'> {
  const { node, vpc, attached } = facts;
  if (node === undefined)
    return { instance: undefined, bootEni: undefined, podEnis: [], capacity: undefined };
  const { identity, bootEni, bootDevice, config, limits } = node;
  const { maxPods, explain } = attached?.capacity ?? capacityOf(limits, config.pods, 0);
  return {
    instance: {
      id: identity.instanceId,
      type: identity.instanceType,
      zone: identity.zone,
      zoneId: identity.zoneId,
      region: identity.region,
      image: identity.imageId,
    },
    bootEni: {
      id: bootEni.eniId,
      device: deviceName(bootDevice),
      address: bootEni.addresses[0] ?? '',
      publicAddress: vpc === undefined ? bootEni.publicAddress : vpc.publicAddress,
    },
    podEnis: (attached?.pods ?? []).map((pod) => ({
      id: pod.eniId,
      deviceIndex: pod.deviceIndex,
      subnet: pod.subnetId,
      addresses: pod.cidrs.reduce((sum, cidr) => sum + sizeOf(cidr), 0),
    })),
    capacity: { maxPods, explain },
  };
}

export function failureStatus(failure: Failure, phase: PhaseName): FailureStatus {
  const { code, message, remedy, facts } = failure;
  return { code, phase, message, remedy, facts };
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

/** undefined when this boot has no status yet, or when the file is damaged. */
export function readStatus(): Status | undefined {
  const value = readJsonIfPresent(STATUS_FILE);
  return isStatus(value) ? (value as Status) : undefined;
}

/** Checks the fields that every reader relies on. Other versions may write more. */
const isStatus = shape<Pick<Status, 'schema' | 'verdict' | 'cloud' | 'phases' | 'degraded' | 'podEnis'>>({
  schema: (value) => value === 1,
  verdict: text((verdict) => ['booting', 'ready', 'failed'].includes(verdict)),
  cloud: isObject,
  ...{ phases: Array.isArray, degraded: Array.isArray, podEnis: Array.isArray },
});

function bundleOf(bundle: BundleState | undefined): BundleStatus | undefined {
  if (bundle === undefined) return undefined;
  const { running, wanted, reason, ahead } = bundle;
  const behind = reason !== undefined || (!ahead && wanted !== undefined && wanted !== running);
  return { running, wanted, behind, reason };
}

function count(names: string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

function seconds(ms: number): number {
  return Math.round(ms / 10) / 100;
}
