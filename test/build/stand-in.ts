// Executables for tests: what is checked out, or an older commit, built with a few files replaced.
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { whenChanged } from './when-changed.ts';

const root = join(import.meta.dirname, '../..');
const arch = process.arch === 'arm64' ? 'arm64' : 'x64';
const sources = ['agent', 'cni', 'systemd', 'package.json', 'package-lock.json', 'LICENSE', 'NOTICE'];

/** Folder with the manifest and the executable, whose ipvlan is test/cni/stand-in's. */
export const STAND_IN_BUILD = join(root, 'dist/stand-in');

/** Builds it, unless it is up to date. */
export function buildStandIn(): void {
  whenChanged(
    {
      root,
      name: 'stand-in',
      inputs: [...sources, 'test/cni/stand-in', 'test/build/stand-in.ts'],
      outputs: ['eniboot', 'manifest.json'].map((name) => `dist/stand-in/${name}`),
    },
    makeStandIn,
  );
}

function makeStandIn(): void {
  const folder = stage();
  const kernel = join(folder, 'agent/kernel');
  renameSync(join(kernel, 'execute.ts'), join(kernel, 'real-execute.ts'));
  const text = readFileSync(join(root, 'test/cni/stand-in/execute.ts'), 'utf8')
    .replaceAll('../../../agent/kernel/execute.ts', './real-execute.ts')
    .replaceAll('../../../agent/kernel/', './')
    .replaceAll('../../../agent/', '../');
  writeFileSync(join(kernel, 'execute.ts'), text);
  const built = build(folder);
  rmSync(STAND_IN_BUILD, { recursive: true, force: true });
  cpSync(built, STAND_IN_BUILD, { recursive: true });
  rmSync(folder, { recursive: true });
}

/**
 * The executable as it ships except for one word: it makes a macvlan in place of the pod's ipvlan. For kernels without ipvlan,
 * where an ADD is measured or refused request by request: a macvlan costs the kernel the same steps. Its packets do not take
 * the same path as an ipvlan's, so it shows nothing about traffic.
 *
 * @param commit from which it is built; the working tree when none is given.
 * @param macvlan false: as it ships, for a kernel that has ipvlan.
 * @returns the executable, in a new folder that the caller removes.
 */
export function buildMacvlanVariant(commit?: string, macvlan = true): { folder: string; executable: string } {
  const folder = stage(commit);
  if (macvlan) {
    const before = join(folder, 'agent/host/attachment.ts');
    if (existsSync(before)) replaceIn(before, [['type ipvlan mode l2', 'type macvlan mode bridge']]);
    else {
      const encode = join(folder, 'agent/kernel/encode.ts');
      const made = "return linkInfo(message, 'ipvlan', () => message.attribute(1, [0, 0]));";
      replaceIn(
        encode,
        readFileSync(encode, 'utf8').includes(made)
          ? [[made, made.replace('ipvlan', 'macvlan').replace('[0, 0]', 'le32(4)')]]
          : [
              ["what.parent, 'ipvlan',", "what.parent, 'macvlan',"],
              ['message.attribute(1, [0, 0]),\n      );', 'message.attribute(1, le32(4)),\n      );'],
            ],
      );
      // The macvlan is listed as the ipvlan it replaces, except for its MAC, which cannot be its ENI's.
      replaceIn(join(folder, 'agent/kernel/is-there.ts'), [
        [
          'const kind = textOf(info.get(INFO.kind));',
          "const kind = textOf(info.get(INFO.kind)).replace('macvlan', 'ipvlan');",
        ],
        ["kind === 'ipvlan' ? portOf(info) : undefined", "kind === 'ipvlan' ? IPVLAN_L2 : portOf(info)"],
      ]);
      replaceIn(join(folder, 'agent/attachment/differences.ts'), [
        ["...differs('MAC', link.mac, eni?.mac),", ''],
      ]);
    }
  }
  return { folder, executable: join(build(folder), 'eniboot') };
}

function stage(commit?: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'eniboot-variant-'));
  if (commit === undefined)
    for (const name of sources) cpSync(join(root, name), join(folder, name), { recursive: true });
  else {
    const archive = execFileSync('git', ['archive', commit, ...sources], { cwd: root, maxBuffer: 2 ** 28 });
    execFileSync('tar', ['-x', '-C', folder], { input: archive });
  }
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  return folder;
}

function replaceIn(path: string, pairs: [from: string, to: string][]): void {
  let text = readFileSync(path, 'utf8');
  for (const [from, to] of pairs) {
    if (!text.includes(from)) throw new Error(`${path} has no ${from}`);
    text = text.replace(from, to);
  }
  writeFileSync(path, text);
}

function build(folder: string): string {
  execFileSync(process.execPath, [join(folder, 'agent/build/build.ts'), '--no-bundle', arch], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return join(folder, 'dist', arch);
}
