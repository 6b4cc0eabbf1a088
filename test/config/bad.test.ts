import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadConfig } from '../../agent/config/load.ts';
import type { ConfigProblem } from '../../agent/config/problem.ts';
import { isFailure } from '../../agent/messages/failure.ts';
import { badConfigs, goodText } from './bad-configs.ts';

const source = 'case.yaml';

export function problemsOf(text: string | Uint8Array): ConfigProblem[] {
  try {
    loadConfig([{ name: source, content: text }]);
  } catch (error) {
    if (isFailure(error, 'CONFIG_INVALID')) return error.facts['problems'] as ConfigProblem[];
    throw error;
  }
  return [];
}

test('the configuration that the cases change is accepted', () => {
  assert.equal(problemsOf(goodText), []);
});

test('there are enough cases, with different names', () => {
  assert.ok(badConfigs.length >= 60);
  assert.is(new Set(badConfigs.map((bad) => bad.name)).size, badConfigs.length);
});

for (const bad of badConfigs) {
  test(bad.name, () => {
    const problems = problemsOf(bad.text);
    assert.equal(
      problems.map((problem) => problem.path),
      bad.says.map((said) => said.path),
    );
    bad.says.forEach((said, index) => {
      const problem = problems[index] as ConfigProblem;
      assert.is(problem.source, source);
      assert.is(problem.line, said.line);
      if (said.column !== undefined) assert.is(problem.column, said.column);
      assert.is(problem.value, said.value);
      assert.match(problem.problem, said.problem);
      assert.match(problem.remedy, said.remedy);
      assert.is(problem.suggestion, said.suggestion);
    });
  });
}

test('every problem of a document is reported at once, also problems between values', () => {
  const text = [
    'clustr: prod',
    'pods:',
    '  subnets: {idz: [subnet-0a1b2c3d]}',
    '  max: "12"',
    'apiServer: {required: true}',
    'pool: {target: 300, restSeconds: 1m}',
    'kubernetes:',
    '  serviceCidrs: [10.96.0.0/12, 10.97.0.0/16]',
    '',
  ].join('\n');
  assert.equal(
    problemsOf(text)
      .map((problem) => problem.path)
      .sort(),
    [
      'apiServer.endpoint',
      'clustr',
      'kubernetes.serviceCidrs[1]',
      'pods.max',
      'pods.subnets.idz',
      'pool.restSeconds',
      'pool.target',
    ],
  );
});

test('YAML that eniboot does not allow hides no other problem, and its key is not also called missing or wrong', () => {
  const text = [
    'cluster: &name prod',
    'pods:',
    '  subnet: {ids: [subnet-0a1b2c3d]}',
    '  max: "12"',
    '  max: 5',
    '  routes: [10.1.0.0/16, *name, 10.2.0.1/16]',
    'egress:',
    '  table: [{cidr: 10.3.0.0/16, action: nat}]',
    '',
  ].join('\n');
  assert.equal(
    problemsOf(text).map(({ path, line }) => `${path} ${line}`),
    [
      'cluster 1',
      'pods.max 5',
      'pods.routes[1] 6',
      'pods.subnet 3',
      'pods.max 4',
      'egress.table[0].action 8',
    ],
  );
});

test("the failure's message has the first problem and the number of others; the failure has all", () => {
  try {
    loadConfig([{ name: source, content: 'zorp: 1\nplim: 2\n' }]);
    assert.unreachable();
  } catch (error) {
    assert.ok(isFailure(error, 'CONFIG_INVALID'));
    assert.is(error.message, 'case.yaml:1:1: zorp 1 is an unknown key (and 3 more)');
    assert.is((error.facts['problems'] as unknown[]).length, 4);
  }
});

test('a missing configuration has a failure code of its own', () => {
  try {
    loadConfig([]);
    assert.unreachable();
  } catch (error) {
    assert.ok(isFailure(error, 'CONFIG_MISSING'));
  }
});

test.run();
