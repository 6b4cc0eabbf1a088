// Compares what the nodes of a cluster run with what their zones' parameters name and with what the last rollout has left.
import type { FleetAws, FleetInstance } from '../aws/fleet.ts';
import { partsOf } from '../aws/paging.ts';
import type { Release } from '../aws/release.ts';
import { CLUSTER_TAG, VERDICT_TAG } from '../aws/tags.ts';
import { isFailure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import { releaseIn, zoneParameter } from './begin.ts';
import { ensureDocument, NODES_PER_COMMAND, parametersOf } from './document.ts';
import { type NodeReport, readReport } from './node-report.ts';
import { reportedVersion } from './plan.ts';
import { readRollout } from './record.ts';
import { type BundleSpec, isExcluded, isImage, subjectOf, targetTags } from './spec.ts';

export type Drift =
  /** The node runs another version than its zone's parameter names. */
  | 'version'
  /** The node runs another archive of the version that its zone's parameter names. */
  | 'archive'
  | 'unhealthy'
  /** The node's last boot ended in FAILED. */
  | 'failed'
  /** The node's SSM agent does not answer. */
  | 'unreachable'
  /** The node's SSM agent answers, but the node has not answered the question. */
  | 'silent';

export interface VerifiedNode {
  instanceId: string;
  zoneId: string;
  /** The version that runs, by the node's own report; without a report, the version of its last boot. */
  version: string | undefined;
  drift: Drift | undefined;
  reason: string;
}

export interface Verified {
  cluster: string;
  rollout: { id: string; state: string; version: string } | undefined;
  zones: {
    zoneId: string;
    /** The version that the parameter names; undefined when it names none: then nodes run the version of their AMI. */
    named: string | undefined;
    /** Why the parameter is not what the last rollout has left; undefined when it is. */
    drift: string | undefined;
    nodes: number;
    /** Number of nodes by version. */
    versions: Record<string, number>;
  }[];
  /** Nodes that are adrift first, then the others. */
  nodes: VerifiedNode[];
  /** Nodes that the last rollout excluded. */
  excluded: string[];
}

/** Commands in flight at once. */
const COMMANDS_AT_ONCE = 10;
/** Seconds that a node has to begin `check`, and to end it: what it waits for takes half a minute. */
const DELIVERY_SECONDS = 60;
const CHECK_SECONDS = 120;
const LOOK_MS = 3_000;
const RUNNING: ReadonlySet<string> = new Set(['Pending', 'Delayed', 'InProgress', 'Cancelling']);
const NO_DIGEST = '0'.repeat(64);

/** Asks all nodes whose SSM agent answers; changes nothing on them. */
export async function verifyFleet(aws: FleetAws, clock: Clock, cluster: string): Promise<Verified> {
  const standing = await readRollout(aws, cluster, clock).catch((error: unknown) => {
    if (isFailure(error, 'ROLLOUT_NONE')) return undefined;
    throw error;
  });
  const rollout = await standing?.rollout();
  // The rollout of an AMI says nothing about versions that nodes run by updates in place.
  const bundle = rollout === undefined || isImage(rollout.spec) ? undefined : rollout;
  const spec = bundle?.spec as BundleSpec | undefined;
  const found = await aws.describeInstances(
    spec === undefined ? { [CLUSTER_TAG]: cluster } : targetTags(spec),
  );
  const isLeftOut = (one: FleetInstance) => spec !== undefined && isExcluded(spec, one);
  const instances = found.filter((one) => !isLeftOut(one));
  const zoneOf = (one: FleetInstance) => one.zoneId ?? 'unknown zone';
  const zoneIds = [...new Set(instances.map(zoneOf))].sort();
  const online = new Set(await aws.findOnline(instances.map((one) => one.instanceId)));

  const nodes: VerifiedNode[] = [];
  const zones: Verified['zones'] = [];
  for (const zoneId of zoneIds) {
    const own = instances.filter((one) => zoneOf(one) === zoneId);
    const name = spec === undefined ? `/eniboot/bundle/${zoneId}` : zoneParameter(spec, zoneId);
    const value = (await aws.readParameter(name))?.value;
    const named = releaseIn(value);
    const reports = await ask(
      own.filter((one) => online.has(one.instanceId)),
      named,
    );
    const judged = own.map((one) => judgeNode(one, zoneId, named, online.has(one.instanceId), reports));
    nodes.push(...judged);
    const versions: Record<string, number> = {};
    for (const { version = 'unknown' } of judged) versions[version] = (versions[version] ?? 0) + 1;
    const drift = standing === undefined ? undefined : parameterDrift(zoneId, value);
    zones.push({ zoneId, named: named?.version, drift, nodes: own.length, versions });
  }
  return {
    cluster,
    rollout:
      rollout === undefined || standing === undefined
        ? undefined
        : { id: rollout.id, state: standing.progress.state, version: subjectOf(rollout.spec) },
    zones,
    nodes: [
      ...nodes.filter((one) => one.drift !== undefined),
      ...nodes.filter((one) => one.drift === undefined),
    ],
    excluded: found.filter(isLeftOut).map((one) => one.instanceId),
  };

  /** A rollout that is unfinished or abandoned may leave either of the two values. */
  function parameterDrift(zoneId: string, value: string | undefined): string | undefined {
    const zone = bundle?.zones.find((one) => one.zoneId === zoneId);
    if (bundle === undefined || standing === undefined || zone === undefined) return undefined;
    const { state } = standing.progress;
    const left =
      state === 'done'
        ? [bundle.release]
        : state === 'rolled-back'
          ? [zone.before]
          : [bundle.release, zone.before];
    if (left.includes(value)) return undefined;
    const names = left.map((one) => releaseIn(one)?.version ?? 'nothing').join(' or ');
    return `rollout ${bundle.id} (${state}) has left ${names} in its parameter`;
  }

  async function ask(
    asked: readonly FleetInstance[],
    named: Release | undefined,
  ): Promise<Map<string, NodeReport>> {
    const reports = new Map<string, NodeReport>();
    if (asked.length === 0) return reports;
    const document = await ensureDocument(aws, clock);
    const ids = asked.map((one) => one.instanceId);
    for (const together of partsOf(partsOf(ids, NODES_PER_COMMAND), COMMANDS_AT_ONCE))
      await Promise.all(
        together.map(async (instanceIds) => {
          const until = clock.now().getTime() + (DELIVERY_SECONDS + CHECK_SECONDS) * 1000;
          const digests = [named?.x64?.sha256, named?.arm64?.sha256].filter((one) => one !== undefined);
          const commandId = await aws.sendCommand({
            document,
            instanceIds,
            comment: `eniboot verify ${cluster}`.slice(0, 100),
            parameters: parametersOf({
              action: 'check',
              version: named?.version ?? '0.0.0',
              digests: digests.length === 0 ? [NO_DIGEST] : digests,
              cluster,
              untilMs: until,
              seconds: CHECK_SECONDS,
              rollout: 'verify',
            }),
            deliverySeconds: DELIVERY_SECONDS,
            maxErrors: instanceIds.length,
            alarm: undefined,
          });
          for (const [node, report] of await reportsOf(commandId, instanceIds, until))
            reports.set(node, report);
        }),
      );
    return reports;
  }

  async function reportsOf(
    commandId: string,
    instanceIds: readonly string[],
    untilMs: number,
  ): Promise<Map<string, NodeReport>> {
    for (;;) {
      await clock.sleep(LOOK_MS);
      const invocations = await aws.listInvocations(commandId);
      const ended = invocations.filter((one) => !RUNNING.has(one.status));
      if (ended.length < instanceIds.length && clock.now().getTime() < untilMs) continue;
      return new Map(
        ended.flatMap(({ instanceId, output }) => {
          const report = readReport(output);
          return report?.node === instanceId ? [[instanceId, report] as const] : [];
        }),
      );
    }
  }
}

function judgeNode(
  instance: FleetInstance,
  zoneId: string,
  named: Release | undefined,
  answers: boolean,
  reports: ReadonlyMap<string, NodeReport>,
): VerifiedNode {
  const { instanceId, arch } = instance;
  const report = reports.get(instanceId);
  const version = report?.version ?? reportedVersion(instance);
  const as = (drift: Drift | undefined, reason = ''): VerifiedNode => ({
    instanceId,
    zoneId,
    version,
    drift,
    reason,
  });
  const verdict = instance.tags[VERDICT_TAG] ?? '';
  if (report === undefined || report.version === '') {
    if (verdict.startsWith('failed:')) return as('failed', `its last boot: ${verdict}`);
    return answers
      ? as('silent', report?.message ?? 'it has not answered the question')
      : as('unreachable', 'its SSM agent does not answer');
  }
  if (named !== undefined && report.version !== named.version)
    return as('version', `its zone's parameter names ${named.version}`);
  const digest = arch === undefined ? undefined : named?.[arch]?.sha256;
  // The version that is baked into the image was not unpacked from an archive, and has no digest.
  if (digest !== undefined && report.sha256 !== undefined && report.sha256 !== digest)
    return as('archive', `it comes from an archive with SHA-256 ${report.sha256}`);
  if (!report.healthy)
    return as('unhealthy', report.failing.join(', ') || (report.message ?? 'its health check failed'));
  return as(undefined);
}

/** Whether anything is not as it should be. An unfinished rollout counts: a script should not go on from it. */
export function isAdrift({ rollout, zones, nodes }: Verified): boolean {
  const unfinished = rollout?.state === 'running' || rollout?.state === 'halted';
  return (
    unfinished || zones.some((one) => one.drift !== undefined) || nodes.some((one) => one.drift !== undefined)
  );
}

/** The result as text for operators. */
export function verifyText(verified: Verified): string {
  const { cluster, rollout, zones, nodes, excluded } = verified;
  const adrift = nodes.filter((one) => one.drift !== undefined);
  const lines = [
    rollout === undefined
      ? `${cluster}: no rollout is recorded`
      : `${cluster}: rollout ${rollout.id} of ${rollout.version} is ${rollout.state}`,
    ...zones.flatMap((zone) => [
      `${zone.zoneId}: ${zone.nodes} node${zone.nodes === 1 ? '' : 's'}, its parameter names ${zone.named ?? 'nothing'}; they run ${Object.entries(
        zone.versions,
      )
        .map(([version, count]) => `${version} (${count})`)
        .join(', ')}`,
      ...(zone.drift === undefined ? [] : [`  parameter  ${zone.drift}`]),
    ]),
    ...adrift.map(
      (one) => `  ${one.drift}  ${one.instanceId}  ${one.zoneId}  ${one.version ?? 'unknown'}  ${one.reason}`,
    ),
    ...(excluded.length === 0 ? [] : [`${excluded.length} excluded by the spec were not asked`]),
    adrift.length === 0
      ? `all ${nodes.length} nodes run what they should`
      : `${adrift.length} of ${nodes.length} nodes are adrift`,
  ];
  return `${lines.join('\n')}\n`;
}
