// Sending a batch: which of its nodes can be asked, the record of the intent, the commands.
import { partsOf } from '../aws/paging.ts';
import { isWanted, wantedParameter } from '../aws/wanted.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { commandMs, NODES_PER_COMMAND, parametersOf, type Question } from './document.ts';
import type { Judgement } from './judge.ts';
import type { Batch, Gate } from './plan.ts';
import {
  type ActionOf,
  failuresLeft,
  intended,
  type Progress,
  type Rollout,
  sent,
  without,
} from './progress.ts';
import { subjectOf } from './spec.ts';
import { withStandIns } from './stand-in.ts';
import { goneOf, LOOK_MS, nowMs, readFlag, type Work } from './work.ts';

/** Milliseconds after which ListCommands is sure to list a command that was sent: an assumption, AWS gives no figure. */
const LIST_LAG_MS = 15_000;
/** Milliseconds by which the two times may differ. Both are by AWS's clock (aws/aws-clock.ts), to a second or two. */
const CLOCK_MARGIN_MS = 30_000;
const SEND_ATTEMPTS = 3;

/** Records that the batch is about to be sent. Nodes that are gone or do not answer are judged instead, and not asked. */
export async function intend(work: Work, { batch, instanceIds }: ActionOf<'intend'>): Promise<void> {
  const { aws, rollout, progress, record, tell } = work;
  const absent = await absentOf(work, instanceIds);
  work.ours = absent.length === 0;
  if (work.ours) return record.save(intended(progress, nowMs(work)));
  for (const judgement of absent) tell({ kind: 'node', judgement });
  // The record is saved without sending, so that the budget is checked before the rest is asked.
  const rest = without(rollout, progress, batch, absent, nowMs(work));
  const next = await withStandIns(aws, rollout, rest, batch, absent, nowMs(work));
  await record.save(next);
  if (next.state === 'halted') tell({ kind: 'halted', why: next.why ?? '' });
}

async function absentOf(work: Work, instanceIds: string[]): Promise<Judgement[]> {
  const online = new Set(await work.aws.findOnline(instanceIds));
  const silent = instanceIds.filter((instanceId) => !online.has(instanceId));
  if (silent.length === 0) return [];
  const gone = await goneOf(work, silent);
  return silent.map((instanceId) =>
    gone.has(instanceId)
      ? { instanceId, outcome: 'gone', reason: 'EC2 no longer has it' }
      : { instanceId, outcome: 'unreachable', reason: 'its SSM agent does not answer' },
  );
}

/** Sends the parts of a batch that have not been sent. Commands that an interrupted run has sent are found by their comment. */
export async function send(work: Work, { batch, instanceIds }: ActionOf<'send'>): Promise<void> {
  const { rollout, progress, record, tell } = work;
  const parts = partsOf(instanceIds, NODES_PER_COMMAND);
  const comments = parts.map((_, at) => commentOf(rollout, progress, at));
  let commands = parts.map(() => '');
  let stops = progress.alarmed !== undefined || work.unseen;
  if (!work.ours) {
    commands = await findSent(work, comments, progress.sinceMs);
    stops ||= (await readFlag(work)) !== undefined;
  }
  work.ours = false;
  work.pauseMs = LOOK_MS.first;
  // No command was sent: the batch has not begun.
  if (stops && commands.every((id) => id === ''))
    return record.save({ ...progress, stage: 'ready', commands: [] });
  await declare(work);
  for (const [at, part] of parts.entries()) {
    if (commands[at] !== '' || stops) continue;
    commands[at] = await sendPart(work, batch, part, comments[at] ?? '');
  }
  await record.save(sent(progress, nowMs(work), commands));
  tell({ kind: 'sent', commands });
}

/** Writes which rollout is wanted, and in which direction, before a command is sent: nodes refuse commands of any other. */
async function declare(work: Work): Promise<void> {
  const { aws, rollout, progress } = work;
  const { direction } = progress;
  if (work.written === direction) return;
  const wanted = { rollout: rollout.id, direction };
  const name = wantedParameter(rollout.spec.where.cluster);
  if (!isWanted((await aws.readParameter(name))?.value, wanted))
    await aws.writeParameter(name, JSON.stringify(wanted));
  work.written = direction;
}

async function sendPart(
  work: Work,
  batch: Batch | Gate,
  instanceIds: string[],
  comment: string,
): Promise<string> {
  const { aws, rollout, progress, record } = work;
  const { spec } = rollout;
  for (let attempt = 1; ; attempt += 1) {
    // The call before may have taken minutes. Without the lease this process must not send: another may have taken over.
    await record.keep();
    try {
      return await aws.sendCommand({
        document: documentOf(rollout),
        instanceIds,
        comment,
        parameters: parametersOf({
          action: actionOf(batch, progress),
          version: subjectOf(spec),
          digests: rollout.digests,
          cluster: spec.where.cluster,
          untilMs: nowMs(work) + commandMs(spec),
          seconds: spec.node.updateSeconds,
          rollout: rollout.id,
        }),
        deliverySeconds: spec.node.deliverySeconds,
        maxErrors: failuresLeft(rollout, progress, batch),
        alarm: isWatched(batch, progress) ? spec.alarm : undefined,
      });
    } catch (error) {
      // When there was no answer, the command may have been sent: it is sent again only after a look at ListCommands.
      if (!isFailure(error, 'SSM_FAILED')) throw error;
      const [found] = await findSent(work, [comment], nowMs(work));
      if (found !== undefined && found !== '') return found;
      if (attempt === SEND_ATTEMPTS) throw error;
    }
  }
}

/** IDs of the commands with these comments, sent since about `sinceMs`; '' for a comment without a command. */
async function findSent(work: Work, comments: string[], sinceMs: number): Promise<string[]> {
  const { aws, clock, rollout } = work;
  // At most LIST_LAG_MS: `sinceMs` may come from a machine whose clock was ahead.
  const lag = Math.min(LIST_LAG_MS, sinceMs + LIST_LAG_MS - nowMs(work));
  if (lag > 0) await clock.sleep(lag);
  const listed = await aws.listCommands(documentOf(rollout).name, sinceMs - CLOCK_MARGIN_MS);
  return comments.map((comment) => listed.find((one) => one.comment === comment)?.commandId ?? '');
}

function commentOf({ id }: Rollout, { direction, step, left }: Progress, part: number): string {
  const round = left === undefined || left.round === 0 ? '' : ` again ${left.round}`;
  return `eniboot ${id} ${direction} ${step}.${part}${round}`;
}

function documentOf({ document }: Rollout): NonNullable<Rollout['document']> {
  if (document === undefined) throw new Failure('INTERNAL', 'the rollout of an AMI sends no commands');
  return document;
}

function actionOf(batch: Batch | Gate, { direction }: Progress): Question['action'] {
  if (batch.do === 'gate') return 'check';
  if (direction === 'forward') return 'update';
  return batch.kind === 'stray' ? 'follow' : 'rollback';
}

/**
 * Run Command cancels a command when its alarm goes off. A command that only asks a node, or takes it back, has to finish: it
 * gets no alarm.
 */
export function isWatched(batch: Batch | Gate, { direction }: Progress): boolean {
  return batch.do === 'update' && direction === 'forward';
}
