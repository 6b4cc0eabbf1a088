// Fetches the real units the graph is proven against: systemd and udev with what they need to run, and the units of
// cloud-init, NetworkManager and others. Run before the tests, which have no network. Kept for a week; without a
// network an older copy serves.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pointerOf, type Release, releases, unitCache } from './releases.ts';

/** Taken with all they depend on: these run, in a root of their own. libseccomp2 is only opened at run time. */
const programs = ['systemd', 'udev', 'libseccomp2', 'dash', 'coreutils', 'util-linux'];
/** Taken alone, for their units. */
const services = [
  'cloud-init',
  'network-manager',
  'dbus',
  'openssh-server',
  'chrony',
  'nftables',
  'firewalld',
  'systemd-resolved',
];
/** Changed when the contents of an extracted root change. */
const layout = '2';
const weekMs = 7 * 24 * 3600 * 1000;

function fetchRelease(release: Release): string {
  const work = mkdtempSync(join(tmpdir(), 'eniboot-units-'));
  try {
    const apt = privateApt(work, release);
    apt('update');
    const packages = [
      ...apt('install', '--print-uris', ...programs),
      ...apt('download', '--print-uris', ...services),
    ]
      .filter((line) => line.startsWith("'"))
      .map((line) => line.split(' ')[1] ?? '')
      .sort();
    // The names hold the versions, and apt checks each file's digest against the signed index.
    const key = createHash('sha256')
      .update([layout, ...packages].join('\n'))
      .digest('hex')
      .slice(0, 16);
    const root = join(unitCache, key);
    if (!existsSync(root)) {
      apt('install', '--download-only', ...programs);
      apt('download', ...services);
      extract(work, root);
    }
    writeFileSync(`${pointerOf(release)}.tmp`, `${key}\n`);
    renameSync(`${pointerOf(release)}.tmp`, pointerOf(release));
    return root;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** apt-get with a state, a source and a cache of its own: it knows of no installed package and changes none. */
function privateApt(work: string, release: Release): (...args: string[]) => string[] {
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

/** How this machine reaches its mirror (proxies and the like), without its hooks, which act on the machine's own apt. */
function transport(): string {
  return execFileSync('apt-config', ['dump'], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line.startsWith('Acquire::'))
    .join('\n');
}

/** The Debian mirror this machine uses. */
function mirror(): string {
  const uris = execFileSync('apt-get', ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages'], {
    encoding: 'utf8',
  });
  const uri = uris.split('\n').find((line) => /\/debian\/?$/.test(line));
  if (uri === undefined) throw new Error('apt has no Debian archive among its sources');
  return uri;
}

function extract(work: string, root: string): void {
  const partial = `${root}.${process.pid}.tmp`;
  mkdirSync(partial, { recursive: true });
  for (const name of readdirSync(join(work, 'archives')).filter((file) => file.endsWith('.deb'))) {
    execFileSync('dpkg-deb', ['--extract', join(work, 'archives', name), partial]);
  }
  for (const unneeded of [
    'usr/share/doc',
    'usr/share/man',
    'usr/share/locale',
    'usr/lib/python3',
    'usr/lib/firewalld',
    'usr/lib/x86_64-linux-gnu/gconv',
    'usr/share/perl5',
  ]) {
    rmSync(join(partial, unneeded), { recursive: true, force: true });
  }
  renameSync(partial, root);
}

function isFresh(release: Release): boolean {
  return existsSync(pointerOf(release)) && Date.now() - statSync(pointerOf(release)).mtimeMs < weekMs;
}

mkdirSync(unitCache, { recursive: true });
for (const release of releases.filter((one) => !isFresh(one))) {
  try {
    process.stdout.write(`${release}: ${fetchRelease(release)}\n`);
  } catch (error) {
    if (!existsSync(pointerOf(release))) throw error;
    process.stdout.write(`${release}: no newer packages to be had, the last ones are used\n`);
  }
}
