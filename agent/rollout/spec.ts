// What an operator asks for: one schema, safe with only `what` and `where`.
import * as v from 'valibot';
import { CLUSTER_TAG } from '../aws/tags.ts';
import { parseSource } from '../config/parse.ts';
import { type ConfigProblem, type Finding, invalid, problemAt } from '../config/problem.ts';
import { type Path, positionOf, type Tree, toValue } from '../config/tree.ts';
import { validate } from '../config/validate.ts';
import { whole } from '../config/whole.ts';
import { Failure } from '../messages/failure.ts';
import { DAYS, isTimeZone } from './window.ts';

function text(form: RegExp, message: string, example: string, description: string) {
  return v.pipe(v.string(), v.regex(form, message), v.examples([example]), v.description(description));
}

const sha256 = text(
  /^[0-9a-f]{64}$/,
  'is not a SHA-256 (64 hexadecimal digits in lower case)',
  'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  'Of the archive.',
);

/** HH:MM. */
const CLOCK = /^([01]\d|2[0-3]):[0-5]\d$/;

/** Nodes in flight at once, and nodes that may fail, at most: what is recorded has to fit into one parameter. */
const MOST_IN_FLIGHT = 200;
const MOST_FAILURES = 200;

const tags = v.pipe(
  v.record(
    v.pipe(
      v.string(),
      v.minLength(1, 'has an empty tag key'),
      v.maxLength(128, 'has a tag key longer than 128'),
    ),
    v.pipe(
      v.string(),
      v.maxLength(256, 'is longer than 256 characters'),
      // EC2's filters take them as placeholders, which would make other clusters' instances targets.
      v.regex(/^[^*?]*$/, 'holds * or ?'),
      v.examples(['production']),
    ),
  ),
  v.minEntries(1, 'is empty'),
);

const specSchema = v.strictObject({
  what: v.pipe(
    v.union([
      v.strictObject({
        bundle: v.pipe(
          v.strictObject({
            version: text(
              /^\d+\.\d+\.\d[\w.-]*$/,
              'is not a version',
              '1.4.0',
              'A published version: `eniboot bundle list` shows them.',
            ),
            sha256: v.optional(
              v.pipe(
                v.strictObject({ x64: v.optional(sha256), arm64: v.optional(sha256) }),
                v.description(
                  'Digests the published archives must have; without it, those published are recorded.',
                ),
              ),
            ),
            parameter: v.optional(
              text(
                /^\/(?:[\w.-]|\/)*\{zone-id\}(?:[\w.-]|\/)*$/,
                'is not the path of a parameter with {zone-id} in it',
                '/eniboot/bundle/{zone-id}',
                "Where a zone's version stands; what `bundle.parameter` says in the nodes' configuration.",
              ),
              '/eniboot/bundle/{zone-id}',
            ),
          }),
          v.description('A version of eniboot, in place.'),
        ),
      }),
      v.strictObject({
        image: v.pipe(
          v.strictObject({
            id: text(/^ami-[0-9a-f]{8,17}$/, 'is not the ID of an AMI', 'ami-0123456789abcdef0', 'The AMI.'),
            parameter: v.optional(
              text(
                /^\/(?:[\w.-]|\/)*\{zone-id\}(?:[\w.-]|\/)*$/,
                'is not the path of a parameter with {zone-id} in it',
                '/eniboot/image/x86_64/{zone-id}',
                "Where a zone's AMI stands; launch templates name it with the label: resolve:ssm:/eniboot/image/x86_64/use1-az1:stable.",
              ),
              '/eniboot/image/x86_64/{zone-id}',
            ),
          }),
          v.description('An AMI: labels move zone by zone, and what boots from it is counted.'),
        ),
      }),
    ]),
    v.description('What is rolled out.'),
  ),
  where: v.pipe(
    v.strictObject({
      cluster: text(
        /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/,
        'is not a cluster name',
        'production',
        'The fleet. One rollout at a time is under way in it.',
      ),
      tags: v.optional(
        v.pipe(
          tags,
          v.maxEntries(5, 'has more than the 5 entries Run Command takes'),
          v.description(
            'Tags an instance must have, all of them; without it, `eniboot:cluster` with the cluster.',
          ),
        ),
      ),
      exclude: v.optional(
        v.pipe(
          v.strictObject({
            instances: v.optional(
              v.pipe(
                v.array(
                  text(
                    /^i-[0-9a-f]{8,17}$/,
                    'is not the ID of an instance',
                    'i-0123456789abcdef0',
                    'An instance.',
                  ),
                ),
                v.minLength(1, 'is empty'),
                v.maxLength(200, 'has more than 200 entries'),
                v.description('Instances by ID.'),
              ),
            ),
            tags: v.optional(v.pipe(tags, v.description('Instances that have one of these tags.'))),
          }),
          v.description(
            'Instances that are left as they are, also where they come up while it is under way.',
          ),
        ),
      ),
      zones: v.optional(
        v.pipe(
          v.array(text(/^[a-z]{2,4}\d-az\d+$/, 'is not a zone ID', 'use1-az1', 'A zone ID.')),
          v.minLength(1, 'is empty'),
          v.maxLength(12, 'has more than 12 entries'),
          v.description('Zones by ID, in this order; without it, all that hold nodes, the smallest first.'),
        ),
      ),
    }),
    v.description('Which nodes.'),
  ),
  steps: v.optional(
    v.pipe(
      v.strictObject({
        canaries: v.optional(
          whole(1, 10, '', 'Nodes of the first zone that go first at least, one of them alone.'),
          1,
        ),
        stratify: v.optional(
          v.pipe(
            v.boolean(),
            v.description(
              'Whether more nodes go first in a zone, so that each CPU architecture, AMI and instance generation has its canary.',
            ),
          ),
          true,
        ),
        sharePercent: v.optional(
          whole(1, 50, ' of percent', 'Share of the first zone that follows the canaries.'),
          10,
        ),
        concurrency: v.optional(whole(1, MOST_IN_FLIGHT, '', 'Nodes in flight at once.'), 50),
        zonePercent: v.optional(
          whole(
            1,
            100,
            ' of percent',
            'Share of a zone that may be in flight at once; at least one node is.',
          ),
          20,
        ),
      }),
      v.description('How large each step is.'),
    ),
    {},
  ),
  bake: v.optional(
    v.pipe(
      v.strictObject({
        canarySeconds: v.optional(whole(0, 86_400, ' of seconds', 'Wait after the canaries.'), 300),
        shareSeconds: v.optional(
          whole(0, 86_400, ' of seconds', 'Wait after the first share of the first zone.'),
          300,
        ),
        zoneSeconds: v.optional(whole(0, 172_800, ' of seconds', 'Wait after each zone but the last.'), 1800),
      }),
      v.description('Waits, in which the halt flag is looked at.'),
    ),
    {},
  ),
  budget: v.optional(
    v.pipe(
      v.strictObject({
        zonePercent: v.optional(
          whole(
            0,
            20,
            ' of percent',
            `Nodes of a zone that may fail, rounded down; never more than ${MOST_FAILURES}.`,
          ),
          2,
        ),
        fleetPercent: v.optional(
          whole(0, 20, ' of percent', `The same of all nodes; never more than ${MOST_FAILURES}.`),
          1,
        ),
        unreachablePercent: v.optional(
          whole(
            0,
            100,
            ' of percent',
            'Nodes of a zone whose SSM agent may not answer before they are asked, one at least unless 0. They are asked again at the end of the zone.',
          ),
          10,
        ),
      }),
      v.description('What may go wrong before it halts. A canary that fails always halts it.'),
    ),
    {},
  ),
  node: v.optional(
    v.pipe(
      v.strictObject({
        deliverySeconds: v.optional(
          whole(30, 3600, ' of seconds', 'Time in which a node must have taken up the command.'),
          120,
        ),
        updateSeconds: v.optional(
          whole(60, 3600, ' of seconds', 'Time a node has for the update, going back included.'),
          600,
        ),
        warnings: v.optional(
          v.pipe(
            v.picklist(['allow', 'fail']),
            v.description('Whether a node whose checks warn counts as healthy.'),
          ),
          'allow',
        ),
      }),
      v.description('What is expected of a node.'),
    ),
    {},
  ),
  boot: v.optional(
    v.pipe(
      v.strictObject({
        verdictSeconds: v.optional(
          whole(60, 7200, ' of seconds', 'Time from the launch of an instance to its READY.'),
          900,
        ),
        zonePercent: v.optional(
          whole(1, 100, ' of percent', 'Share of a zone that must run the AMI before the next zone begins.'),
          100,
        ),
        waitSeconds: v.optional(
          whole(60, 172_800, ' of seconds', 'Time in which that many must have booted, or it halts.'),
          14_400,
        ),
      }),
      v.description('Of an AMI: what is waited for. eniboot replaces no instances; autoscaling does.'),
    ),
    {},
  ),
  gate: v.optional(
    v.pipe(
      v.strictObject({
        command: v.pipe(
          v.array(v.pipe(v.string(), v.minLength(1, 'is empty'), v.examples(['./slo-holds']))),
          v.minLength(1, 'is empty'),
          v.maxLength(32, 'has more than 32 entries'),
          v.description(
            'Program and arguments, run where the rollout runs, at each gate. Exit code 0 goes on.',
          ),
        ),
        timeoutSeconds: v.optional(
          whole(1, 3600, ' of seconds', 'Time it has; one that does not end has not passed.'),
          300,
        ),
      }),
      v.description('What else has to hold at the end of a wait, beside the health of its nodes.'),
    ),
  ),
  when: v.optional(
    v.pipe(
      v.strictObject({
        timeZone: text(/^[\w+/-]+$/, 'is not the name of a time zone', 'Europe/Berlin', 'Of the windows.'),
        windows: v.pipe(
          v.array(
            v.pipe(
              v.strictObject({
                days: v.optional(
                  v.pipe(
                    v.array(v.picklist(DAYS)),
                    v.minLength(1, 'is empty'),
                    v.description('Days on which it begins.'),
                  ),
                  [...DAYS],
                ),
                from: text(CLOCK, 'is not a time of day (HH:MM)', '09:00', 'First minute.'),
                to: text(
                  CLOCK,
                  'is not a time of day (HH:MM)',
                  '16:00',
                  'End, excluded; over midnight when before `from`.',
                ),
              }),
              v.description('One window.'),
            ),
          ),
          v.minLength(1, 'is empty'),
          v.maxLength(20, 'has more than 20 entries'),
          v.description(
            'Nothing begins outside of them; what is in flight finishes. A rollback goes at any time.',
          ),
        ),
      }),
      v.description('When it may begin something; without it, at any time.'),
    ),
  ),
  alarm: v.optional(
    text(
      /^[^\s:][^:]{0,254}$/,
      'is not the name of a CloudWatch alarm',
      'api-errors',
      'A CloudWatch alarm that Run Command watches while a command runs: when it goes off, the rollout halts.',
    ),
  ),
});

export type Spec = v.InferOutput<typeof specSchema>;

export type BundleSpec = Spec & { what: Extract<Spec['what'], { bundle: unknown }> };
export type ImageSpec = Spec & { what: Extract<Spec['what'], { image: unknown }> };

export function isImage(spec: Spec): spec is ImageSpec {
  return 'image' in spec.what;
}

/** What is rolled out, in a word: a version, or the ID of an AMI. */
export function subjectOf({ what }: Spec): string {
  return 'image' in what ? what.image.id : what.bundle.version;
}

/** Nodes that may fail of so many. */
export function allowedFailures(nodes: number, percent: number): number {
  return Math.min(MOST_FAILURES, Math.floor((nodes * percent) / 100));
}

/** Nodes of so many whose SSM agents may not answer. */
export function allowedUnreachable(nodes: number, { budget }: Spec): number {
  const { unreachablePercent } = budget;
  return unreachablePercent === 0 ? 0 : Math.max(1, Math.floor((nodes * unreachablePercent) / 100));
}

/** Tags that make an instance a target. */
export function targetTags({ where }: Spec): Record<string, string> {
  return where.tags ?? { [CLUSTER_TAG]: where.cluster };
}

/** Whether the spec leaves an instance as it is. */
export function isExcluded(
  { where: { exclude } }: Spec,
  one: { instanceId: string; tags: Record<string, string> },
): boolean {
  if (exclude?.instances?.includes(one.instanceId) === true) return true;
  return Object.entries(exclude?.tags ?? {}).some(([key, value]) => one.tags[key] === value);
}

/** Pure. Throws SPEC_INVALID with every problem in `facts.problems`. */
export function loadSpec(source: string, content: Uint8Array | string): Spec {
  const { tree, problems } = parseSource(source, content);
  if (tree === undefined) throw invalid(problems, 'SPEC_INVALID');
  // What was refused may hold what is lacking.
  const complete = problems.length === 0;
  const placed = validate(tree, specSchema).filter((one) => complete || !one.missing);
  problems.push(...placed.map((one) => one.problem));
  const result = v.safeParse(specSchema, toValue(tree));
  if (problems.length === 0 && !result.success)
    throw new Failure('INTERNAL', 'the spec fits the walk over the schema but not the schema itself', {
      issues: v.summarize(result.issues),
    });
  if (result.success) problems.push(...crossCheck(result.output, tree));
  if (problems.length > 0 || !result.success) throw invalid(problems, 'SPEC_INVALID');
  return result.output;
}

/** What the schema cannot say. */
function crossCheck(spec: Spec, tree: Tree): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const report = (path: Path, value: unknown, finding: Finding) =>
    problems.push(problemAt(positionOf(tree, path), path, value, finding));
  const zones = spec.where.zones ?? [];
  zones.forEach((zone, at) => {
    if (zones.indexOf(zone) < at)
      report(['where', 'zones', at], zone, { problem: 'is named twice', remedy: 'Remove one of them.' });
  });
  const { exclude } = spec.where;
  if (exclude !== undefined && isImage(spec))
    report(['where', 'exclude'], exclude, {
      problem: 'is for bundles: what an AMI reaches is decided by whoever replaces instances',
      remedy: 'Remove it.',
    });
  if (exclude !== undefined && exclude.instances === undefined && exclude.tags === undefined)
    report(['where', 'exclude'], exclude, {
      problem: 'excludes nothing',
      remedy: 'Write instances, tags or both below it, or remove the key.',
    });
  const digests = 'bundle' in spec.what ? spec.what.bundle.sha256 : undefined;
  if (spec.alarm !== undefined && isImage(spec))
    report(['alarm'], spec.alarm, {
      problem: 'is watched by Run Command, which an AMI does without',
      remedy: 'Remove it, and halt by `eniboot rollout halt` from the alarm instead.',
    });
  if (digests !== undefined && digests.x64 === undefined && digests.arm64 === undefined)
    report(
      ['what', 'bundle', 'sha256'],
      {},
      {
        problem: 'names no digest',
        remedy: 'Write x64, arm64 or both below it, or remove the key.',
      },
    );
  if (spec.budget.fleetPercent > spec.budget.zonePercent)
    report(['budget', 'fleetPercent'], spec.budget.fleetPercent, {
      problem: `is larger than budget.zonePercent (${spec.budget.zonePercent})`,
      remedy: 'Allow a zone at least the share of failures that the fleet is allowed.',
    });
  if (spec.when !== undefined && !isTimeZone(spec.when.timeZone))
    report(['when', 'timeZone'], spec.when.timeZone, {
      problem: 'is not a time zone that is known here',
      remedy: 'Write a name of the IANA time zone database, such as Europe/Berlin or UTC.',
    });
  if (spec.gate !== undefined && isImage(spec))
    report(['gate'], spec.gate.command, {
      problem: 'is asked at the gates of a bundle; an AMI has none',
      remedy: 'Remove it.',
    });
  if (spec.alarm !== undefined && spec.alarm.startsWith('arn'))
    report(['alarm'], spec.alarm, {
      problem: 'looks like an ARN',
      remedy: 'Write the name of the alarm alone.',
    });
  return problems;
}
