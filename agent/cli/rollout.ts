import { Failure } from '../messages/failure.ts';
import { INTERRUPTED } from '../port/runtime.ts';
import { parseVerb, verbOf } from './arguments.ts';
import type { Command, CommandIo } from './command.ts';
import { requireSink } from './event-sink.ts';
import { plan, report, status, verify, watch } from './rollout-look.ts';
import type { Asked } from './rollout-sites.ts';
import { abandon, halt, resume, rollback, run, takeover } from './rollout-work.ts';

const help = `Usage: eniboot rollout plan SPEC...   what would be done, and what a failure at each step would reach
       eniboot rollout run SPEC...    begin a rollout and carry it out [--over ID: in place of the halted one]
       eniboot rollout watch          follow it from anywhere
       eniboot rollout status         its state, its zones, its next step
       eniboot rollout verify         the version of each node, and nodes that are not as they should be
       eniboot rollout halt           raise the halt flag: nothing further is touched [--why TEXT]
       eniboot rollout resume         lower the flag and go on, also after a crash [--forgive]
       eniboot rollout rollback       take it back, zone by zone in reverse, touched nodes only; again: nodes not reached
       eniboot rollout takeover       go on at once with a rollout whose process is dead [--yes]
       eniboot rollout abandon        end a halted one where it stands: nodes keep what they run
       eniboot rollout report         what changed, what failed, why it stopped [--html FILE]

Brings a version of eniboot onto the nodes of a cluster through SSM Run Command: a canary, about 10 % of the first zone,
the rest of it, a wait, the next zone. Never two zones at once; each CPU, AMI and instance generation has its canary.
A node counts as updated when it reports the version, its digest and good health; a node that reports nothing or is late
has failed. Nodes that cannot be reached have a budget of their own. An AMI goes the same way, by the labels of its
parameters: instances that boot from it must become READY. Several specs, each with its where.region, are carried out in
the given order: a Region begins only when the Regions before it are done. docs/rollouts.md explains all of it.

  SPEC             YAML; two keys are enough: what.bundle.version (or what.image.id, an AMI) and where.cluster
  --cluster NAME   the cluster, for all verbs but plan and run; or give the specs as for run: all but watch take several
  --region REGION  default: where.region of the spec, AWS_REGION or the profile's
  --svg FILE       plan: the picture as SVG
  --html FILE      report: as a self-contained page with a picture of its course; otherwise Markdown on stdout
  --why TEXT       halt: reason, shown to all who look at the rollout
  --forgive        resume: failures so far no longer count; of a rollback: end it without the nodes that were not reached
  --over ID        run, plan: replaces the halted rollout ID, which ends where it stands; nodes then get the new version
  --yes            takeover: without it the record and the process at work are shown, and nothing is changed
  --on-event WHERE run, resume, rollback, takeover: also writes each event as a line of JSON, to the end of a file, or with |
                   in front into a command: --on-event '|./notify'
  --prometheus     status: as metrics for Prometheus
  --json           one object; for run, resume, rollback and takeover a line for each event, and a last one with the outcome
                   or the failure; for watch one for each change

The record is in Parameter Store (/eniboot/rollout/<cluster>/), so any operator with the policy of
\`eniboot iam-policy rollout\` can continue it. Ctrl-C leaves it where it is: \`rollout resume\` continues.

Exit codes:
  0    done, taken back, shown, or nothing left to do
  1    halted or failed, with a code; plan: \`run\` would refuse the spec; status, watch: the rollout has halted; verify: drift
       was found, or the rollout has not ended; takeover without --yes: a process works on the rollout
  2    wrong usage; nothing was done
  70   a defect of eniboot: \`rollout resume\` goes on
  ${INTERRUPTED}  interrupted: \`rollout resume\` goes on; after an interrupted rollback, \`rollout rollback\` goes on
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

/** The options of each verb. */
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
      Number.POSITIVE_INFINITY,
    );
    const asked: Asked = {
      verb,
      specs: positionals,
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
    if (asked.cluster !== undefined && asked.specs.length > 0)
      throw new Failure('USAGE', `eniboot rollout ${verb}: --cluster or specs, not both`);
    // Checked before anything begins.
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
