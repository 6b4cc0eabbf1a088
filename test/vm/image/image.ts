// The root images of the VM: a Debian with systemd, NetworkManager, cloud-init and a cloud kernel, made once for
// each version of its recipe and kept outside the clone.
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import { cacheFolder } from '../../../agent/build/cache.ts';
import { must } from '../must.ts';
import { arm64Tools } from './arm64-tools.ts';

/**
 * Debian's code name. All suites run on trixie: its systemd (257) is the closest to Fedora's that is available here. bookworm
 * (systemd 252, kernel 6.1) has the last podman that calls CNI plugins. forky is Debian's next release and changes every day: the
 * newest software available. `ami` is a trixie with RPM, dnf and sshd, from which a build of the AMI starts. `arm64` is a trixie
 * for that CPU.
 */
export type Suite = 'trixie' | 'bookworm' | 'forky' | 'ami' | 'arm64';
const recipes: Record<Suite, { debian: string; list: string }> = {
  trixie: { debian: 'trixie', list: 'trixie' },
  bookworm: { debian: 'bookworm', list: 'bookworm' },
  forky: { debian: 'forky', list: 'trixie' },
  ami: { debian: 'trixie', list: 'ami' },
  arm64: { debian: 'trixie', list: 'trixie' },
};
/**
 * Room for two installed versions of the executable, logs and an upgrade, and for the 4 GiB that have to be free in an
 * AMI; the file is sparse.
 */
const imageSize = (suite: Suite) => (suite === 'ami' ? '9G' : '4G');
const recipe = join(import.meta.dirname, 'recipe');

const commonOptions = [
  '--aptopt=Acquire::Check-Valid-Until "false"',
  ...['doc', 'man', 'locale', 'info'].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`),
];
const bootstrapOptions = [
  ...['--mode=root', '--variant=minbase', '--format=directory'],
  // An older mmdebstrap knows no keyring for later releases.
  '--keyring=/usr/share/keyrings/debian-archive-keyring.gpg',
  ...commonOptions,
];

export interface Image {
  suite: Suite;
  /** Path of the raw ext4 file system. No run writes to it. */
  root: string;
  kernel: string;
  initrd: string;
  /** First 12 digits of the recipe's SHA-256. */
  digest: string;
}

/** The folder of downloads and built images: `$XDG_CACHE_HOME/eniboot/vm`, by default below `~/.cache`. */
function cacheDirectory(): string {
  return cacheFolder('vm');
}

/** Returns the image of the present recipe, building it when it is not cached (about 90 s, needs the network). */
export function ensureImage(suite: Suite, progress: (line: string) => void): Image {
  const digest = recipeDigest(suite);
  const directory = join(cacheDirectory(), digest);
  if (!existsSync(directory)) build(suite, directory, progress);
  return {
    suite,
    root: join(directory, 'root.raw'),
    kernel: join(directory, 'kernel'),
    initrd: join(directory, 'early.cpio'),
    digest,
  };
}

/** Versions of Debian packages in the image; a package that it does not have is left out. */
export function packageVersions(image: Image, names: string[]): Record<string, string> {
  const status = must(['debugfs', '-R', 'cat /var/lib/dpkg/status', image.root]);
  const found = new Map(
    status.split('\n\n').map((block) => [field(block, 'Package') ?? '', field(block, 'Version') ?? '']),
  );
  return Object.fromEntries(
    names.flatMap((name) => (found.has(name) ? [[name, found.get(name) ?? '']] : [])),
  );
}

function field(block: string, name: string): string | undefined {
  return new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1];
}

function build(suite: Suite, directory: string, progress: (line: string) => void): void {
  const time = suite === 'arm64' ? 'a quarter of an hour, emulated' : 'about 90 s';
  progress(`building the ${suite} root image (once for each recipe, ${time})`);
  mkdirSync(cacheDirectory(), { recursive: true });
  const work = mkdtempSync(join(cacheDirectory(), '.build-'));
  const root = join(work, 'root');
  try {
    must(
      [
        ...(suite === 'arm64' ? asArm64(progress) : asRoot()),
        'mmdebstrap',
        ...bootstrapOptions,
        ...(suite === 'arm64' ? ['--architectures=arm64', '--skip=check/qemu'] : []),
        `--include=${packages(suite).join(',')}`,
        ...customize(),
        recipes[suite].debian,
        root,
      ],
      suite === 'arm64' ? 3_600_000 : 900_000,
    );
    const out = join(work, 'out');
    mkdirSync(out);
    copyFileSync(join(root, 'boot', 'kernel'), join(out, 'kernel'));
    copyFileSync(join(root, 'boot', 'early.cpio'), join(out, 'early.cpio'));
    must([
      ...asRoot(),
      'mke2fs',
      '-q',
      '-t',
      'ext4',
      '-L',
      'root',
      '-d',
      root,
      join(out, 'root.raw'),
      imageSize(suite),
    ]);
    must([...asRoot(), 'rm', '-rf', root]);
    renameSync(out, directory);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/**
 * The root of a container with Debian's essential packages and these: a folder's tar archive, made once for each list (about
 * 30 s, needs the network).
 */
export function ensureContainerRoot(include: string[], progress: (line: string) => void): string {
  const options = [...commonOptions, '--mode=root', '--variant=essential', `--include=${include.join(',')}`];
  const digest = createHash('sha256').update(JSON.stringify(options)).digest('hex').slice(0, 12);
  const archive = join(cacheDirectory(), `container-${digest}.tar`);
  if (!existsSync(archive)) {
    progress('building the root of a container image (once for each list of packages, about 30 s)');
    mkdirSync(cacheDirectory(), { recursive: true });
    const work = mkdtempSync(join(cacheDirectory(), '.build-'));
    try {
      must([...asRoot(), 'mmdebstrap', ...options, 'trixie', join(work, 'root.tar')], 900_000);
      renameSync(join(work, 'root.tar'), archive);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }
  return archive;
}

/** Files in an image belong to the image's users. So without root the whole build runs under mapped IDs. */
function asRoot(): string[] {
  return process.getuid?.() === 0 ? [] : ['unshare', '--user', '--map-auto', '--map-root-user'];
}

function asArm64(progress: (line: string) => void): string[] {
  return ['sh', join(import.meta.dirname, 'own-users.sh'), arm64Tools(progress).user];
}

function customize(): string[] {
  return [`--customize-hook=sh ${join(recipe, 'customize.sh')} "$1" ${recipe}`];
}

/** The packages of all suites, and those of this suite only. */
function packages(suite: Suite): string[] {
  const lines = packageLists(suite).map((list) => readFileSync(list, 'utf8'));
  return lines
    .join('')
    .replace('cloud-amd64', suite === 'arm64' ? 'cloud-arm64' : 'cloud-amd64')
    .trim()
    .split('\n');
}

function packageLists(suite: Suite): string[] {
  return [join(recipe, 'packages.txt'), join(recipe, 'packages', `${recipes[suite].list}.txt`)];
}

function recipeDigest(suite: Suite): string {
  const hash = createHash('sha256').update(JSON.stringify([suite, imageSize(suite), bootstrapOptions]));
  const files = [join(recipe, 'customize.sh'), ...packageLists(suite), ...filesBelow(join(recipe, 'rootfs'))];
  for (const file of files) {
    hash.update(`${relative(recipe, file)}\n`).update(readFileSync(file));
  }
  return hash.digest('hex').slice(0, 12);
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory)
    .sort()
    .map((name) => join(directory, name))
    .flatMap((path) => (statSync(path).isDirectory() ? filesBelow(path) : [path]));
}
