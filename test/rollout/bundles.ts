// Versions for simulated nodes: served over HTTP in the region, published in its Parameter Store.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { signer } from '../../agent/aws/signature.ts';
import { NODE_TABLES } from '../../agent/host/names.ts';
import type { Cloud } from '../aws/index.ts';

const built = join(import.meta.dirname, '../../dist', process.arch === 'arm64' ? 'arm64' : 'x64');

/**
 * Stands in for another build: a script that runs the executable with which the node was launched. Its reports are the real
 * ones, and its bundle has a kilobyte instead of forty million.
 */
export const STAND_IN = '#!/bin/sh\nexec /usr/libexec/eniboot/0.1.0/eniboot "$@"\n';
/** The same, with health checks that fail. */
export const UNHEALTHY = `#!/bin/sh
[ "$1" = check ] && { echo '{"healthy":false,"checks":[{"id":"egress","result":"fail","code":"EGRESS_TABLE_DIFFERS"}]}'; exit 1; }
exec /usr/libexec/eniboot/0.1.0/eniboot "$@"
`;

/** Its health checks fail from some seconds after the first check. */
export const SICKENS = `#!/bin/sh
since=/run/eniboot/sickens-since
if [ "$1" = check ]; then
  [ -f $since ] || date +%s >$since
  [ $(($(date +%s) - $(cat $since))) -lt 5 ] || {
    echo '{"healthy":false,"checks":[{"id":"egress","result":"fail","code":"EGRESS_TABLE_DIFFERS"}]}'
    exit 1
  }
fi
exec /usr/libexec/eniboot/0.1.0/eniboot "$@"
`;

/** A version from before the guards: its repair does not make them, and its checks do not require them. */
export const WITHOUT_GUARDS = `#!/bin/sh
[ "$1" != repair ] || exit 0
[ "$1" != check ] || { echo '{"healthy":true,"checks":[]}'; exit 0; }
exec /usr/libexec/eniboot/0.1.0/eniboot "$@"
`;

export interface Bundles {
  /**
   * Publishes a version with this executable (default: a copy of the built one). Returns its archive's SHA-256.
   *
   * @param tables the tables that its manifest names, by default those of the build; none: the manifest does not name any.
   */
  publish(version: string, executable?: string, tables?: readonly string[]): string;
  /** Runs a script in its folder, packs and publishes it again. Returns its archive's SHA-256. */
  repack(version: string, script: string): string;
  /** Publishes it again, signed with the key in `pem`. `as`: the version that the signature names instead. */
  sign(version: string, pem: string, as?: string): void;
  archive(version: string): string;
  url(version: string): string;
  /** Milliseconds that every answer takes from now on. */
  delay(ms: number): void;
  /** Makes so many of the next answers 503. */
  refuse(times: number): void;
  stop(): void;
}

/**
 * Packs a folder, after a script has run in it. Stored and not compressed: compressing an executable takes two seconds of
 * processor, and unpacking it half of one. In a process of its own, since a large process starts programs slowly.
 */
export function packStored(folder: string, archive: string, script = ':'): void {
  const store = `process.stdin.pipe(require('node:zlib').createGzip({ level: 0 })).pipe(process.stdout)`;
  const pack = `(cd "$0"; ${script}); tar -C "$0" -cf - . | "$2" -e "$3" > "$1"`;
  execFileSync('sh', ['-euc', pack, folder, archive, process.execPath, store]);
}

/** Read in pieces: a large process starts programs slowly. */
function digest(path: string): string {
  const hash = createHash('sha256');
  const file = openSync(path, 'r');
  const piece = Buffer.alloc(2 ** 20);
  for (let bytes = readSync(file, piece); bytes > 0; bytes = readSync(file, piece))
    hash.update(piece.subarray(0, bytes));
  closeSync(file);
  return hash.digest('hex');
}

export async function serveBundles(cloud: Cloud): Promise<Bundles> {
  const host = new URL(cloud.endpoints.ec2).hostname;
  const scratch = mkdtempSync(join(tmpdir(), 'eniboot-bundles-'));
  let delayMs = 0;
  let refusals = 0;
  const server = createServer((request, response) => {
    setTimeout(() => {
      const file = join(scratch, request.url ?? '');
      if (refusals > 0) {
        refusals -= 1;
        response.writeHead(503).end();
      } else if (existsSync(file)) createReadStream(file).pipe(response.writeHead(200));
      else response.writeHead(404).end();
    }, delayMs);
  });
  await new Promise<void>((resolve) => server.listen(8080, host, resolve));
  const url = (version: string) => `http://${host}:8080/${version}.tar.gz`;
  const archive = (version: string) => join(scratch, `${version}.tar.gz`);
  function repack(version: string, script: string): string {
    packStored(join(scratch, version), archive(version), script);
    const sha256 = digest(archive(version));
    const source = { url: url(version), sha256 };
    cloud.ssm.put(`/eniboot/releases/${version}`, JSON.stringify({ version, x64: source, arm64: source }));
    return sha256;
  }
  return {
    url,
    archive,
    delay: (ms) => {
      delayMs = ms;
    },
    refuse: (times) => {
      refusals = times;
    },
    publish(version, executable, tables = NODE_TABLES) {
      const folder = join(scratch, version);
      mkdirSync(folder);
      if (executable === undefined) execFileSync('cp', [join(built, 'eniboot'), folder]);
      else writeFileSync(join(folder, 'eniboot'), executable, { mode: 0o755 });
      writeFileSync(
        join(folder, 'manifest.json'),
        JSON.stringify({
          version,
          files: [{ path: 'eniboot', sha256: digest(join(folder, 'eniboot')) }],
          plugins: ['eniboot'],
          ...(tables.length === 0 ? {} : { tables }),
        }),
      );
      return repack(version, ':');
    },
    repack,
    sign(version, pem, as = version) {
      const sha256 = digest(archive(version));
      const of = (arch: 'x64' | 'arm64') => ({
        url: url(version),
        sha256,
        signature: signer(pem, 'key').sign({ version: as, arch, sha256 }),
      });
      const release = { version, x64: of('x64'), arm64: of('arm64') };
      cloud.ssm.put(`/eniboot/releases/${version}`, JSON.stringify(release));
    },
    stop: () => server.close(),
  };
}
