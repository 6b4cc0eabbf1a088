// The groups of `eniboot check`: each row that the sources can make is in one group.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGroups, groupOf } from '../../agent/boot/checks/groups.ts';
import { phaseNames } from '../../agent/boot/phase.ts';

const folder = join(import.meta.dirname, '../../agent/boot');
const source = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => readFileSync(join(folder, name), 'utf8'))
  .join('\n');

/** The first argument of pass, warn, fail, skip and row, or a variable that is assigned before. */
const ids = [
  ...source.matchAll(/(?<!\.)\b(?:pass|warn|fail|skip|row)\(\s*['`]([a-z0-9-]+)/g),
  ...source.matchAll(/\bid = ['`]([a-z0-9-]+)/g),
].map(([, id = '']) => id);

test('each row of a check is in a group', () => {
  assert.ok(ids.length > 60, `${ids.length} rows found`);
  const without = [...ids, ...phaseNames].filter((id) => groupOf({ id }) === undefined);
  assert.equal([...new Set(without)], []);
});

test('each group has a row and a description', () => {
  for (const [name, { title, means }] of Object.entries(checkGroups)) {
    assert.ok(
      [...ids, ...phaseNames].some((id) => groupOf({ id }) === name),
      name,
    );
    assert.match(title, /^\S/);
    assert.match(means, /\b(?:pods?|node)\b/, name);
  }
});

test.run();
