// Debian packages of other releases, unpacked beside this machine's own: nothing is installed or changed. Needs the network.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';

export interface Wanted {
  /** Debian's code name. */
  release: string;
  /** Fetched with all dependencies: these run. */
  programs: readonly string[];
  /** Fetched without dependencies. */
  alone?: readonly string[];
  /** Paths that are not kept. */
  unneeded?: readonly string[];
}

/** Changes when the contents of an unpacked root change. */
const LAYOUT = '2';

const WEEK_MS = 7 * 24 * 3600 * 1000;

/**
 * Unpacks them beside `pointer`, a file that names the folder in use. They are kept for a week; without a network an older copy is
 * used.
 */
export function keepPackages(pointer: string, wanted: Wanted): void {
  const cache = dirname(pointer);
  mkdirSync(cache, { recursive: true });
  if (existsSync(pointer) && Date.now() - statSync(pointer).mtimeMs < WEEK_MS) return;
  try {
    const key = unpackPackages(cache, wanted);
    writeFileSync(`${pointer}.tmp`, `${key}\n`);
    renameSync(`${pointer}.tmp`, pointer);
    process.stdout.write(`${wanted.release}: ${join(cache, key)}\n`);
  } catch (error) {
    if (!existsSync(pointer)) throw error;
    process.stdout.write(`${wanted.release}: newer packages are not available, the last ones are used\n`);
  }
}

/** The folder that `pointer` names. @param fetcher the script that makes it, for the error when it does not exist. */
export function keptRoot(pointer: string, fetcher: string): string {
  if (!existsSync(pointer))
    throw new Error(
      `the packages of ${basename(pointer)} are not in ${dirname(pointer)}: run \`node ${fetcher}\` with a network`,
    );
  return join(dirname(pointer), readFileSync(pointer, 'utf8').trim());
}

/** Unpacks them into a folder of `cache` that is named for their versions, unless it exists; returns its name. */
function unpackPackages(cache: string, { release, programs, alone = [], unneeded = [] }: Wanted): string {
  const work = mkdtempSync(join(tmpdir(), 'eniboot-packages-'));
  try {
    const apt = privateApt(work, release);
    apt('update');
    const packages = [
      ...apt('install', '--print-uris', ...programs),
      ...(alone.length === 0 ? [] : apt('download', '--print-uris', ...alone)),
    ]
      .filter((line) => line.startsWith("'"))
      .map((line) => line.split(' ')[1] ?? '')
      .sort();
    // The names hold the versions, and apt checks each file's digest against the signed index.
    const key = createHash('sha256')
      .update([LAYOUT, ...unneeded, ...packages].join('\n'))
      .digest('hex')
      .slice(0, 16);
    const root = join(cache, key);
    if (!existsSync(root)) {
      apt('install', '--download-only', ...programs);
      if (alone.length > 0) apt('download', ...alone);
      extract(work, root, unneeded);
    }
    return key;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** apt-get with a state, a source and a cache of its own: it knows no installed package and changes none. */
function privateApt(work: string, release: string): (...args: string[]) => string[] {
  for (const directory of ['lists/partial', 'archives/partial'])
    mkdirSync(join(work, directory), { recursive: true });
  writeFileSync(join(work, 'status'), '');
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
  writeFileSync(join(work, 'sources.list'), `deb [signed-by=${keyring}] ${mirror()} ${release} main\n`);
  writeFileSync(
    join(work, 'apt.conf'),
    `${transport()}
Dir::State "${work}";
Dir::State::lists "${work}/lists";
Dir::State::status "${work}/status";
Dir::Cache "${work}";
Dir::Cache::archives "${work}/archives";
Dir::Etc::sourcelist "${work}/sources.list";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Debug::NoLocking "true";
`,
  );
  return (...args) =>
    execFileSync('apt-get', ['--quiet=2', '--assume-yes', ...args], {
      cwd: join(work, 'archives'),
      env: { ...process.env, APT_CONFIG: join(work, 'apt.conf'), LC_ALL: 'C' },
      encoding: 'utf8',
      timeout: 300_000,
      maxBuffer: 64 * 1024 * 1024,
    }).split('\n');
}

/** The settings by which this machine reaches its mirror (proxies and the like), without its hooks, which act on its own apt. */
function transport(): string {
  return execFileSync('apt-config', ['dump'], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line.startsWith('Acquire::'))
    .join('\n');
}

/** The Debian mirror that this machine uses. */
function mirror(): string {
  const uris = execFileSync('apt-get', ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages'], {
    encoding: 'utf8',
  });
  const uri = uris.split('\n').find((line) => /\/debian\/?$/.test(line));
  if (uri === undefined) throw new Error('apt has no Debian archive among its sources');
  return uri;
}

function extract(work: string, root: string, unneeded: readonly string[]): void {
  const partial = `${root}.${process.pid}.tmp`;
  mkdirSync(partial, { recursive: true });
  for (const name of readdirSync(join(work, 'archives')).filter((file) => file.endsWith('.deb'))) {
    execFileSync('dpkg-deb', ['--extract', join(work, 'archives', name), partial]);
  }
  for (const path of ['usr/share/doc', 'usr/share/man', 'usr/share/locale', ...unneeded])
    rmSync(join(partial, path), { recursive: true, force: true });
  renameSync(partial, root);
}
