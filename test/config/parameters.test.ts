import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadConfig } from '../../agent/config/load.ts';
import { parameterReferences, resolveParameters, secretReferences } from '../../agent/config/parameters.ts';
import type { ConfigProblem } from '../../agent/config/problem.ts';
import type { Config } from '../../agent/config/schema.ts';
import { isFailure } from '../../agent/messages/failure.ts';

function config(): Config {
  return loadConfig([
    {
      name: 'a.yaml',
      content: `cluster: ssm:/net/cluster
pods:
  subnets:
    ids: [subnet-00000001, "ssm:/net/subnets"]
kubernetes:
  serviceCidrs: ["ssm:/net/services"]
apiServer: {endpoint: "ssm:/net/api"}
aws: {tags: {owner: "ssm:/net/cluster"}}
`,
    },
  ]).config;
}

const values = new Map([
  ['/net/cluster', 'prod\n'],
  ['/net/subnets', 'subnet-00000002, subnet-00000003'],
  ['/net/services', '10.96.0.0/16'],
  ['/net/api', 'https://api.example.com'],
]);

function problemsOf(changes: [string, string | undefined][]): ConfigProblem[] {
  const changed = new Map(values);
  for (const [name, value] of changes) {
    if (value === undefined) changed.delete(name);
    else changed.set(name, value);
  }
  try {
    resolveParameters(config(), changed);
  } catch (error) {
    if (isFailure(error, 'CONFIG_INVALID')) return error.facts['problems'] as ConfigProblem[];
    throw error;
  }
  return [];
}

test('each parameter is named once', () => {
  assert.equal(parameterReferences(config()), ['/net/api', '/net/cluster', '/net/services', '/net/subnets']);
});

test('references are replaced, a list in a parameter becomes entries, blanks at the ends are removed', () => {
  const resolved = resolveParameters(config(), values);
  assert.is(resolved.cluster, 'prod');
  assert.equal(resolved.pods.subnets, { ids: ['subnet-00000001', 'subnet-00000002', 'subnet-00000003'] });
  assert.equal(resolved.kubernetes.serviceCidrs, ['10.96.0.0/16']);
  assert.is(resolved.apiServer?.endpoint, 'https://api.example.com');
  assert.is(resolved.aws.tags['owner'], 'prod');
  assert.equal(parameterReferences(resolved), []);
});

test('the parameter of a secret is not resolved with the configuration', () => {
  const text = `cluster: ssm:/net/cluster
pods: {subnets: {ids: [subnet-00000001]}}
apiServer: {endpoint: "ssm:/net/api"}
join: {token: "ssm:/net/token", ca: "ssm:/net/ca", caCertHashes: ["sha256:${'0'.repeat(64)}"]}
`;
  const { config: joining } = loadConfig([{ name: 'a.yaml', content: text }]);
  assert.equal(parameterReferences(joining), ['/net/api', '/net/ca', '/net/cluster']);
  assert.equal(secretReferences(joining), ['/net/token']);
  const ca = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----';
  const resolved = resolveParameters(joining, new Map([...values, ['/net/ca', `${ca}\n`]]));
  assert.is(resolved.join?.token, 'ssm:/net/token');
  assert.is(resolved.join?.ca, ca);
});

test('a configuration without references is unchanged', () => {
  const resolved = resolveParameters(config(), values);
  assert.equal(resolveParameters(resolved, new Map()), resolved);
});

test('absent, empty and circular parameters are all reported, by name', () => {
  const problems = problemsOf([
    ['/net/cluster', undefined],
    ['/net/subnets', ' '],
    ['/net/api', 'ssm:/net/other'],
  ]);
  assert.equal(
    problems.map((problem) => `${problem.source}: ${problem.path} ${problem.problem}`),
    [
      'parameter /net/cluster: cluster was not found',
      'parameter /net/subnets: pods.subnets.ids[1] is empty',
      'parameter /net/api: apiServer.endpoint holds another reference',
      'parameter /net/cluster: aws.tags.owner was not found',
    ],
  );
  assert.match(problems[0]?.remedy ?? '', /Create the parameter \/net\/cluster/);
});

test('a value of the wrong form is refused as in a file', () => {
  const [problem, ...others] = problemsOf([['/net/subnets', 'subnet-00000002,sg-00000003']]);
  assert.equal(others, []);
  assert.is(problem?.source, 'parameter /net/subnets');
  assert.is(problem?.path, 'pods.subnets.ids[2]');
  assert.is(problem?.value, '"sg-00000003"');
  assert.match(problem?.remedy ?? '', /like subnet-/);
});

test('the checks between values run again with the resolved values', () => {
  const [problem] = problemsOf([['/net/services', '10.0.0.0/8']]);
  assert.is(problem?.source, 'parameter /net/services');
  assert.match(problem?.problem ?? '', /wider than the \/12/);
});

test.run();
