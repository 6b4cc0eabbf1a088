// What tests put onto a node against what the image has. Both sides are read, none is remembered: the folders and entries that are laid
// over VMs, a simulated instance as it is launched, and a root on which the scripts of packer/ have run.
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
/** Where entries `to:` of VM layers stand. */
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

/** Single files of VM layers, by their literal targets; what is put in at run time is `*`. */
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
  // Programs by their names: those of the packages, which the table has.
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
    // The table says so of /etc only: the rest of an instance is its own, and empty.
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

test('what is said to be of the image is what its build installs', () => {
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

test('what a test enables is its own: the runtime starts because the image enables it', () => {
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
