// `eniboot check` in groups: each row that the sources can make is in one.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGroups, groupOf } from '../../agent/boot/check-groups.ts';
import { phaseNames } from '../../agent/boot/phase.ts';

const folder = join(import.meta.dirname, '../../agent/boot');
const source = readdirSync(folder)
  .filter((name) => name.endsWith('.ts'))
  .map((name) => readFileSync(join(folder, name), 'utf8'))
  .join('\n');

/** First arguments of pass, warn, fail and skip; a name of ids that is assigned before. */
const ids = [
  ...source.matchAll(/(?<!\.)\b(?:pass|warn|fail|skip)\(\s*['`]([a-z0-9-]+)/g),
  ...source.matchAll(/\bid = ['`]([a-z0-9-]+)/g),
].map(([, id = '']) => id);

test('each row of a check is in a group', () => {
  assert.ok(ids.length > 60, `${ids.length} rows found`);
  const without = [...ids, ...phaseNames].filter((id) => groupOf({ id }) === undefined);
  assert.equal([...new Set(without)], []);
});

test('each group has a row, and says what it means', () => {
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
