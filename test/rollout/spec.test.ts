// Wrong specs: each is refused with path, value and remedy, before any call to AWS.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ConfigProblem } from '../../agent/config/problem.ts';
import { isFailure } from '../../agent/messages/failure.ts';
import { counterLimits, loadSpec } from '../../agent/rollout/spec.ts';

const HEX = 'a'.repeat(64);

function problemsOf(text: string): ConfigProblem[] {
  try {
    loadSpec('spec.yaml', text);
  } catch (error) {
    if (isFailure(error, 'SPEC_INVALID')) return error.facts['problems'] as ConfigProblem[];
    throw error;
  }
  return [];
}

/** A good spec of five lines. A case adds lines from line 6 on. */
const after = (...lines: string[]) =>
  ['what:', '  bundle:', '    version: 1.4.0', 'where:', '  cluster: prod', ...lines, ''].join('\n');

test('two keys are enough: all others have defaults', () => {
  const spec = loadSpec('spec.yaml', after());
  assert.equal(spec.steps, {
    canaries: 1,
    stratify: true,
    sharePercent: 10,
    concurrency: 50,
    zonePercent: 20,
  });
  assert.equal(spec.budget, { zonePercent: 2, fleetPercent: 1, unreachablePercent: 10 });
  assert.equal(spec.bake, { canarySeconds: 300, shareSeconds: 300, zoneSeconds: 1800 });
  assert.equal(counterLimits(spec), {
    restarts: { most: 0, demanded: false },
    failedAdds: { most: 5, demanded: false },
  });
  assert.equal(spec.what, { bundle: { version: '1.4.0', parameter: '/eniboot/bundle/{zone-id}' } });
});

type Case = [
  name: string,
  text: string,
  path: string,
  value: string | undefined,
  problem: RegExp,
  remedy: RegExp,
];

const cases: Case[] = [
  ['an empty file', '', '', undefined, /holds no settings/, /./],
  ['no YAML', 'what: [', '', undefined, /not valid YAML/, /./],
  ['a tab', 'what:\n\tbundle: x\n', '', undefined, /tab/, /spaces/],
  ['a list at the top', '- what\n', '', '["what"]', /not a set of keys/, /what, where/],
  ['no key `what`', 'where: { cluster: a }\n', 'what', undefined, /is missing/, /Add `what`/],
  [
    'a placeholder in a tag, which EC2 would follow',
    after('  tags:', "    eniboot:cluster: 'prod*'"),
    'where.tags["eniboot:cluster"]',
    '"prod*"',
    /holds \* or \?/,
    /production/,
  ],
  [
    'an unknown time zone',
    after('when: { timeZone: Mars/Olympus, windows: [{ from: "09:00", to: "10:00" }] }'),
    'when.timeZone',
    '"Mars/Olympus"',
    /not a time zone/,
    /Europe\/Berlin/,
  ],
  [
    'an impossible time of day',
    after('when: { timeZone: UTC, windows: [{ from: "24:00", to: "10:00" }] }'),
    'when.windows[0].from',
    '"24:00"',
    /not a time of day/,
    /09:00/,
  ],
  [
    'a gate of an AMI',
    'what: { image: { id: ami-0123456789abcdef0 } }\nwhere: { cluster: a }\ngate: { command: [true] }\n',
    'gate.command[0]',
    'true',
    /must be text/,
    /./,
  ],
  ['a gate without a program', after('gate: { command: [] }'), 'gate.command', undefined, /is empty/, /./],
  [
    'no key `where`',
    'what: { bundle: { version: 1.2.3 } }\n',
    'where',
    undefined,
    /is missing/,
    /Add `where`/,
  ],
  [
    'no cluster',
    'what: { bundle: { version: 1.2.3 } }\nwhere: { zones: [use1-az1] }\n',
    'where.cluster',
    undefined,
    /is missing/,
    /./,
  ],
  [
    'no version',
    'what: { bundle: {} }\nwhere: { cluster: a }\n',
    'what.bundle.version',
    undefined,
    /is missing/,
    /./,
  ],
  [
    'a malformed version',
    after().replace('1.4.0', 'latest'),
    'what.bundle.version',
    '"latest"',
    /not a version/,
    /1\.4\.0/,
  ],
  [
    'a version of two numbers',
    after().replace('1.4.0', '1.4'),
    'what.bundle.version',
    '1.4',
    /must be text/,
    /quotes/,
  ],
  [
    'a malformed image ID',
    'what: { image: { id: fedora } }\nwhere: { cluster: a }\n',
    'what.image.id',
    '"fedora"',
    /not the ID of an AMI/,
    /ami-/,
  ],
  [
    'a bundle and an image at once',
    'what: { bundle: { version: 1.2.3 }, image: { id: ami-0123456789abcdef0 } }\nwhere: { cluster: a }\n',
    'what',
    undefined,
    /has both `bundle` and `image`/,
    /Keep one/,
  ],
  [
    'no bundle and no image',
    'what: {}\nwhere: { cluster: a }\n',
    'what',
    '{}',
    /neither `bundle` nor `image`/,
    /./,
  ],
  [
    'an image parameter for all zones',
    'what: { image: { id: ami-0123456789abcdef0, parameter: /images/x } }\nwhere: { cluster: a }\n',
    'what.image.parameter',
    '"/images/x"',
    /zone-id/,
    /./,
  ],
  [
    '`alarm` for an image',
    'what: { image: { id: ami-0123456789abcdef0 } }\nwhere: { cluster: a }\nalarm: errors\n',
    'alarm',
    '"errors"',
    /is part of commands, and the rollout of an AMI sends none/,
    /`alarms`/,
  ],
  [
    'no time for a verdict',
    'what: { image: { id: ami-0123456789abcdef0 } }\nwhere: { cluster: a }\nboot: { verdictSeconds: 5 }\n',
    'boot.verdictSeconds',
    '5',
    /from 60 to 7200/,
    /./,
  ],
  [
    'a misspelt key at the top',
    after('budgt: { zonePercent: 1 }'),
    'budgt',
    '{"zonePercent":1}',
    /unknown key/,
    /`budget`/,
  ],
  ['a misspelt key below', after('steps: { canarys: 2 }'), 'steps.canarys', '2', /unknown key/, /`canaries`/],
  ['a key at the wrong place', after('zonePercent: 1'), 'zonePercent', '1', /unknown key/, /Move it to/],
  ['an unknown key', after('frobnicate: yes'), 'frobnicate', '"yes"', /unknown key/, /Known here/],
  [
    'a cluster with a slash',
    after().replace('prod', 'a/b'),
    'where.cluster',
    '"a/b"',
    /not a cluster name/,
    /production/,
  ],
  [
    'an exclusion of nothing',
    after('  exclude: {}'),
    'where.exclude',
    '{}',
    /excludes nothing/,
    /instances, tags or both/,
  ],
  [
    'a malformed instance ID',
    after('  exclude: { instances: [node-1] }'),
    'where.exclude.instances[0]',
    '"node-1"',
    /not the ID of an instance/,
    /i-/,
  ],
  [
    'an exclusion for an AMI',
    'what: { image: { id: ami-0123456789abcdef0 } }\nwhere: { cluster: a, exclude: { tags: { hold: "yes" } } }\n',
    'where.exclude',
    '{"tags":{"hold":"yes"}}',
    /is for bundles/,
    /Remove/,
  ],
  ['no canary', after('steps: { canaries: 0 }'), 'steps.canaries', '0', /from 1 to 10/, /range/],
  ['half a canary', after('steps: { canaries: 1.5 }'), 'steps.canaries', '1.5', /whole number/, /./],
  [
    'a share in words',
    after('steps: { sharePercent: ten }'),
    'steps.sharePercent',
    '"ten"',
    /whole number/,
    /digits/,
  ],
  [
    'a percent sign',
    after('steps: { sharePercent: 10% }'),
    'steps.sharePercent',
    '"10%"',
    /whole number/,
    /digits/,
  ],
  [
    'a quoted number',
    after('steps: { concurrency: "50" }'),
    'steps.concurrency',
    '"50"',
    /whole number/,
    /quotes/,
  ],
  [
    'more in flight than a record can hold',
    after('steps: { concurrency: 5000 }'),
    'steps.concurrency',
    '5000',
    /from 1 to 200/,
    /./,
  ],
  [
    'more in flight than a zone',
    after('steps: { zonePercent: 101 }'),
    'steps.zonePercent',
    '101',
    /from 1 to 100/,
    /./,
  ],
  [
    'a wait with a unit',
    after('bake: { zoneSeconds: 30m }'),
    'bake.zoneSeconds',
    '"30m"',
    /whole number/,
    /seconds alone/,
  ],
  [
    'a wait of three days',
    after('bake: { zoneSeconds: 259200 }'),
    'bake.zoneSeconds',
    '259200',
    /to 172800/,
    /./,
  ],
  [
    'a budget that allows everything',
    after('budget: { zonePercent: 100 }'),
    'budget.zonePercent',
    '100',
    /from 0 to 20/,
    /./,
  ],
  [
    'a fleet budget above that of a zone',
    after('budget: { zonePercent: 1, fleetPercent: 2 }'),
    'budget.fleetPercent',
    '2',
    /larger than budget.zonePercent/,
    /at least/,
  ],
  [
    'a malformed digest',
    after().replace('1.4.0', `1.4.0\n    sha256: { x64: abc }`),
    'what.bundle.sha256.x64',
    '"abc"',
    /SHA-256/,
    /./,
  ],
  [
    'a digest in upper case',
    after().replace('1.4.0', `1.4.0\n    sha256: { x64: ${HEX.toUpperCase()} }`),
    'what.bundle.sha256.x64',
    `"${HEX.toUpperCase()}"`,
    /SHA-256/,
    /lower case/,
  ],
  [
    'an empty map of digests',
    after().replace('1.4.0', '1.4.0\n    sha256: {}'),
    'what.bundle.sha256',
    '{}',
    /names no digest/,
    /x64, arm64/,
  ],
  [
    'a digest of an unknown CPU',
    after().replace('1.4.0', `1.4.0\n    sha256: { amd64: ${HEX} }`),
    'what.bundle.sha256.amd64',
    `"${HEX}"`,
    /unknown key/,
    /arm64/,
  ],
  [
    'a parameter without its zone',
    after().replace('1.4.0', '1.4.0\n    parameter: /eniboot/bundle'),
    'what.bundle.parameter',
    '"/eniboot/bundle"',
    /zone-id/,
    /./,
  ],
  [
    'zones by name',
    after('  zones: [us-east-1a]'),
    'where.zones[0]',
    '"us-east-1a"',
    /not a zone ID/,
    /use1-az1/,
  ],
  ['one zone, no list', after('  zones: use1-az1'), 'where.zones', '"use1-az1"', /must be a list/, /dash/],
  [
    'a zone twice',
    after('  zones: [use1-az1, use1-az2, use1-az1]'),
    'where.zones[2]',
    '"use1-az1"',
    /named twice/,
    /Remove/,
  ],
  ['no zones', after('  zones: []'), 'where.zones', '[]', /is empty/, /entry/],
  ['tags as a list', after('  tags: [a, b]'), 'where.tags', '["a","b"]', /must be a map/, /./],
  ['no tags', after('  tags: {}'), 'where.tags', '{}', /is empty/, /./],
  [
    'more tags than Run Command takes',
    after('  tags: { a: a, b: b, c: c, d: d, e: e, f: f }'),
    'where.tags',
    undefined,
    /more than the 5/,
    /./,
  ],
  [
    'a delivery time SSM refuses',
    after('node: { deliverySeconds: 10 }'),
    'node.deliverySeconds',
    '10',
    /from 30/,
    /./,
  ],
  ['warnings as a boolean', after('node: { warnings: true }'), 'node.warnings', 'true', /allow, fail/, /./],
  [
    'a negative number of restarts',
    after('gate: { counters: { restarts: -1 } }'),
    'gate.counters.restarts',
    '-1',
    /from 0 to 1000000/,
    /./,
  ],
  [
    'an unknown counter',
    after('gate: { counters: { restart: 0 } }'),
    'gate.counters.restart',
    '0',
    /not a known key|unknown|no such/,
    /./,
  ],
  [
    'an alarm by ARN',
    after('alarm: arn:aws:cloudwatch:eu-west-1:1:alarm:x'),
    'alarm',
    '"arn:aws:cloudwatch:eu-west-1:1:alarm:x"',
    /name of a CloudWatch alarm/,
    /api-errors/,
  ],
  [
    'one of many alarms by ARN',
    after('alarms: [good, "arn:aws:cloudwatch:eu-west-1:1:alarm:x"]'),
    'alarms[1]',
    '"arn:aws:cloudwatch:eu-west-1:1:alarm:x"',
    /name of a CloudWatch alarm/,
    /api-errors/,
  ],
  [
    'an alarm of several lines',
    after('alarms: ["a\\nb"]'),
    'alarms[0]',
    '"a\\nb"',
    /name of a CloudWatch alarm/,
    /./,
  ],
  ['no alarms below the key', after('alarms: []'), 'alarms', '[]', /is empty/, /./],
  [
    '`alarm` is also in `alarms`',
    after('alarm: smoke', 'alarms: [errors, smoke]'),
    'alarms[1]',
    '"smoke"',
    /is named twice/,
    /`alarm` is watched as well/,
  ],
];

test('there are enough cases, with different names', () => {
  assert.ok(cases.length >= 40, `${cases.length}`);
  assert.is(new Set(cases.map(([name]) => name)).size, cases.length);
});

for (const [name, text, path, value, problem, remedy] of cases) {
  test(name, () => {
    const problems = problemsOf(text);
    assert.is(problems.length, 1, JSON.stringify(problems));
    const [found] = problems;
    assert.is(found?.path, path);
    if (value !== undefined) assert.is(found?.value, value.length > 80 ? `${value.slice(0, 79)}…` : value);
    assert.match(found?.problem ?? '', problem);
    assert.match(found?.remedy ?? '', remedy);
  });
}

test('all problems are reported at once, with their lines', () => {
  const problems = problemsOf(after('steps: { canaries: 0 }', 'bake: { zoneSeconds: x }', 'alarmz: y'));
  assert.equal(
    problems.map((one) => [one.path, one.line]),
    [
      ['steps.canaries', 6],
      ['bake.zoneSeconds', 7],
      ['alarmz', 8],
    ],
  );
});

test('YAML that eniboot does not allow is reported together with all other problems', () => {
  const text = 'what: &it { bundle: { version: 1.2.3 } }\nwhere: { cluster: a, cluster: b, zone: x }\n';
  assert.equal(
    problemsOf(text).map((one) => one.path),
    ['what', 'where.cluster', 'where.zone'],
  );
});

test.run();
