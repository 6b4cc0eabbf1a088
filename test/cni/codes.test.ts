// The numbers of a call's errors. A failure without a number is answered as a defect of eniboot.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const root = join(import.meta.dirname, '../..');
const textOf = (path: string) => readFileSync(join(root, path), 'utf8');

/** Folders whose code a call runs. */
const FOLDERS = ['cni', 'agent/attachment', 'agent/kernel', 'agent/pool', 'agent/port'];
/** INTERNAL is the defect itself. The others are raised by commands alone. */
const WITHOUT_NUMBER = ['ALREADY_RUNNING', 'INTERNAL', 'NOT_ROOT'];

test('each failure that the plugin raises has a number of its own', () => {
  const sources = FOLDERS.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => textOf(join(folder, name))),
  );
  const raised = sources.flatMap((text) =>
    [...text.matchAll(/Failure\(\s*'([A-Z_0-9]+)'/g)].map(([, code]) => code ?? ''),
  );
  assert.ok(new Set(raised).size > 15, 'the sources have been read');
  const table = /const codes[^{]*\{([^}]*)\}/.exec(textOf('cni/main.ts'))?.[1] ?? '';
  const numbered = [...table.matchAll(/^ +([A-Z_0-9]+):/gm)].map(([, code]) => code);
  const missing = new Set(
    raised.filter((code) => !numbered.includes(code) && !WITHOUT_NUMBER.includes(code)),
  );
  assert.equal([...missing], []);
});

test.run();
