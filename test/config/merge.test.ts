import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadConfig } from '../../agent/config/load.ts';
import type { ConfigSource } from '../../agent/config/source.ts';
import { isFailure } from '../../agent/messages/failure.ts';

const base = `cluster: prod
pods:
  subnets: {tags: {role: pods, tier: private}}
  max: 60
  routes: [10.8.0.0/16, 10.9.0.0/16]
kubernetes:
  labels: {team: a}
`;

function load(...texts: string[]) {
  const sources: ConfigSource[] = texts.map((content, index) => ({ name: `${index}.yaml`, content }));
  return loadConfig(sources);
}

test('maps merge, key by key', () => {
  const { config } = load(base, 'pods:\n  max: 30\n', 'kubernetes: {labels: {shift: night}}\n');
  assert.is(config.pods.max, 30);
  assert.is(config.cluster, 'prod');
  assert.equal(config.kubernetes.labels, { team: 'a', shift: 'night' });
});

test('the later source wins', () => {
  const { config } = load(base, 'pods: {max: 30}', 'pods: {max: 40}');
  assert.is(config.pods.max, 40);
});

test('lists replace', () => {
  assert.equal(load(base, 'pods: {routes: [10.7.0.0/16]}').config.pods.routes, ['10.7.0.0/16']);
  assert.equal(load(base, 'pods: {routes: []}').config.pods.routes, []);
});

test('a choice between IDs and tags is replaced whole, so that a later source can choose the other', () => {
  assert.equal(load(base, 'pods: {subnets: {ids: [subnet-0a1b2c3d]}}').config.pods.subnets, {
    ids: ['subnet-0a1b2c3d'],
  });
  assert.equal(load(base, 'pods: {subnets: {tags: {role: web}}}').config.pods.subnets, {
    tags: { role: 'web' },
  });
});

test('each value has its source and line, or is marked as a default', () => {
  const { origins } = load(base, '# only this\npods:\n  max: 30\n');
  assert.is(origins.get('pods.max'), '1.yaml:3');
  assert.is(origins.get('pods.routes[1]'), '0.yaml:5');
  assert.is(origins.get('pods.subnets.tags.tier'), '0.yaml:3');
  assert.is(origins.get('kubernetes.labels.team'), '0.yaml:7');
  assert.is(origins.get('boot.deadlineSeconds'), 'default');
  assert.is(origins.get('pool.target'), undefined);
});

test('a drop-in may omit keys of another source, and alone it is incomplete', () => {
  assert.is(load('pods: {max: 30}', base).config.pods.max, 60);
  assert.throws(
    () => load('pods: {max: 30}'),
    (error: unknown) => isFailure(error, 'CONFIG_INVALID') && error.message.includes('is missing'),
  );
});

test('a problem names the source of the value', () => {
  try {
    load(base, 'pool:\n  target: 61\n');
    assert.unreachable();
  } catch (error) {
    assert.ok(isFailure(error, 'CONFIG_INVALID'));
    assert.equal(error.message, '1.yaml:2:11: pool.target 61 is larger than pods.max (60)');
  }
});

test('with one unreadable source the others are still checked, and no key is called missing', () => {
  const sources: ConfigSource[] = [
    { name: 'a.yaml', refused: { problem: 'cannot be read: permission denied', remedy: 'x' } },
    { name: 'b.yaml', content: 'pods: {max: many}\n' },
    { name: 'c.yaml', content: 'a: [\n' },
  ];
  try {
    loadConfig(sources);
    assert.unreachable();
  } catch (error) {
    assert.ok(isFailure(error, 'CONFIG_INVALID'));
    const problems = error.facts['problems'] as { source: string; path: string }[];
    assert.equal(
      problems.map((problem) => `${problem.source} ${problem.path}`),
      ['a.yaml ', 'c.yaml ', 'b.yaml pods.max'],
    );
  }
});

test('a value that is accepted and probably not meant is a warning', () => {
  const { warnings } = load(
    base,
    `pool: {restSeconds: 0}
kubernetes: {serviceCidrs: [10.96.0.0/16], clusterDns: [10.96.0.1, 10.97.0.10, 169.254.20.10]}
boot: {deadlineSeconds: 30, onFailure: terminate}
bundle: {parameter: /eniboot/bundle/all}
egress: {table: [{cidr: 10.96.7.0/24, action: snat}]}
`,
  );
  assert.equal(warnings.map((warning) => `${warning.source}:${warning.line} ${warning.path}`).sort(), [
    '1.yaml:1 pool.restSeconds',
    '1.yaml:2 kubernetes.clusterDns[0]',
    '1.yaml:2 kubernetes.clusterDns[1]',
    '1.yaml:3 boot.deadlineSeconds',
    '1.yaml:4 bundle.parameter',
    '1.yaml:5 egress.table[0].cidr',
  ]);
  for (const warning of warnings) assert.match(warning.remedy, /^[A-Z].*\.$/);
});

test('an egress row wider than any VPC is fine', () => {
  const { config, warnings } = load(base, 'egress: {table: [{cidr: 10.0.0.0/8, action: route}]}');
  assert.is(config.egress.table.length, 1);
  assert.equal(warnings, []);
});

test.run();
