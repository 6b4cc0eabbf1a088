// Checks strictness.md: it names every operation that the product calls, and each test that it names exists.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ec2Actions } from '../../agent/aws/ec2.ts';
import { fleetActions } from '../../agent/aws/fleet.ts';
import { imageActions } from '../../agent/aws/images.ts';
import { modelOf } from './fetch.ts';

const here = import.meta.dirname;
const HEAD = ['operations', 'AWS', 'source', 'the stand-in', 'shown by'];

interface Row {
  operations: string[];
  source: string;
  shownBy: { file: string; name: string }[];
  line: string;
}

const page = readFileSync(join(here, 'strictness.md'), 'utf8');
const cells = page
  .split('\n')
  .filter((line) => line.startsWith('| '))
  .map((line) => line.slice(2, -2).split(' | '));
const rows: Row[] = cells
  .filter(([first]) => first !== HEAD[0])
  .map((cell) => {
    assert.is(cell.length, HEAD.length, cell.join(' | '));
    const [operations = '', , source = '', , shownBy = ''] = cell;
    return {
      operations: operations === '–' ? [] : operations.split(', '),
      source,
      shownBy: [...shownBy.matchAll(/`([^`]+)`: `([^`]+)`/g)].map(([, file = '', name = '']) => ({
        file,
        name,
      })),
      line: cell.join(' | '),
    };
  });

/** The node reads its parameters by this operation, which is in no table of calls: iam.test.ts checks it against the sources. */
const called = new Set<string>([
  ...Object.values(ec2Actions),
  ...Object.keys(fleetActions),
  ...Object.keys(imageActions),
  'GetParameters',
]);

test('there are tables with the same head for each service', () => {
  assert.equal(
    [...page.matchAll(/^## (.*)$/gm)].map(([, name]) => name),
    ['EC2', 'IMDS', 'Systems Manager', 'CloudWatch', 'Auto Scaling'],
  );
  assert.is(cells.filter(([first]) => first === HEAD[0]).length, 5);
  assert.ok(rows.length > 40, `${rows.length} rows`);
});

test('each operation that the product calls has a row', () => {
  const told = new Set(rows.flatMap(({ operations }) => operations));
  assert.equal(
    [...called].filter((operation) => !told.has(operation)),
    [],
  );
});

test('each operation of a row exists at AWS, and the product calls it', () => {
  const known = new Set(
    (['ec2', 'ssm', 'cloudwatch'] as const).flatMap((service) =>
      Object.keys(modelOf(service)?.operations ?? {}),
    ),
  );
  for (const { operations, line } of rows)
    for (const operation of operations.filter((one) => !one.startsWith('/latest/')))
      assert.ok(known.has(operation) && called.has(operation), `${operation} in ${line}`);
});

test('each row has a source of AWS and names tests that exist', () => {
  for (const { source, shownBy, line } of rows) {
    assert.match(source, /^<https:\/\/docs\.aws\.amazon\.com\/[^ >]+>$/, line);
    assert.ok(shownBy.length > 0, `nothing shows: ${line}`);
    for (const { file, name } of shownBy) {
      const path = join(here, '..', file);
      assert.ok(existsSync(path) && readFileSync(path, 'utf8').includes(name), `${file} has no "${name}"`);
    }
  }
});

test.run();
