import { carryOut, lookForLeftovers, type SweepResult } from '../aws/sweep.ts';
import { REST_MINUTES, type SweepItem, type SweepOptions } from '../aws/sweep-plan.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { INTERRUPTED, interruption } from '../port/runtime.ts';
import { parse, verbOf } from './arguments.ts';
import type { Command, CommandIo } from './command.ts';
import { failureObject, failureText } from './failure-text.ts';
import { paint, table } from './table.ts';

const help = `Usage: eniboot eni sweep [--cluster NAME] [--region REGION] [--min-age MINUTES] [--max N] [--apply] [--json]

Finds pod ENIs left over from dead instances, and with --apply deletes them. An instance deletes its own ENIs when it
ends; an ENI is left over when its node died between creating and attaching it.

An ENI is deleted when all of this holds:
  its tags are eniboot's (eniboot:role=pods, and the cluster), its status is available;
  its instance (tag eniboot:instance) does not exist or is terminated, asked again right before the deletion;
  it is older than --min-age (tag eniboot:created);
  an earlier run with --apply marked it (tag eniboot:sweep-seen) at least ${REST_MINUTES} minutes ago.
So the first run marks and the next one deletes: run it on a schedule, such as every 15 minutes. In doubt an ENI stays.

  --cluster NAME      only ENIs of this cluster; default: ENIs of all clusters in the region
  --region REGION     default: AWS_REGION or the profile's
  --min-age MINUTES   default 30
  --max N             ENIs deleted in one run, at most; default 25
  --apply             mark and delete; without it nothing is changed
  --json              one object: { "region", "applied", "interrupted", "enis": [ { "eniId", "action", "outcome", … } ] }

Runs anywhere except on nodes: give it its own role with the policy that \`eniboot iam-policy sweep\` prints. Credentials and
endpoint come from the usual places (AWS_PROFILE, ~/.aws, AWS_ENDPOINT_URL). Ctrl-C stops after the current ENI.

  eniboot eni sweep --cluster production
  eniboot eni sweep --cluster production --apply

Exit codes: 0 done, or shown; 1 something failed, with a code; 2 wrong usage; ${INTERRUPTED} interrupted.
`;

export const eniCommand: Command = {
  help,
  async run(args, io) {
    const [verb, ...rest] = args;
    verbOf('eni', verb, ['sweep']);
    const { values } = parse('eni sweep', rest, {
      cluster: { type: 'string' },
      region: { type: 'string' },
      'min-age': { type: 'string' },
      max: { type: 'string' },
      apply: { type: 'boolean' },
      json: { type: 'boolean' },
    });
    const options: SweepOptions = {
      cluster: values.cluster,
      minAgeMinutes: count('--min-age', values['min-age'] ?? '30', 10, 100_000),
      max: count('--max', values.max ?? '25', 1, 1_000),
    };
    return sweep(
      options,
      { apply: values.apply === true, region: values.region, json: values.json === true },
      io,
    );
  },
};

interface Asked {
  apply: boolean;
  region: string | undefined;
  json: boolean;
}

async function sweep(options: SweepOptions, asked: Asked, io: CommandIo): Promise<number> {
  const stopped = interruption();
  const { connectEc2 } = await import('./operator.ts');
  const { ec2, region } = await connectEc2(asked.region, 'look', io, stopped);
  const say = (text: string) => {
    if (!asked.json) io.stdout(text);
  };
  const done: Done = { region, items: [], results: [], failure: undefined, interrupted: false };
  try {
    const where = `in ${region}${options.cluster === undefined ? '' : `, cluster ${options.cluster}`}`;
    say(`looking for pod ENIs that are attached to nothing ${where}\n`);
    done.items = await lookForLeftovers(ec2, options);
    if (done.items.length > 0) say(`\n${show(done.items)}\n`);
    const changes = done.items.filter((item) => item.action === 'mark' || item.action === 'delete');
    if (asked.apply) {
      await carryOut(ec2, changes, stopped, (result) => {
        done.results.push(result);
        say(line(result, done.results.length, changes.length, io.isTTY));
      });
    }
  } catch (error) {
    // A wait that Ctrl-C ended is no failure.
    if (!stopped.aborted) {
      if (!isFailure(error)) throw error;
      done.failure = error;
    }
  }
  done.interrupted = stopped.aborted;
  if (asked.json) io.stdout(`${JSON.stringify(report(done, asked))}\n`);
  else say(summary(done, asked));
  if (done.failure !== undefined) io.stderr(failureText(failureObject(done.failure), io.isTTY));
  if (done.interrupted) return INTERRUPTED;
  return done.failure !== undefined || done.results.some((result) => result.outcome === 'failed') ? 1 : 0;
}

interface Done {
  region: string;
  items: SweepItem[];
  results: SweepResult[];
  failure: Failure | undefined;
  interrupted: boolean;
}

function count(option: string, text: string, minimum: number, maximum: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= minimum && value <= maximum) return value;
  throw new Failure(
    'USAGE',
    `eniboot eni sweep: ${option} ${text}: a whole number from ${minimum} to ${maximum} is needed`,
  );
}

function show(items: SweepItem[]): string {
  const rows = items.map((item) => [
    item.eniId,
    item.instanceId,
    item.cluster,
    item.ageMinutes === undefined ? '?' : `${item.ageMinutes} min`,
    item.action,
    item.why,
  ]);
  return table([['eni', 'instance', 'cluster', 'age', 'action', 'because'], ...rows]);
}

function line(result: SweepResult, at: number, all: number, colour: boolean): string {
  const style = { deleted: 'green', marked: 'green', kept: 'yellow', failed: 'red' } as const;
  const what = paint(style[result.outcome], result.outcome.padEnd(7), colour);
  return `${`${at}/${all}`.padStart(7)}  ${what}  ${result.item.eniId}${result.why === undefined ? '' : `  ${result.why}`}\n`;
}

function summary({ items, results, failure, interrupted }: Done, { apply }: Asked): string {
  if (items.length === 0 && failure === undefined && !interrupted) return 'nothing is left over\n';
  const planned = (action: SweepItem['action']) => items.filter((item) => item.action === action).length;
  const became = (outcome: SweepResult['outcome']) => results.filter((one) => one.outcome === outcome).length;
  const stop = interrupted ? 'interrupted; run it again for the rest\n' : '';
  // A list that is incomplete has no totals, but the changes made so far do.
  if (failure !== undefined && results.length === 0) return '';
  if (!apply) {
    return `${stop}${planned('delete')} would be deleted, ${planned('mark')} marked. Nothing was changed: that takes --apply.\n`;
  }
  const failed = became('failed');
  return `${stop}${became('deleted')} deleted, ${became('marked')} marked${failed === 0 ? '' : `, ${failed} failed`}, ${items.length - results.length + became('kept')} left alone\n`;
}

function report(done: Done, { apply }: Asked): object {
  const { failure } = done;
  return {
    region: done.region,
    applied: apply,
    interrupted: done.interrupted,
    enis: done.items.map((item) => {
      const result = done.results.find((one) => one.item === item);
      return {
        ...item,
        ...(result === undefined
          ? {}
          : { outcome: result.outcome, ...(result.why === undefined ? {} : { why: result.why }) }),
      };
    }),
    ...(failure === undefined ? {} : { failure: failureObject(failure) }),
  };
}
