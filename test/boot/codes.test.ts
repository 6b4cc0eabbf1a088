// Every failure code has a remedy, and a test that provokes it.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { failureCodes } from '../../agent/messages/codes.ts';
import { Failure, type FailureCode } from '../../agent/messages/failure.ts';
import { faults, provokedElsewhere } from './faults/coverage.ts';

const root = join(import.meta.dirname, '../..');
const codes = Object.keys(failureCodes) as FailureCode[];

/** Failure codes that are literals in the sources of these folders: the code there can raise them. */
function raisedIn(...folders: string[]): Set<string> {
  const text = folders.flatMap((folder) => sources(join(root, folder))).join('\n');
  return new Set(codes.filter((code) => text.includes(`'${code}'`)));
}

function sources(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => readFileSync(join(folder, name), 'utf8'));
}

test('each code has a meaning and a remedy', () => {
  for (const code of codes) {
    const { title, remedy } = failureCodes[code];
    assert.match(title, /^[A-Za-z].{8,}[.]$/, code);
    assert.match(remedy, /.{20,}[.]$/, code);
    assert.ok(new Failure(code, 'x').remedy.length > 0);
  }
});

test('the matrix has at least 40 faults, each with a name of its own', () => {
  assert.ok(faults.length >= 40, `${faults.length}`);
  assert.is(new Set(faults.map((fault) => fault.name)).size, faults.length);
});

test('each code that the boot can raise is provoked by a fault, or by the test in `provokedElsewhere`', () => {
  const provoked = new Set(faults.map((fault) => fault.expect.code));
  const boot = raisedIn('agent/boot', 'agent/aws', 'agent/host', 'agent/port', 'agent/config', 'agent/cli');
  assert.ok(boot.size > 40, `${boot.size} codes found`);
  const without = codes.filter(
    (code) => boot.has(code) && !provoked.has(code) && provokedElsewhere[code] === undefined,
  );
  assert.equal(without, []);
});

test('a test in `provokedElsewhere` names its code', () => {
  for (const [code, file] of Object.entries(provokedElsewhere)) {
    assert.ok(readFileSync(join(root, file), 'utf8').includes(code), `${file} does not name ${code}`);
  }
});

test.run();
