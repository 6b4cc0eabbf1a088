// Carries a rollout out, from wherever its record stands. What to do next is decided in progress.ts; here it is done,
// and written down before and after.
import type { FleetAws, FleetInstance, Invocation } from '../aws/fleet.ts';
import type { HaltFlag } from '../aws/halt-flag.ts';
import { partsOf } from '../aws/paging.ts';
import { isWanted, type Wanted, wantedParameter } from '../aws/wanted.ts';
import { offerImage } from '../image/labels.ts';
import { Failure, type FailureCode, isFailure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import { zoneParameter } from './begin.ts';
import { NODES_PER_COMMAND, parametersOf } from './document.ts';
import { readHaltFlag } from './halt.ts';
import { imageParameter, lookAtBoots, promoteImage, restoreImage } from './image.ts';
import { asGone, isFailed, isGood, isUnheard, type Judgement, judge, type Over } from './judge.ts';
import { type Batch, type Boots, type Gate, reportedVersion, type Step } from './plan.ts';
import {
  type Action,
  advanced,
  counted,
  decide,
  ended,
  failuresLeft,
  gated,
  halted,
  intended,
  joined,
  judged,
  noted,
  type Progress,
  type Rollout,
  sent,
  stepsOf,
  without,
} from './progress.ts';
import type { RolloutRecord } from './record.ts';
import { type BundleSpec, type ImageSpec, isExcluded, isImage, subjectOf, targetTags } from './spec.ts';

/** What happens, for whoever watches. `atMs` and the step it belongs to are added by the one who tells it. */
export type Happening =
  | { kind: 'step'; step: Step; nodes: number }
  | { kind: 'sent'; commands: string[] }
  | { kind: 'look'; home: number; of: number }
  | { kind: 'node'; judgement: Judgement }
  | { kind: 'home'; good: number; failed: number; other: number }
  /** What the operator's program at a gate said. */
  | { kind: 'gate'; passed: boolean; said: string }
  | { kind: 'halted'; why: string }
  /** `strays`: instances that came up meanwhile, and do not run what the rollout leaves behind. */
  | { kind: 'ended'; state: Progress['state']; strays: string[] };

/** What a program at a gate is told, as its environment. */
export interface GateQuestion {
  command: readonly string[];
  timeoutMs: number;
  rollout: string;
  version: string;
  zoneId: string;
  after: 'canary' | 'share' | 'zone';
}

export interface Orchestration {
  aws: FleetAws;
  clock: Clock;
  record: RolloutRecord;
  tell: (happening: Happening) => void;
  /** Ends at the next moment at which nothing is lost. */
  stopped: AbortSignal;
  /** Runs the operator's program; default: there is none to run it. */
  gate?: (question: GateQuestion) => Promise<{ passed: boolean; said: string }>;
  /** Begins nothing: what is out is brought home, then it halts for this reason. */
  haltFor?: string;
}

/** Until a command that was sent is sure to be listed: an assumption, AWS gives no figure. */
const LIST_LAG_MS = 15_000;
/** Both times are AWS's (aws/aws-clock.ts), to a second or two. */
const CLOCK_MARGIN_MS = 30_000;
const FIRST_LOOK_MS = 5_000;
const LONGEST_LOOK_MS = 20_000;
/** The halt flag is looked at so often while nothing else is done. */
const FLAG_MS = 15_000;
/** A node's own time is over, and its report still has to come. */
const REPORT_MS = 60_000;
const SEND_ATTEMPTS = 3;
/** Parameter Store keeps 100 versions and refuses a new one while the oldest has a label: before that it is taken off. */
const CROWDED = 90;
const ENDED = new Set(['Success', 'Cancelled', 'Failed', 'TimedOut']);

/** Resolves to how it stands: done, rolled back, halted, or still running when it was stopped. Throws ROLLOUT_LEASE_LOST. */
export async function orchestrate(work: Orchestration): Promise<Progress> {
  try {
    return await carryOn(work);
  } catch (error) {
    // AWS has said no, so nothing of it is under way: whoever has mended the policy need not wait until the lease is over.
    if (isFailure(error, ...SAID_NO)) await work.record.release().catch(() => undefined);
    throw error;
  }
}

const SAID_NO: FailureCode[] = ['EC2_DENIED', 'EC2_REFUSED', 'SSM_DENIED', 'SSM_REFUSED'];

async function carryOn(work: Orchestration): Promise<Progress> {
  const { aws, clock, record, tell, stopped } = work;
  const { rollout } = record;
  const { spec } = rollout;
  const now = () => clock.now().getTime();
  let told = -1;
  // Whether the batch that is intended was intended by this process: if not, it may have been sent already.
  let ours = false;
  let pause = FIRST_LOOK_MS;
  /** What this process knows to be written in the parameter of wanted.ts. */
  let written: Wanted['direction'] | undefined;

  while (!stopped.aborted) {
    const progress = noted(rollout, record.progress);
    const flag = progress.stage === 'ready' ? await readFlag() : undefined;
    const action = decide(rollout, progress, { nowMs: now(), haltFlag: flag?.why });
    if (progress.step !== told && action.do !== 'end' && action.do !== 'halt') {
      const step = stepsOf(rollout, progress)[progress.step];
      if (step !== undefined)
        tell({ kind: 'step', step, nodes: 'instanceIds' in action ? action.instanceIds.length : 0 });
      told = progress.step;
    }
    switch (action.do) {
      case 'end':
        if (progress.state === 'running') {
          const strays = (await findStrays(progress)).map((one) => one.instanceId);
          await record.save(ended(progress, now(), strays.length));
          tell({ kind: 'ended', state: record.progress.state, strays });
        }
        await record.release();
        return record.progress;
      case 'halt':
        await record.save(halted(progress, now(), action.why));
        tell({ kind: 'halted', why: action.why });
        break;
      case 'wait':
        await sleep(Math.min(action.untilMs - now(), FLAG_MS));
        await record.keep();
        break;
      case 'count':
        await countBoots(action.boots, progress);
        break;
      case 'offer':
      case 'promote':
      case 'restore':
        await (isImage(spec) ? moveLabel(spec, action.do, action.zone) : setZone(action.do, action.zone));
        await record.save(advanced(progress, now()));
        break;
      case 'advance':
        await record.save(advanced(progress, now()));
        break;
      case 'intend':
        await intend(action, progress);
        break;
      case 'ask':
        await ask(action, progress);
        break;
      case 'join':
        await join(action.zone, progress);
        break;
      case 'send':
        await send(action, progress);
        ours = false;
        pause = FIRST_LOOK_MS;
        break;
      case 'look':
        await look(action, progress);
        break;
    }
  }
  await record.release();
  return record.progress;

  /**
   * They booted while their zone's parameter named the other version, so no command of this rollout has touched them: forward
   * before their zone was done, back since then.
   */
  async function findStrays({ direction }: Progress): Promise<FleetInstance[]> {
    if (isImage(spec)) return [];
    const targets = new Set(rollout.zones.flatMap((zone) => zone.nodes));
    const zones = new Set(rollout.zones.map((zone) => zone.zoneId));
    const instances = await aws.describeInstances(targetTags(spec));
    return instances.filter((one) => {
      const version = reportedVersion(one);
      // One whose zone EC2 does not tell may be in any: it is named rather than passed over.
      const elsewhere = one.zoneId !== undefined && !zones.has(one.zoneId);
      if (isExcluded(spec, one)) return false;
      if (targets.has(one.instanceId) || elsewhere || version === undefined) return false;
      return direction === 'back' ? version === subjectOf(spec) : version !== subjectOf(spec);
    });
  }

  async function readFlag(): Promise<HaltFlag | undefined> {
    if (work.haltFor !== undefined) return { why: work.haltFor };
    return readHaltFlag(aws, rollout.spec.where.cluster);
  }

  async function sleep(ms: number): Promise<void> {
    await clock.sleep(ms, stopped).catch((error: unknown) => {
      if (!stopped.aborted) throw error;
    });
  }

  /** Who is no longer there, or does not answer, is not asked. */
  async function intend(
    { batch, instanceIds }: Action & { do: 'intend' },
    progress: Progress,
  ): Promise<void> {
    const absent = await absentOf(instanceIds);
    if (absent.length > 0) {
      for (const judgement of absent) tell({ kind: 'node', judgement });
      // The budget has the word before the rest is asked.
      const next = without(rollout, progress, batch, absent, now());
      await record.save(next);
      if (next.state === 'halted') tell({ kind: 'halted', why: next.why ?? '' });
      return;
    }
    await record.save(intended(progress, now()));
    ours = true;
  }

  async function absentOf(instanceIds: string[]): Promise<Judgement[]> {
    const online = new Set(await aws.findOnline(instanceIds));
    const silent = instanceIds.filter((instanceId) => !online.has(instanceId));
    if (silent.length === 0) return [];
    const gone = await goneOf(silent);
    return silent.map((instanceId) =>
      gone.has(instanceId)
        ? { instanceId, outcome: 'gone', reason: 'EC2 no longer has it' }
        : { instanceId, outcome: 'unreachable', reason: 'its SSM agent does not answer' },
    );
  }

  async function goneOf(instanceIds: readonly string[]): Promise<Set<string>> {
    const living = new Set(await aws.findLiving(instanceIds));
    return new Set(instanceIds.filter((instanceId) => !living.has(instanceId)));
  }

  /** The operator's program may take longer than the lease lasts. */
  async function ask({ zone, after }: Action & { do: 'ask' }, progress: Progress): Promise<void> {
    const { gate } = spec;
    if (gate === undefined || work.gate === undefined) return record.save(advanced(progress, now()));
    const zoneId = rollout.zones[zone]?.zoneId ?? '';
    const asking = work.gate({
      command: gate.command,
      timeoutMs: gate.timeoutSeconds * 1000,
      rollout: rollout.id,
      version: subjectOf(spec),
      zoneId,
      after,
    });
    let answer: Awaited<typeof asking> | undefined;
    while (answer === undefined) {
      answer = await Promise.race([asking, clock.sleep(FLAG_MS).then(() => undefined)]);
      if (answer === undefined) await record.keep();
    }
    tell({ kind: 'gate', ...answer });
    if (answer.passed) return record.save(advanced(progress, now()));
    const why = `gate.command behind the wait after the ${after} in ${zoneId}: ${answer.said}`;
    await record.save(halted(progress, now(), why));
    tell({ kind: 'halted', why });
  }

  /** Instances that came up while their zone named the version before, and those that can be reached by now. */
  async function join(at: number, progress: Progress): Promise<void> {
    const zone = rollout.zones[at];
    if (zone === undefined) return;
    const missed = progress.exceptions.filter((one) => one.zone === at && one.outcome === 'unreachable');
    const places = new Map(missed.map((one) => [zone.nodes[one.node] ?? '', one.node]));
    const online = await aws.findOnline([...places.keys()]);
    const news = (await findStrays(progress)).filter((one) => one.zoneId === zone.zoneId);
    const answering = new Set(await aws.findOnline(news.map((one) => one.instanceId)));
    const late = [...online, ...news.map((one) => one.instanceId).filter((id) => answering.has(id))];
    const again = online.flatMap((instanceId) => places.get(instanceId) ?? []);
    const next = joined(progress, at, again, now());
    await (late.length === 0 ? record.save(next) : record.extend(at, late, next));
  }

  /** Sends what has not been sent; what an interrupted run has sent is found by its comment. */
  async function send({ batch, instanceIds }: Action & { do: 'send' }, progress: Progress): Promise<void> {
    const parts = partsOf(instanceIds, NODES_PER_COMMAND);
    const comments = parts.map((_, at) => commentOf(progress, at));
    let commands = parts.map(() => '');
    let flag: HaltFlag | undefined;
    if (!ours) {
      commands = await findSent(comments, progress);
      flag = await readFlag();
      if (flag !== undefined && commands.every((id) => id === '')) {
        // Nothing is out: the batch has not begun after all.
        await record.save({ ...progress, stage: 'ready', commands: [] });
        return;
      }
    }
    await declare(progress);
    for (const [at, part] of parts.entries()) {
      if (commands[at] !== '' || flag !== undefined) continue;
      commands[at] = await sendPart(batch, part, comments[at] ?? '', progress);
    }
    await record.save(sent(progress, now(), commands));
    tell({ kind: 'sent', commands });
  }

  /** Before anything is sent: nodes refuse whatever else still comes to them. */
  async function declare({ direction }: Progress): Promise<void> {
    if (written === direction) return;
    const wanted: Wanted = { rollout: rollout.id, direction };
    const name = wantedParameter(spec.where.cluster);
    if (!isWanted((await aws.readParameter(name))?.value, wanted))
      await aws.writeParameter(name, JSON.stringify(wanted));
    written = direction;
  }

  async function sendPart(
    batch: Batch | Gate,
    instanceIds: string[],
    comment: string,
    progress: Progress,
  ): Promise<string> {
    for (let attempt = 1; ; attempt += 1) {
      // The call before may have taken minutes: nobody sends without the lease, beside whoever has taken over.
      await record.keep();
      try {
        return await aws.sendCommand({
          document: documentOf(rollout),
          instanceIds,
          comment,
          parameters: parametersOf({
            action: batch.do === 'gate' ? 'check' : progress.direction === 'forward' ? 'update' : 'rollback',
            version: subjectOf(spec),
            digests: rollout.digests,
            cluster: spec.where.cluster,
            untilMs: now() + commandMs(),
            seconds: spec.node.updateSeconds,
            rollout: rollout.id,
          }),
          deliverySeconds: spec.node.deliverySeconds,
          maxErrors: failuresLeft(rollout, progress, batch),
          alarm: spec.alarm,
        });
      } catch (error) {
        // Without an answer it may have been carried out: a command is never sent again without a look.
        if (!isFailure(error, 'SSM_FAILED')) throw error;
        const [found] = await findSent([comment], { ...progress, sinceMs: now() });
        if (found !== undefined && found !== '') return found;
        if (attempt === SEND_ATTEMPTS) throw error;
      }
    }
  }

  /** IDs of the commands with these comments; '' for one that was never sent. */
  async function findSent(comments: string[], progress: Progress): Promise<string[]> {
    // Never longer than that: whoever has intended it may have had another clock.
    const lag = Math.min(LIST_LAG_MS, progress.sinceMs + LIST_LAG_MS - now());
    if (lag > 0) await clock.sleep(lag);
    const listed = await aws.listCommands(documentOf(rollout).name, progress.sinceMs - CLOCK_MARGIN_MS);
    return comments.map((comment) => listed.find((one) => one.comment === comment)?.commandId ?? '');
  }

  async function look({ batch, instanceIds }: Action & { do: 'look' }, progress: Progress): Promise<void> {
    const late = now() >= progress.sinceMs + commandMs() + REPORT_MS;
    const undelivered = now() >= progress.sinceMs + spec.node.deliverySeconds * 1000 + REPORT_MS;
    let judgements: Judgement[] = [];
    const alarms = new Set<string>();
    for (const [at, part] of partsOf(instanceIds, NODES_PER_COMMAND).entries()) {
      const commandId = progress.commands[at] ?? '';
      judgements.push(
        ...(commandId === ''
          ? part.map(neverSent)
          : await lookAt(commandId, part, { late, undelivered }, alarms)),
      );
    }
    tell({ kind: 'look', home: judgements.length, of: instanceIds.length });
    if (judgements.length < instanceIds.length) {
      await record.keep();
      await sleep(pause);
      pause = Math.min(LONGEST_LOOK_MS, pause * 1.3);
      return;
    }
    judgements = await withoutGone(judgements, progress);
    let next: Progress;
    if (batch.do === 'gate') next = gated(rollout, progress, batch, judgements, now());
    else {
      judgements = judgements.map((one) => checked(one, batch, progress));
      next = judged(rollout, progress, batch, judgements, now());
    }
    const [alarm] = alarms;
    if (alarm !== undefined) next = halted(next, now(), `the alarm ${alarm} went off`);
    await record.save(next);
    for (const judgement of judgements) tell({ kind: 'node', judgement });
    tell({ kind: 'home', ...count(judgements) });
    if (next.state === 'halted') tell({ kind: 'halted', why: next.why ?? '' });
  }

  /**
   * Milliseconds until a command has expired: delivery and execution together. By then no node begins anything, and none
   * goes on with it (boot/update.ts).
   */
  function commandMs(): number {
    const { deliverySeconds, updateSeconds } = spec.node;
    return (deliverySeconds + updateSeconds) * 1000;
  }

  /** A node that says nothing may be one that EC2 no longer has. */
  async function withoutGone(judgements: Judgement[], { direction }: Progress): Promise<Judgement[]> {
    const silent = judgements.filter((one) => isUnheard(one.outcome)).map((one) => one.instanceId);
    if (silent.length === 0) return judgements;
    const gone = await goneOf(silent);
    return judgements.map((one) => (gone.has(one.instanceId) ? asGone(one, direction) : one));
  }

  /** A node that has reported the update cannot have run the version before it. */
  function checked(judgement: Judgement, batch: Batch, progress: Progress): Judgement {
    if (progress.direction === 'forward' || judgement.there !== true) return judgement;
    const node = rollout.zones[batch.zone]?.nodes.indexOf(judgement.instanceId, batch.from);
    const uncertain = progress.exceptions.some((one) => one.zone === batch.zone && one.node === node);
    return uncertain
      ? judgement
      : {
          instanceId: judgement.instanceId,
          outcome: 'lied',
          reason: 'it keeps the version as one that it ran before, but has reported the update to it',
        };
  }

  /**
   * What is known of the nodes of one command; with `late`, of all of them. `undelivered`: what has not begun does not begin.
   */
  async function lookAt(
    commandId: string,
    part: string[],
    { late, undelivered }: { late: boolean; undelivered: boolean },
    alarms: Set<string>,
  ): Promise<Judgement[]> {
    const expected = {
      direction: record.progress.direction,
      version: subjectOf(spec),
      digests: rollout.digests,
      warnings: rollout.spec.node.warnings,
    };
    const judgeAll = (invocations: Invocation[], over?: Over) => {
      const byNode = new Map(invocations.map((one) => [one.instanceId, one]));
      return part.flatMap((node) => judge(node, byNode.get(node), expected, over, undelivered) ?? []);
    };
    const invocations = await aws.listInvocations(commandId);
    let found = judgeAll(invocations);
    const rest = part.length - found.length;
    const all = rest === 0;
    // Nodes without a row: they were no targets once the command has ended.
    const unknown = part.length - invocations.length;
    if (all ? rollout.spec.alarm === undefined : !late && rest !== unknown) return found;
    if (!all && late) await aws.cancelCommand(commandId);
    const command = await aws.describeCommand(commandId);
    for (const alarm of command?.alarms ?? []) alarms.add(alarm);
    // Whether it was the alarm that has cancelled it is known once the command is listed.
    if (all && !late && command === undefined && found.some((one) => one.outcome === 'cancelled')) return [];
    // Rows that were read before the command had ended may be older than its end.
    const ended =
      command?.details === 'RateExceeded'
        ? 'rate-exceeded'
        : command?.status === 'Cancelled'
          ? 'cancelled'
          : 'ended';
    if (!all && (late || ENDED.has(command?.status ?? '')))
      found = judgeAll(await aws.listInvocations(commandId), late ? 'late' : ended);
    return found;
  }

  /** Idempotent. Labels follow: `stable` on what the zone runs, `previous` on what it ran before. */
  async function setZone(what: 'offer' | 'promote' | 'restore', at: number): Promise<void> {
    const zone = rollout.zones[at];
    if (zone === undefined) return;
    const name = zoneParameter(spec as BundleSpec, zone.zoneId);
    const current = await aws.readParameter(name);
    const wanted = what === 'promote' ? rollout.release : zone.before;
    if (what === 'promote' && current?.value === wanted) return;
    // Somebody else's value is not taken back.
    if (what === 'restore' && current?.value !== rollout.release && current?.value !== wanted) return;
    if (wanted === undefined) return current === undefined ? undefined : aws.deleteParameters([name]);
    if (current !== undefined) await freeOldest(name, current.version);
    // Also what it says already: a node that could not be brought back follows what was written since (boot/pin.ts).
    const version = await aws.writeParameter(name, wanted);
    if (current !== undefined && current.value !== wanted) await aws.label(name, current.version, 'previous');
    await aws.label(name, version, 'stable');
  }

  /**
   * Rollouts that are taken back before their zone is promoted write the same value again and again, and `previous` stays behind.
   * Moved to a version with its own value it would be what new nodes come up on for a moment, so it is taken off.
   */
  async function freeOldest(name: string, latest: number): Promise<void> {
    const previous = await aws.readParameter(`${name}:previous`);
    if (previous !== undefined && latest - previous.version >= CROWDED)
      await aws.unlabel(name, previous.version, 'previous');
  }

  async function moveLabel(
    image: ImageSpec,
    what: 'offer' | 'promote' | 'restore',
    at: number,
  ): Promise<void> {
    const zone = rollout.zones[at];
    if (zone === undefined) return;
    const name = imageParameter(image, zone.zoneId);
    const { id } = image.what.image;
    if (what === 'offer') await offerImage(aws, clock, name, id);
    else if (what === 'promote') await promoteImage(aws, clock, name, id);
    else await restoreImage(aws, name, id, zone.before);
  }

  async function countBoots(boots: Boots, progress: Progress): Promise<void> {
    const seen = await lookAtBoots(aws, rollout as Rollout & { spec: ImageSpec }, boots, now());
    const next = counted(progress, boots, seen, now());
    const known = progress.boots?.failed.length ?? 0;
    tell({ kind: 'look', home: seen.ready, of: seen.enough });
    if (JSON.stringify(next) !== JSON.stringify(progress)) await record.save(next);
    else await record.keep();
    for (const { instanceId, outcome, reason } of next.boots?.failed.slice(known) ?? [])
      tell({ kind: 'node', judgement: { instanceId, outcome, reason } });
    if (next.step === progress.step) await sleep(LONGEST_LOOK_MS);
    else tell({ kind: 'home', good: seen.ready, failed: seen.failed.length, other: 0 });
  }

  function commentOf({ direction, step, left }: Progress, part: number): string {
    const round = left === undefined || left.round === 0 ? '' : ` again ${left.round}`;
    return `eniboot ${rollout.id} ${direction} ${step}.${part}${round}`;
  }
}

function documentOf({ document }: Rollout): NonNullable<Rollout['document']> {
  if (document === undefined) throw new Failure('INTERNAL', 'the rollout of an AMI sends no commands');
  return document;
}

function neverSent(instanceId: string): Judgement {
  return { instanceId, outcome: 'unsent', reason: 'it was halted before this node' };
}

function count(judgements: Judgement[]): { good: number; failed: number; other: number } {
  const good = judgements.filter((one) => isGood(one.outcome)).length;
  const failed = judgements.filter((one) => isFailed(one.outcome)).length;
  return { good, failed, other: judgements.length - good - failed };
}
