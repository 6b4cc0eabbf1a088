// What an operator asks for: one schema; with only `what` and `where` given, the defaults are safe.
import * as v from 'valibot';
import { CLUSTER_TAG } from '../aws/tags.ts';
import { parseSource } from '../config/parse.ts';
import { type ConfigProblem, type Finding, invalid, problemAt } from '../config/problem.ts';
import { type Path, positionOf, type Tree, toValue } from '../config/tree.ts';
import { validate } from '../config/validate.ts';
import { whole } from '../config/whole.ts';
import { Failure } from '../messages/failure.ts';
import type { Limits } from './judge.ts';
import { DAYS, isTimeZone } from './window.ts';

function text(form: RegExp, message: string, example: string, description: string) {
  return v.pipe(v.string(), v.regex(form, message), v.examples([example]), v.description(description));
}

const sha256 = text(
  /^[0-9a-f]{64}$/,
  'is not a SHA-256 (64 hexadecimal digits in lower case)',
  'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  'SHA-256 of the archive.',
);

/** HH:MM. */
const CLOCK = /^([01]\d|2[0-3]):[0-5]\d$/;

/** Nodes in flight at once, and nodes that may fail, at most: the record has to fit into one parameter. */
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
      // In EC2's filters * and ? match any text: instances of other clusters would become targets.
      v.regex(/^[^*?]*$/, 'holds * or ?'),
      v.examples(['production']),
    ),
  ),
  v.minEntries(1, 'is empty'),
);

const MOST_COUNTED = 1_000_000;
/** Alarms that one rollout may watch. */
const MOST_ALARMS = 500;

/** Source: CloudWatch API reference, PutMetricAlarm, AlarmName: UTF-8, 255 characters, no ASCII control characters. */
function alarmName(description: string) {
  return text(
    /^(?!arn:)[^\s\p{Cc}][^\p{Cc}]{0,254}$/u,
    'is not the name of a CloudWatch alarm',
    'api-errors',
    description,
  );
}

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
                  'Digests that the published archives must have; without it, the digests of the published archives are recorded.',
                ),
              ),
            ),
            parameter: v.optional(
              text(
                /^\/(?:[\w.-]|\/)*\{zone-id\}(?:[\w.-]|\/)*$/,
                'is not the path of a parameter with {zone-id} in it',
                '/eniboot/bundle/{zone-id}',
                "The parameter that names a zone's version; the same as `bundle.parameter` in the nodes' configuration.",
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
                "The parameter that names a zone's AMI; launch templates use it with the label: resolve:ssm:/eniboot/image/x86_64/use1-az1:stable.",
              ),
              '/eniboot/image/x86_64/{zone-id}',
            ),
          }),
          v.description('An AMI: labels move zone by zone, and instances that boot from it are counted.'),
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
      region: v.optional(
        text(
          /^[a-z]{2,4}(-[a-z]+)+-\d$/,
          'is not a Region',
          'eu-central-1',
          'Region of the cluster; without it, --region or AWS_REGION. When one rollout has several specs, each names its Region.',
        ),
      ),
      tags: v.optional(
        v.pipe(
          tags,
          v.maxEntries(5, 'has more than the 5 entries Run Command takes'),
          v.description(
            'Tags that an instance must have, all of them; without it, `eniboot:cluster` with the cluster.',
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
          v.description('Instances that are left as they are, even if they come up during the rollout.'),
        ),
      ),
      zones: v.optional(
        v.pipe(
          v.array(text(/^[a-z]{2,4}\d-az\d+$/, 'is not a zone ID', 'use1-az1', 'A zone ID.')),
          v.minLength(1, 'is empty'),
          v.maxLength(12, 'has more than 12 entries'),
          v.description('Zones by ID, in this order; without it, all zones with nodes, the smallest first.'),
        ),
      ),
    }),
    v.description('Which nodes.'),
  ),
  steps: v.optional(
    v.pipe(
      v.strictObject({
        canaries: v.optional(
          whole(1, 10, '', 'Least number of nodes of the first zone that go first, one of them alone.'),
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
            'Share of a zone that may be in flight at once; at least one node may.',
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
      v.description('Waits. The halt flag also works during a wait.'),
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
            `Share of a zone's nodes that may fail, rounded down; never more than ${MOST_FAILURES}.`,
          ),
          2,
        ),
        fleetPercent: v.optional(
          whole(0, 20, ' of percent', `Share of all nodes that may fail; never more than ${MOST_FAILURES}.`),
          1,
        ),
        unreachablePercent: v.optional(
          whole(
            0,
            100,
            ' of percent',
            'Share of the nodes of a zone that may be unreachable (SSM agent does not answer) when they are to be asked; one node at least unless 0. They are asked again at the end of the zone.',
          ),
          10,
        ),
      }),
      v.description('What may go wrong before the rollout halts. A canary that fails always halts it.'),
    ),
    {},
  ),
  node: v.optional(
    v.pipe(
      v.strictObject({
        deliverySeconds: v.optional(
          whole(30, 3600, ' of seconds', 'Time in which a node must begin the command.'),
          120,
        ),
        updateSeconds: v.optional(
          whole(
            60,
            3600,
            ' of seconds',
            'Time that a node has for the update, including the way back when it fails.',
          ),
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
          whole(
            60,
            172_800,
            ' of seconds',
            'Time in which that share must have booted, or the rollout halts.',
          ),
          14_400,
        ),
      }),
      v.description(
        'For an AMI: which boots the rollout waits for. eniboot replaces no instances; autoscaling does.',
      ),
    ),
    {},
  ),
  gate: v.optional(
    v.pipe(
      v.strictObject({
        command: v.optional(
          v.pipe(
            v.array(v.pipe(v.string(), v.minLength(1, 'is empty'), v.examples(['./slo-holds']))),
            v.minLength(1, 'is empty'),
            v.maxLength(32, 'has more than 32 entries'),
            v.description(
              'Program and arguments, run at each gate on the machine that runs the rollout. With exit code 0 the rollout goes on.',
            ),
          ),
        ),
        counters: v.optional(
          v.pipe(
            v.strictObject({
              restarts: v.optional(
                whole(0, MOST_COUNTED, '', "Restarts and crashes of eniboot's units; without it, 0."),
              ),
              failedAdds: v.optional(
                whole(
                  0,
                  MOST_COUNTED,
                  '',
                  'ADDs that failed, except for lack of an address or because their pod was gone; without it, 5.',
                ),
              ),
              drops: v.optional(
                whole(
                  0,
                  MOST_COUNTED,
                  '',
                  'Packets that the guards dropped, without those to instance metadata; without it, any number.',
                ),
              ),
            }),
            v.description(
              'What may have gone wrong on a node since it was switched. A node that does not report a counter set here has failed.',
            ),
          ),
        ),
        timeoutSeconds: v.optional(
          whole(
            1,
            3600,
            ' of seconds',
            'Time that the program has. If it does not end in time, the gate has not passed.',
          ),
          300,
        ),
      }),
      v.description('What has to hold at the end of a wait, besides the health of its nodes.'),
    ),
  ),
  when: v.optional(
    v.pipe(
      v.strictObject({
        timeZone: text(
          /^[\w+/-]+$/,
          'is not the name of a time zone',
          'Europe/Berlin',
          'Time zone of the windows.',
        ),
        windows: v.pipe(
          v.array(
            v.pipe(
              v.strictObject({
                days: v.optional(
                  v.pipe(
                    v.array(v.picklist(DAYS)),
                    v.minLength(1, 'is empty'),
                    v.description('Days on which the window begins.'),
                  ),
                  [...DAYS],
                ),
                from: text(CLOCK, 'is not a time of day (HH:MM)', '09:00', 'First minute of the window.'),
                to: text(
                  CLOCK,
                  'is not a time of day (HH:MM)',
                  '16:00',
                  'End of the window, excluded; when it is before `from`, the window goes over midnight.',
                ),
              }),
              v.description('One window.'),
            ),
          ),
          v.minLength(1, 'is empty'),
          v.maxLength(20, 'has more than 20 entries'),
          v.description(
            'No step begins outside of the windows; what is in flight finishes. A rollback may run at any time.',
          ),
        ),
      }),
      v.description('When the rollout may begin a step; without it, at any time.'),
    ),
  ),
  alarm: v.optional(
    alarmName(
      'A CloudWatch alarm that is part of each command: when it goes off, Run Command cancels what it can. It is watched like those of `alarms`.',
    ),
  ),
  alarms: v.optional(
    v.pipe(
      v.array(alarmName('An alarm.')),
      v.minLength(1, 'is empty'),
      v.maxLength(MOST_ALARMS, `has more than ${MOST_ALARMS} entries`),
      v.description(
        'CloudWatch alarms, metric or composite, that are watched from beginning to end: when one has gone off, the rollout halts.',
      ),
    ),
  ),
});

export type Spec = v.InferOutput<typeof specSchema>;

export type BundleSpec = Spec & { what: Extract<Spec['what'], { bundle: unknown }> };
export type ImageSpec = Spec & { what: Extract<Spec['what'], { image: unknown }> };

export function isImage(spec: Spec): spec is ImageSpec {
  return 'image' in spec.what;
}

/** What a gate allows where the spec names no limit. Drops have none: pods cause them, and could stop every rollout. */
const ALLOWED = { restarts: 0, failedAdds: 5 };

/** What may have gone wrong on a node since it was switched. */
export function counterLimits({ gate }: Spec): Limits {
  const asked = gate?.counters ?? {};
  const limits = Object.entries({ ...ALLOWED, ...asked }).map(([name, most]) => [
    name,
    { most, demanded: name in asked },
  ]);
  return Object.fromEntries(limits) as Limits;
}

/** The alarms that are watched. */
export function watchedAlarms({ alarm, alarms = [] }: Spec): string[] {
  return alarm === undefined ? alarms : [alarm, ...alarms];
}

/** The short name of what is rolled out: a version, or the ID of an AMI. */
export function subjectOf({ what }: Spec): string {
  return 'image' in what ? what.image.id : what.bundle.version;
}

/** How many of `nodes` nodes may fail. */
export function allowedFailures(nodes: number, percent: number): number {
  return Math.min(MOST_FAILURES, Math.floor((nodes * percent) / 100));
}

/** How many of `nodes` nodes may have an SSM agent that does not answer. */
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
  // A part that the parser refused may hold the key that is missing.
  const complete = problems.length === 0;
  const placed = validate(tree, specSchema).filter((one) => complete || !one.missing);
  problems.push(...placed.map((one) => one.problem));
  const result = v.safeParse(specSchema, toValue(tree));
  if (problems.length === 0 && !result.success)
    throw new Failure('INTERNAL', 'the spec passes the walk over the schema but not the schema itself', {
      issues: v.summarize(result.issues),
    });
  if (result.success) problems.push(...crossCheck(result.output, tree));
  if (problems.length > 0 || !result.success) throw invalid(problems, 'SPEC_INVALID');
  return result.output;
}

/** Rules that the schema cannot express. */
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
      problem: 'is for bundles: which instances get an AMI is decided by the tool that replaces instances',
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
      problem: 'is part of commands, and the rollout of an AMI sends none',
      remedy: 'Write it below `alarms` instead: they are watched for an AMI, too.',
    });
  watchedAlarms(spec).forEach((name, at, all) => {
    const path = spec.alarm === undefined ? ['alarms', at] : ['alarms', at - 1];
    if (all.indexOf(name) < at)
      report(path, name, {
        problem: 'is named twice',
        remedy: 'Remove one of them: `alarm` is watched as well.',
      });
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
    report(['gate'], spec.gate, {
      problem: 'is run at the gates of a bundle; an AMI has no gates',
      remedy: 'Remove it.',
    });
  return problems;
}
