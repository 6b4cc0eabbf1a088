import type { FleetAws } from '../aws/fleet.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { type Clock, systemClock } from '../port/clock.ts';
import { INTERRUPTED, interruption, whoami } from '../port/runtime.ts';
import type { GateQuestion, Orchestration } from '../rollout/orchestrate.ts';
import type { Progress } from '../rollout/progress.ts';
import type { Owner, RolloutRecord } from '../rollout/record.ts';
import { parseVerb, verbOf } from './arguments.ts';
import type { Command, CommandIo } from './command.ts';
import { openSink, requireSink } from './event-sink.ts';
import { failureLines, failureObject } from './failure-text.ts';
import { readInputFile, requireWritable } from './named-files.ts';
import type { Errand } from './operator.ts';
import { redrawn } from './table.ts';

const help = `Usage: eniboot rollout plan SPEC     what would be done, and what a failure at each step would reach
       eniboot rollout run SPEC      begin, and carry it out [--over ID: in the place of the halted one]
       eniboot rollout watch         follow it from anywhere
       eniboot rollout status        where it stands
       eniboot rollout verify        which nodes run what, and which are not as they should be
       eniboot rollout halt          raise the halt flag: nothing further is touched [--why TEXT]
       eniboot rollout resume        lower the flag and go on, also after a crash [--forgive]
       eniboot rollout rollback      take it back, zone by zone in reverse, only what was touched; again: what was not reached
       eniboot rollout takeover      go on at once with one whose operator is dead [--yes]
       eniboot rollout abandon       end a halted one where it stands: nodes keep what they run
       eniboot rollout report        what changed, what failed, why it stopped [--html FILE]

Brings a version of eniboot onto the nodes of a cluster through SSM Run Command: a canary, about 10 % of the first zone,
the rest of it, a wait, the next zone. Never two zones at once; each CPU, AMI and instance generation has its canary.
A node counts as updated when it reports the version, its digest and good health; one that says nothing, is late or cannot
be reached has failed. An AMI goes the same way, by the labels of its parameters: instances that boot from it must become
READY. docs/rollouts.md explains all of it.

  SPEC             YAML; two keys are enough: what.bundle.version (or what.image.id, an AMI) and where.cluster
  --cluster NAME   whose rollout (not for plan and run: the spec says it)
  --region REGION  default: AWS_REGION or the profile's
  --svg FILE       plan: the picture as SVG
  --html FILE      report: as a self-contained page with a picture of its course; otherwise Markdown on stdout
  --why TEXT       halt: for whoever reads it
  --forgive        resume: what has failed so far no longer counts; of a rollback: end it without what was not reached
  --over ID        run, plan: that rollout has halted, and ends where it stands: the new version goes over what runs now
  --yes            takeover: without it the record of the one at work is shown, and nothing is changed
  --on-event WHERE run, resume, rollback, takeover: also each event as a line of JSON, to the end of a file, or with | in front
                   into a command: --on-event '|./notify'
  --prometheus     status: as Prometheus reads it
  --json           one object; for run, resume and rollback one line for each event, for watch one for each change

The record is in Parameter Store (/eniboot/rollout/<cluster>/), so anybody with the policy of
\`eniboot iam-policy rollout\` can continue it. Ctrl-C leaves it where it is: \`rollout resume\` continues.

Exit codes: 0 done, or shown; 1 halted or failed, with a code, or a plan that \`run\` would refuse, or a fleet that \`verify\`
finds adrift; 2 wrong usage; ${INTERRUPTED} interrupted.
`;

const verbs = [
  'plan',
  'run',
  'watch',
  'status',
  'verify',
  'halt',
  'resume',
  'rollback',
  'takeover',
  'abandon',
  'report',
] as const;
type Verb = (typeof verbs)[number];

/** Which options each verb takes. */
const taken = {
  plan: ['svg', 'over', 'region', 'json'],
  run: ['over', 'on-event', 'region', 'json'],
  watch: ['cluster', 'region', 'json'],
  status: ['cluster', 'prometheus', 'region', 'json'],
  verify: ['cluster', 'region', 'json'],
  halt: ['cluster', 'why', 'region', 'json'],
  resume: ['cluster', 'forgive', 'on-event', 'region', 'json'],
  rollback: ['cluster', 'on-event', 'region', 'json'],
  takeover: ['cluster', 'yes', 'on-event', 'region', 'json'],
  abandon: ['cluster', 'region', 'json'],
  report: ['cluster', 'html', 'region', 'json'],
} as const;

/** Largest spec that is read. */
const MOST_BYTES = 1024 * 1024;
/** Milliseconds between two looks of `watch`. */
const WATCH_MS = 5_000;

interface Asked {
  operand: string | undefined;
  cluster: string | undefined;
  region: string | undefined;
  svg: string | undefined;
  html: string | undefined;
  why: string | undefined;
  over: string | undefined;
  onEvent: string | undefined;
  prometheus: boolean;
  yes: boolean;
  forgive: boolean;
  json: boolean;
}

export const rolloutCommand: Command = {
  help,
  async run(args, io) {
    const [first, ...rest] = args;
    const verb = verbOf('rollout', first, verbs);
    const { values, positionals } = parseVerb(
      'rollout',
      verb,
      rest,
      {
        cluster: { type: 'string' },
        region: { type: 'string' },
        svg: { type: 'string' },
        html: { type: 'string' },
        why: { type: 'string' },
        over: { type: 'string' },
        'on-event': { type: 'string' },
        prometheus: { type: 'boolean' },
        yes: { type: 'boolean' },
        forgive: { type: 'boolean' },
        json: { type: 'boolean' },
      },
      taken,
      verb === 'plan' || verb === 'run' ? 1 : 0,
    );
    const asked: Asked = {
      operand: positionals[0],
      cluster: values.cluster,
      region: values.region,
      svg: values.svg,
      html: values.html,
      why: values.why,
      over: values.over,
      onEvent: values['on-event'],
      prometheus: values.prometheus === true,
      yes: values.yes === true,
      forgive: values.forgive === true,
      json: values.json === true,
    };
    // Before anything begins.
    if (asked.onEvent !== undefined) requireSink(asked.onEvent);
    return actions[verb](asked, io);
  },
};

const actions: Record<Verb, (asked: Asked, io: CommandIo) => Promise<number>> = {
  plan,
  run,
  watch,
  status,
  verify,
  halt,
  resume,
  rollback,
  takeover,
  abandon,
  report,
};

async function plan(asked: Asked, io: CommandIo): Promise<number> {
  const spec = await readSpec(asked);
  if (asked.svg !== undefined) requireWritable(asked.svg);
  const { aws, clock } = await connect(asked, 'look', io);
  const { prepare, refusalsOf } = await import('../rollout/begin.ts');
  const { planObject, planSvg, planText } = await import('../rollout/plan-picture.ts');
  const prepared = await prepare(aws, spec);
  if (asked.svg !== undefined) await writeText(asked.svg, planSvg(prepared));
  const refusals = (await refusalsOf(aws, clock, prepared, asked.over)).map(failureObject);
  if (asked.json) io.stdout(`${JSON.stringify({ ...planObject(prepared), refusals })}\n`);
  else {
    io.stdout(planText(prepared));
    for (const one of refusals) io.stderr(`\`run\` would refuse it: ${failureLines(one).join('\n')}\n`);
  }
  return refusals.length === 0 ? 0 : 1;
}

async function run(asked: Asked, io: CommandIo): Promise<number> {
  const spec = await readSpec(asked);
  const { aws, clock } = await connect(asked, 'leased', io);
  const { prepare, beginRollout } = await import('../rollout/begin.ts');
  const record = await beginRollout(aws, clock, owner(), await prepare(aws, spec), asked.over);
  return carryOut(aws, clock, record, asked, io);
}

async function resume(asked: Asked, io: CommandIo): Promise<number> {
  return goOn(asked, io, clusterOf('resume', asked));
}

/** The process at work may be dead; that its lease has expired nobody has to wait for who knows it. */
async function takeover(asked: Asked, io: CommandIo): Promise<number> {
  const cluster = clusterOf('takeover', asked);
  const { aws, clock } = await connect(asked, 'look', io);
  const { readRollout } = await import('../rollout/record.ts');
  const { summarise } = await import('../rollout/summary.ts');
  const standing = await readRollout(aws, cluster, clock);
  const { holder } = standing;
  if (asked.yes || holder === undefined) return goOn(asked, io, cluster, holder?.token);
  const { version, state, next } = summarise(await standing.rollout(), standing.progress);
  const written = new Date(standing.writtenMs).toISOString();
  const until = new Date(standing.heldUntilMs).toISOString();
  if (asked.json)
    io.stdout(`${JSON.stringify({ id: standing.id, version, state, holder: holder.who, written, until })}\n`);
  else
    io.stdout(
      `${holder.who} works on ${version} (rollout ${standing.id}, ${state}; next: ${next ?? 'its end'})
its record was written last at ${written}, and its lease ends at ${until}
if that process is dead, \`eniboot rollout takeover --cluster ${cluster} --yes\` goes on at once;
one that lives sends nothing more once it sees that its lease is gone
`,
    );
  return 1;
}

async function abandon(asked: Asked, io: CommandIo): Promise<number> {
  const cluster = clusterOf('abandon', asked);
  const { aws, clock } = await connect(asked, 'leased', io);
  const { takeRecord } = await import('../rollout/record.ts');
  const { abandoned, isOver } = await import('../rollout/progress.ts');
  const record = await takeRecord(aws, clock, owner(), cluster);
  const { progress, rollout } = record;
  if (progress.state === 'running' && progress.stage !== 'ready') {
    await record.release();
    throw new Failure(
      'ROLLOUT_BUSY',
      `nodes of rollout ${rollout.id} are in flight: halt and resume it, which brings them home, then abandon it`,
      { id: rollout.id },
    );
  }
  if (!isOver(progress)) await record.save(abandoned(progress, clock.now().getTime()));
  await record.release();
  const { summarise } = await import('../rollout/summary.ts');
  const summary = summarise(rollout, record.progress);
  io.stdout(
    asked.json
      ? `${JSON.stringify(summary)}\n`
      : `${summary.version} in ${cluster}: ${summary.state}; ${summary.updated + summary.already} of ${summary.nodes} nodes run it. A new rollout may begin.\n`,
  );
  return 0;
}

/** `from`: token of the lease that is taken away. */
async function goOn(asked: Asked, io: CommandIo, cluster: string, from?: string): Promise<number> {
  const { aws, clock } = await connect(asked, 'leased', io);
  const { takeRecord } = await import('../rollout/record.ts');
  const { resumed, isOver, overBudget } = await import('../rollout/progress.ts');
  const { lowerHaltFlag } = await import('../rollout/halt.ts');
  const record = await takeRecord(aws, clock, owner(), cluster, from);
  const { state } = record.progress;
  if (isOver(record.progress)) {
    await record.release();
    const how =
      state === 'done' ? 'it is done' : state === 'abandoned' ? 'it was abandoned' : 'it has been taken back';
    io.stdout(asked.json ? `${JSON.stringify({ state })}\n` : `there is nothing to go on with: ${how}\n`);
    return 0;
  }
  const next = resumed(record.progress, clock.now().getTime(), asked.forgive);
  const why = overBudget(record.rollout, next);
  if (why !== undefined && next.stage === 'ready') {
    await record.release();
    throw new Failure('ROLLOUT_HALTED', `it would halt again at once: ${why}`, { id: record.rollout.id });
  }
  await lowerHaltFlag(aws, cluster);
  await record.save(next);
  return carryOut(aws, clock, record, asked, io);
}

async function rollback(asked: Asked, io: CommandIo): Promise<number> {
  const cluster = clusterOf('rollback', asked);
  const { aws, clock } = await connect(asked, 'leased', io);
  const { takeRecord } = await import('../rollout/record.ts');
  const { takenBack } = await import('../rollout/progress.ts');
  const { lowerHaltFlag } = await import('../rollout/halt.ts');
  const { orchestrate } = await import('../rollout/orchestrate.ts');
  const record = await takeRecord(aws, clock, owner(), cluster);
  const { state } = record.progress;
  if (state === 'rolled-back' || state === 'abandoned') {
    await record.release();
    const how = state === 'abandoned' ? 'it was abandoned' : 'it has been taken back already';
    io.stdout(asked.json ? `${JSON.stringify({ state })}\n` : `${how}\n`);
    return 0;
  }
  if (record.progress.state === 'running') {
    // Whoever ran it is gone. What is out comes home first: a node cannot be updated and taken back at once.
    const work = await workOn(aws, clock, record, asked, io);
    await orchestrate({ ...work.orchestration, haltFor: 'it is being taken back' });
    await work.stop();
    if (work.orchestration.stopped.aborted) return INTERRUPTED;
  }
  const again = await takeRecord(aws, clock, owner(), cluster);
  const { progress } = again;
  const nowMs = clock.now().getTime();
  await lowerHaltFlag(aws, cluster);
  await again.save(takenBack(again.rollout, progress, nowMs));
  return carryOut(aws, clock, again, asked, io);
}

async function halt(asked: Asked, io: CommandIo): Promise<number> {
  const cluster = clusterOf('halt', asked);
  const { aws, clock } = await connect(asked, 'work', io);
  const { raiseHaltFlag } = await import('../rollout/halt.ts');
  const why = `${asked.why ?? 'halted'} (${whoami()})`;
  await raiseHaltFlag(aws, cluster, why);
  // The flag counts whatever is recorded; but a name that is not the one meant stops nothing.
  const { readRollout } = await import('../rollout/record.ts');
  await readRollout(aws, cluster, clock).catch((error: unknown) => {
    if (!isFailure(error, 'ROLLOUT_NONE')) throw error;
    throw new Failure(
      'ROLLOUT_NONE',
      `the halt flag of ${cluster} is raised, but no rollout of ${cluster} is recorded in this region: nothing was stopped by it. Is the name right?`,
      { cluster, halted: true },
      error,
    );
  });
  io.stdout(
    asked.json
      ? `${JSON.stringify({ cluster, halted: true, why })}\n`
      : `${cluster} is halted: nodes in flight finish or go back, no others are touched. \`eniboot rollout resume\` lifts it.\n`,
  );
  return 0;
}

async function status(asked: Asked, io: CommandIo): Promise<number> {
  const cluster = clusterOf('status', asked);
  const { aws, clock } = await connect(asked, 'look', io);
  const { readRollout } = await import('../rollout/record.ts');
  const { readHaltFlag } = await import('../rollout/halt.ts');
  const { summarise, exceptionsOf, strayLines } = await import('../rollout/summary.ts');
  const { nextLine, zoneLines } = await import('./rollout-view.ts');
  const standing = await readRollout(aws, cluster, clock);
  const rollout = await standing.rollout();
  const flag = await readHaltFlag(aws, cluster);
  const summary = summarise(rollout, standing.progress);
  const exceptions = exceptionsOf(rollout, standing.progress);
  if (asked.prometheus) {
    const { prometheusText } = await import('../rollout/metrics.ts');
    io.stdout(prometheusText(summary));
  } else if (asked.json) {
    const holder = standing.holder?.who;
    io.stdout(`${JSON.stringify({ ...summary, holder, haltFlag: flag?.why, exceptions })}\n`);
  } else {
    const at = new Date(summary.startedMs).toISOString().slice(0, 16);
    const who = standing.holder === undefined ? 'nobody works on it' : `${standing.holder.who} works on it`;
    io.stdout(
      `${[
        `${summary.version} in ${cluster}: ${summary.state}${summary.why === undefined ? '' : `: ${summary.why}`}`,
        `rollout ${summary.id}, begun ${at}Z by ${summary.startedBy}; ${who}`,
        ...(flag === undefined ? [] : [`the halt flag is up: ${flag.why}`]),
        ...zoneLines(summary.zones, io.isTTY),
        nextLine(summary),
        ...strayLines(summary),
        ...exceptions.slice(0, 20).map((one) => `  ${one.zoneId}  ${one.instanceId}  ${one.outcome}`),
        ...(exceptions.length > 20 ? [`  and ${exceptions.length - 20} more: eniboot rollout report`] : []),
      ].join('\n')}\n`,
    );
  }
  return summary.state === 'halted' ? 1 : 0;
}

async function verify(asked: Asked, io: CommandIo): Promise<number> {
  const cluster = clusterOf('verify', asked);
  const { aws, clock } = await connect(asked, 'work', io);
  const { isAdrift, verifyFleet, verifyText } = await import('../rollout/verify.ts');
  const verified = await verifyFleet(aws, clock, cluster);
  io.stdout(asked.json ? `${JSON.stringify(verified)}\n` : verifyText(verified));
  return isAdrift(verified) ? 1 : 0;
}

async function watch(asked: Asked, io: CommandIo): Promise<number> {
  const cluster = clusterOf('watch', asked);
  const stopped = interruption();
  const { aws, clock } = await connect(asked, 'work', io);
  const { readRollout } = await import('../rollout/record.ts');
  const { summarise } = await import('../rollout/summary.ts');
  const { watchLines } = await import('./rollout-view.ts');
  let shown = '';
  let drawn = 0;
  let standing = await readRollout(aws, cluster, clock);
  const rollout = await standing.rollout();
  while (!stopped.aborted) {
    const holder = standing.holder?.who;
    const summary = summarise(rollout, standing.progress);
    const text = JSON.stringify({ ...summary, holder });
    if (text !== shown && asked.json) io.stdout(`${text}\n`);
    // A terminal shows the time that passes, too.
    else if (!asked.json && (text !== shown || io.isTTY)) {
      const lines = watchLines(rollout, standing.progress, holder, clock.now().getTime(), io.isTTY);
      io.stdout(io.isTTY ? redrawn(lines, drawn, io.columns) : lines.map((line) => `${line}\n`).join(''));
      drawn = lines.length;
    }
    shown = text;
    if (summary.state !== 'running') return summary.state === 'halted' ? 1 : 0;
    await systemClock.sleep(WATCH_MS, stopped).catch(() => {});
    if (!stopped.aborted) standing = await readRollout(aws, cluster, clock);
    if (standing.id !== rollout.id) return 0;
  }
  return INTERRUPTED;
}

async function report(asked: Asked, io: CommandIo): Promise<number> {
  const cluster = clusterOf('report', asked);
  if (asked.html !== undefined) requireWritable(asked.html);
  const { aws, clock } = await connect(asked, 'look', io);
  const { readRollout } = await import('../rollout/record.ts');
  const { readEvents } = await import('../rollout/mirror.ts');
  const { reportHtml, reportMarkdown } = await import('../rollout/report.ts');
  const { exceptionsOf, summarise } = await import('../rollout/summary.ts');
  const standing = await readRollout(aws, cluster, clock);
  const rollout = await standing.rollout();
  const input = { rollout, progress: standing.progress, events: readEvents(rollout.id) };
  if (asked.html !== undefined) await writeText(asked.html, reportHtml(input));
  if (asked.json)
    io.stdout(
      `${JSON.stringify({ summary: summarise(rollout, standing.progress), exceptions: exceptionsOf(rollout, standing.progress), events: input.events })}\n`,
    );
  else if (asked.html === undefined) io.stdout(reportMarkdown(input));
  return 0;
}

/** From where the record stands to its end; the exit code. */
async function carryOut(
  aws: FleetAws,
  clock: Clock,
  record: RolloutRecord,
  asked: Asked,
  io: CommandIo,
): Promise<number> {
  const { orchestrate } = await import('../rollout/orchestrate.ts');
  const { orchestration, stop } = await workOn(aws, clock, record, asked, io);
  let progress: Progress;
  try {
    progress = await orchestrate(orchestration);
  } finally {
    await stop();
  }
  if (progress.state === 'halted')
    throw new Failure('ROLLOUT_HALTED', progress.why ?? 'halted', { id: record.rollout.id });
  if (progress.state === 'running') {
    io.stderr('eniboot: stopped here; `eniboot rollout resume` goes on\n');
    return INTERRUPTED;
  }
  return 0;
}

/** Exit code 0 goes on; what it said is in the report. */
async function askProgram(question: GateQuestion): Promise<{ passed: boolean; said: string }> {
  const { run: start } = await import('../port/exec.ts');
  const { endingOf, succeeded } = await import('../port/exec-result.ts');
  const [file = '', ...args] = question.command;
  const result = await start(file, args, {
    timeoutMs: question.timeoutMs,
    env: {
      ENIBOOT_ROLLOUT: question.rollout,
      ENIBOOT_VERSION: question.version,
      ENIBOOT_ZONE: question.zoneId,
      ENIBOOT_AFTER: question.after,
    },
  });
  const said = `${result.stdout}\n${result.stderr}`.trim().split('\n').slice(-3).join('; ').slice(0, 200);
  return { passed: succeeded(result), said: `${file} ${endingOf(result)}${said === '' ? '' : `: ${said}`}` };
}

async function workOn(
  aws: FleetAws,
  clock: Clock,
  record: RolloutRecord,
  asked: Asked,
  io: CommandIo,
): Promise<{ orchestration: Orchestration; stop: () => Promise<void> }> {
  const { openMirror } = await import('../rollout/mirror.ts');
  const { rolloutView } = await import('./rollout-view.ts');
  const mirror = openMirror(record.rollout, (text) => io.stderr(`eniboot: ${text}\n`));
  const nowMs = () => clock.now().getTime();
  const sink =
    asked.onEvent === undefined
      ? undefined
      : openSink(asked.onEvent, (text) => io.stderr(`eniboot: ${text}\n`));
  const view = asked.json ? undefined : rolloutView(record.rollout, record.progress, io, nowMs);
  return {
    stop: async () => {
      view?.stop();
      await sink?.end();
    },
    orchestration: {
      aws,
      clock,
      record,
      gate: askProgram,
      stopped: interruption(),
      tell: (happening) => {
        const event = mirror.note(happening, record.progress, nowMs());
        if (asked.json) io.stdout(`${JSON.stringify(event)}\n`);
        sink?.write(event);
        view?.show(event, record.progress);
      },
    },
  };
}

async function connect(
  { region }: Asked,
  errand: Errand,
  io: CommandIo,
): Promise<{ aws: FleetAws; clock: Clock }> {
  const { connectFleet } = await import('./operator.ts');
  return connectFleet(region, errand, io);
}

async function readSpec({ operand }: Asked) {
  if (operand === undefined) throw new Failure('USAGE', 'eniboot rollout: the file with the spec is missing');
  const { loadSpec } = await import('../rollout/spec.ts');
  return loadSpec(operand, readInputFile(operand, MOST_BYTES));
}

function clusterOf(verb: Verb, { cluster }: Asked): string {
  if (cluster !== undefined && /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/.test(cluster)) return cluster;
  throw new Failure(
    'USAGE',
    cluster === undefined
      ? `eniboot rollout ${verb}: --cluster is missing`
      : `eniboot rollout ${verb}: ${cluster} is not a cluster name`,
  );
}

let self: Owner | undefined;
function owner(): Owner {
  self ??= { who: whoami(), token: crypto.randomUUID() };
  return self;
}

async function writeText(path: string, text: string): Promise<void> {
  const { writeAtomic } = await import('../port/fs.ts');
  writeAtomic(path, text);
}
