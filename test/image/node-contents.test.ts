// Compares the files that tests put onto a node with the image's. Both sides are read from their sources: the folders and entries
// that are laid over VMs, a simulated instance after its launch, and a root on which the scripts of packer/ have run.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startCloud } from '../aws/index.ts';
import { launchNode } from '../boot/node.ts';
import { machine, PROVISIONERS, removeMachines, repository, withArchives } from './build-machine.ts';
import { type Content, NODE_CONTENTS } from './node-contents.ts';

const tests = join(repository, 'test');
/** Laid over the `/` of VMs. */
const LAID_OVER = [
  ...['vm/node', 'vm/stand-ins', 'vm/image/recipe/rootfs', 'pods/node'],
  ...readdirSync(join(tests, 'node/guest')).map((name) => `node/guest/${name}`),
];
/** Folders with VM layers, whose entries have `to:`. */
const LAYERS = ['vm', 'node', 'pods', 'model', 'bench'];

const formOf = (glob: string) =>
  new RegExp(
    `^${glob.replace(/[.+]/g, '\\$&').replace(/\*\*|\*/g, (star) => (star === '**' ? '.*' : '[^/]*'))}$`,
  );
const rowsOf = (path: string) => NODE_CONTENTS.filter((row) => formOf(row.path).test(path));

function filesBelow(folder: string): string[] {
  return execFileSync('find', ['.', '!', '-type', 'd', '-printf', '/%P\\n'], {
    cwd: folder,
    encoding: 'utf8',
  })
    .split('\n')
    .filter(Boolean);
}

/** The single files of VM layers, by their literal targets; a part that is computed at run time is `*`. */
function layerEntries(): string[] {
  const sources = LAYERS.flatMap((folder) =>
    readdirSync(join(tests, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => readFileSync(join(tests, folder, name), 'utf8')),
  );
  return sources
    .flatMap((text) => [...text.matchAll(/\bfrom: [^}]*?\bto: (['`])(.*?)\1/g)].map(([, , to = '']) => to))
    .map((to) => to.replace('${home}', '/usr/libexec/eniboot').replace(/\$\{.*?\}/g, '*'))
    .filter((to) => to.split('/').length > 2);
}

test('each file that a VM of the tests gets is in the table', () => {
  const files = [...LAID_OVER.flatMap((folder) => filesBelow(join(tests, folder))), ...layerEntries()];
  assert.ok(files.includes('/usr/libexec/eniboot/kubelet-version'), 'the entries were found');
  // Programs are known by their names: those of the packages in the table.
  const known = files.filter((path) => path !== '/usr/bin/*');
  assert.equal(
    known.filter((path) => rowsOf(path).length === 0),
    [],
  );
});

test('each file that a simulated instance has beyond its machine is in the table', async () => {
  const cloud = await startCloud();
  try {
    const { instance } = await launchNode(cloud);
    const list =
      'find /etc /opt/cni /usr/libexec/eniboot /var/lib -xdev ! -type d -printf "%p %l\\n" 2>/dev/null | sort';
    const there = (await instance.run('sh', ['-c', list])).stdout.split('\n').filter(Boolean);
    const here = new Set(execFileSync('sh', ['-c', list], { encoding: 'utf8' }).split('\n'));
    // The table covers /etc and the folders here; the rest of an instance is its own, and empty.
    const own = there.filter((entry) => !here.has(entry)).map((entry) => entry.split(' ')[0] ?? '');
    const mounted = ['/eniboot', '/manifest.json'].map((name) => own.find((path) => path.endsWith(name)));
    assert.ok(own.includes('/usr/libexec/eniboot/kubelet-version') && mounted.every(Boolean), own.join(' '));
    assert.equal(
      own.filter((path) => rowsOf(path).length === 0),
      [],
    );
  } finally {
    await cloud.stop();
  }
});

test("every file that the table calls the image's is installed by its build", () => {
  const at = machine();
  at.write('/etc/selinux/config', 'SELINUX=enforcing\n');
  const archives = withArchives(at);
  const before = new Set(at.written());
  for (const script of PROVISIONERS) {
    const { status, said } = at.run(`${script}.sh`, archives);
    assert.is(status, 0, `${script}: ${said}`);
  }
  const written = at.written().filter((path) => !before.has(path));
  const packages: string[] = at.read('/var/lib/stand-in/rpm').match(/^\S+/gm) ?? [];
  const missing = (row: Content) =>
    row.from === 'build'
      ? !written.some((path) => formOf(row.path).test(path))
      : row.from === 'package' && !packages.includes(row.package ?? '');
  assert.equal(
    NODE_CONTENTS.filter(missing).map(({ path }) => path),
    [],
  );
});

test('a test enables only its own units: the runtime starts because the image enables it', () => {
  const presets = LAID_OVER.flatMap((folder) =>
    filesBelow(join(tests, folder))
      .filter((path) => path.startsWith('/usr/lib/systemd/system-preset/'))
      .map((path) => readFileSync(join(tests, folder, path), 'utf8')),
  );
  const enabled = presets.flatMap((text) =>
    [...text.matchAll(/^enable (\S+)$/gm)].map(([, unit = '']) => unit),
  );
  const rows = enabled.flatMap((unit) => rowsOf(`/usr/lib/systemd/system/${unit}`));
  assert.equal(
    rows.filter(({ from }) => from === 'package' || from === 'build').map(({ path }) => path),
    [],
  );
});

test.after(removeMachines);
test.run();
