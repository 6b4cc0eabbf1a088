// A defect of the executable is reported with files and lines of the source: by the plugin, by a boot in its status, on the
// command line and in the support bundle. The stand-in replaces agent/kernel/execute.ts here and throws on request.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { bootPodNode, type PodNode, variablesOf } from './rig.ts';

const root = join(import.meta.dirname, '../..');
let cloud: Cloud;
let node: PodNode;

test.before(async () => {
  cloud = await startCloud();
  node = await bootPodNode(cloud);
  node.instance.write('/run/stand-in/defect', '');
});
test.after(() => cloud.stop());

/** Source files in the lines of a stack trace; asserts that each has such a line. */
function filesIn(text: string): string[] {
  return [...text.matchAll(/^ +at .*?\b((?:agent|cni)\/[\w/-]+\.ts):(\d+):\d+/gm)].flatMap(
    ([, file = '', line = '']) => {
      // The stand-in's own file is in another folder.
      if (file === 'agent/kernel/execute.ts') return [];
      const source = readFileSync(join(root, file), 'utf8').split('\n');
      assert.match(source[Number(line) - 1] ?? '', /\(/, `${file}:${line} calls nothing`);
      return [file];
    },
  );
}

test('a defect in ADD names files and lines of the source', async () => {
  await node.sh('ip netns add a');
  const { json, stdout } = await node.cni('ADD', variablesOf('a', '/run/netns/a'));
  assert.match(json.msg, /INTERNAL: a planted defect/, stdout);
  assert.ok(filesIn(json.details).includes('cni/main.ts'), json.details);
});

test('a defect in a boot names files and lines, in its status and in the support bundle', async () => {
  const { status } = await node.boot();
  assert.is(status?.failure?.code, 'INTERNAL');
  const stack = String(status?.failure?.facts['stack']);
  assert.ok(
    filesIn(stack).some((file) => file.startsWith('agent/boot/')),
    stack,
  );
  const { exitCode, stderr } = await node.tool(['support-bundle', '--output', '/run/bundle.tar.gz']);
  assert.is(exitCode, 0, stderr);
  const all = await node.sh('tar -xzOf /run/bundle.tar.gz');
  assert.ok(filesIn(all.replaceAll('\\n', '\n')).length > 0, 'no stack in the bundle');
});

test('a defect in a command names files and lines', async () => {
  const { stderr, exitCode } = await node.tool(['repair']);
  assert.is(exitCode, 1, stderr);
  assert.match(stderr, /INTERNAL: /);
  assert.ok(filesIn(stderr).length > 0, stderr);
});

test.run();
