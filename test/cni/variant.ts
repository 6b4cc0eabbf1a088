// The executable as it ships but for one word: it makes a macvlan where the pod's ipvlan belongs. For kernels without
// ipvlan, where the netlink path of an ADD could otherwise not be run: a macvlan costs the kernel the same steps. Its
// packets do not take an ipvlan's way, so nothing about traffic is shown with it.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(import.meta.dirname, '../..');
const arch = process.arch === 'arm64' ? 'arm64' : 'x64';

/**
 * Path of the built executable, in a new folder that the caller removes: `folder`.
 *
 * @param commit of what to build it from; the working tree where none is given.
 * @param macvlan false: as it ships, for a kernel that has ipvlan.
 */
export function buildMacvlanVariant(commit?: string, macvlan = true): { folder: string; executable: string } {
  const folder = mkdtempSync(join(tmpdir(), 'eniboot-macvlan-'));
  const names = ['agent', 'cni', 'systemd', 'package.json', 'package-lock.json', 'LICENSE', 'NOTICE'];
  if (commit === undefined)
    for (const name of names) cpSync(join(root, name), join(folder, name), { recursive: true });
  else {
    const archive = execFileSync('git', ['archive', commit, ...names], { cwd: root, maxBuffer: 2 ** 28 });
    execFileSync('tar', ['-x', '-C', folder], { input: archive });
  }
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  const path = join(folder, 'agent/host/attachment.ts');
  const text = readFileSync(path, 'utf8');
  const changed = text.replace('type ipvlan mode l2', 'type macvlan mode bridge');
  if (macvlan && changed === text)
    throw new Error(`${path} makes no ipvlan that a macvlan could stand in for`);
  if (macvlan) writeFileSync(path, changed);
  execFileSync(process.execPath, [join(folder, 'agent/build/build.ts'), '--no-bundle', arch], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return { folder, executable: join(folder, 'dist', arch, 'eniboot') };
}
