// A node's report comes whole through Run Command, with any other output of the node.
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type NodeReport, readReport, reportLine } from '../../agent/rollout/node-report.ts';
import { shortOutput } from '../aws/ssm/short-output.ts';

const text = (maxLength: number) => fc.string({ maxLength, unit: 'binary', size: 'max' });
const report: fc.Arbitrary<NodeReport> = fc.record(
  {
    eniboot: fc.constant('update' as const),
    schema: fc.constant(1 as const),
    node: fc.constant('i-0123456789abcdef0'),
    result: fc.constantFrom('updated', 'already', 'went-back', 'untouched', 'failed'),
    version: fc.constant('1.2.3-rc.1'),
    sha256: fc.constant('a'.repeat(64)),
    from: fc.constant('1.2.2'),
    healthy: fc.boolean(),
    failing: fc.array(text(200), { maxLength: 40, size: 'max' }),
    warnings: fc.nat(99),
    counters: fc.record(
      { restarts: fc.nat(), failedAdds: fc.nat(), drops: fc.maxSafeNat() },
      { noNullPrototype: true },
    ),
    code: fc.constant('UPDATE_UNHEALTHY_BEFORE'),
    message: text(4_000),
    seconds: fc.constant(12.3),
  },
  {
    noNullPrototype: true,
    requiredKeys: [
      'eniboot',
      'schema',
      'node',
      'result',
      'version',
      'from',
      'healthy',
      'failing',
      'warnings',
      'seconds',
    ],
  },
);

test('a report is whole with warnings of any length on standard error', () => {
  fc.assert(
    fc.property(report, fc.nat(9_000), (sent, warnings) => {
      const stdout = `${reportLine(sent)}\n`;
      const shown = shortOutput({ stdout, stderr: 'w'.repeat(warnings) });
      const read = readReport(shown);
      assert.ok(read !== undefined, shown);
      const { failing, message, ...rest } = read;
      assert.equal({ ...sent, ...rest }, sent, 'nothing else is cut');
      assert.ok(
        failing.length > 0 || sent.failing.length === 0 || message === undefined || message.length <= 41,
      );
    }),
    { numRuns: 200 },
  );
});

test('an ordinary report is not cut', () => {
  const [one] = fc.sample(report, { numRuns: 1, seed: 1 });
  const ordinary = {
    ...one,
    failing: ['egress', 'pods'],
    message: 'egress: EGRESS_TABLE_DIFFERS',
  } as NodeReport;
  assert.equal(JSON.parse(reportLine(ordinary)), ordinary);
});

test("output of another form is no report, and a report's control characters do not reach a terminal", () => {
  const good = {
    eniboot: 'update',
    schema: 1,
    node: 'i-1',
    result: 'updated',
    version: '1.0.0',
    from: '0.9.0',
    healthy: true,
    failing: [],
    warnings: 0,
    seconds: 1,
  };
  assert.ok(readReport(JSON.stringify(good)));
  for (const wrong of [
    { result: 'cancelled' },
    { result: '__proto__' },
    { schema: 2 },
    { node: 7 },
    { version: null },
    { healthy: 'yes' },
    { warnings: '0' },
    { failing: 'none' },
    { failing: [{ toString: 1 }] },
    { message: { toString: 1 } },
    { code: 7 },
    { sha256: [] },
  ])
    assert.is(readReport(JSON.stringify({ ...good, ...wrong })), undefined, JSON.stringify(wrong));
  const shown = readReport(JSON.stringify({ ...good, message: 'a\u001b[2Jb\u0000c\u009bd\ne' }));
  assert.is(shown?.message, 'a [2Jb c d e');
});

test.run();
