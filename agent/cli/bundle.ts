import { Failure } from '../messages/failure.ts';
import { INTERRUPTED, interruption } from '../port/runtime.ts';
import { parseVerb, verbOf } from './arguments.ts';
import type { Command, CommandIo } from './command.ts';
import { requireFile, requireWritable } from './named-files.ts';
import { table } from './table.ts';

const help = `Usage: eniboot bundle build [--from FOLDER] [--out FILE] [--json]
       eniboot bundle publish [--x64 FILE --x64-url URL] [--arm64 FILE --arm64-url URL] [--sign KEYFILE]
                              [--region REGION] [--json]
       eniboot bundle list [--region REGION] [--json]

A bundle is one archive with the executable, its manifest and the licences. A node stages it beside the version it runs.

build     packs the version in FOLDER (default: the running one); the same files give the same bytes. \`npm run build\` makes
          the bundles of a commit for both CPUs.
publish   writes /eniboot/releases/<version> with address and SHA-256 of each archive. The file has to stand at its address
          already (S3 by a public or pre-signed address, or any HTTPS server): it is downloaded and compared first. A version
          is published once: other contents need another version.
          --sign KEYFILE signs the version for nodes that have bundle.keys; a version that is published already can be signed
          too. KEYFILE: an Ed25519 private key in PEM (openssl genpkey -algorithm ed25519). Prints the key for bundle.keys.
list      the published versions, and the version that each zone's parameter names: parameters in /eniboot/bundle/, with
          their folder where a cluster has its own parameters (production/use1-az1).

Nodes read /eniboot/releases/* and download from the address; docs/rollouts.md says what IAM, digests and retention need.

  eniboot bundle publish --x64 eniboot-1.4.0-x64.tar.gz --x64-url https://bundles.example.com/eniboot-1.4.0-x64.tar.gz

Exit codes: 0 done, or shown; 1 not, with a code; 2 wrong usage; ${INTERRUPTED} \`build\` interrupted, it leaves nothing.
`;

const options = {
  from: { type: 'string' },
  out: { type: 'string' },
  x64: { type: 'string' },
  'x64-url': { type: 'string' },
  arm64: { type: 'string' },
  'arm64-url': { type: 'string' },
  sign: { type: 'string' },
  region: { type: 'string' },
  json: { type: 'boolean' },
} as const;

/** The options of each verb. */
const taken = {
  build: ['from', 'out', 'json'],
  publish: ['x64', 'x64-url', 'arm64', 'arm64-url', 'sign', 'region', 'json'],
  list: ['region', 'json'],
} as const;

export const bundleCommand: Command = {
  help,
  async run(args, io) {
    const [first, ...rest] = args;
    const verb = verbOf('bundle', first, ['build', 'publish', 'list']);
    const { values } = parseVerb('bundle', verb, rest, options, taken);
    const json = values.json === true;
    if (verb === 'build') return build(values.from, values.out, json, io);
    return verb === 'list' ? list(values.region, json, io) : publish(values, json, io);
  },
};

async function list(region: string | undefined, json: boolean, io: CommandIo): Promise<number> {
  const { connectFleet } = await import('./operator.ts');
  const { listReleases } = await import('../rollout/releases.ts');
  const { releases, zones } = await listReleases((await connectFleet(region, 'look', io)).aws);
  if (json) io.stdout(`${JSON.stringify({ releases, zones })}\n`);
  else if (releases.length + zones.length === 0) io.stdout('nothing is published\n');
  else
    io.stdout(
      table([
        ['version', 'x64', 'arm64', 'signed', 'zones'],
        ...releases.map((one) => [
          one.version,
          one.x64?.sha256.slice(0, 12) ?? '–',
          one.arm64?.sha256.slice(0, 12) ?? '–',
          [one.x64, one.arm64].every((archive) => archive === undefined || archive.signature !== undefined)
            ? 'yes'
            : '–',
          zones
            .filter((zone) => zone.version === one.version)
            .map(({ parameter }) => parameter.split('/').slice(3).join('/'))
            .join(' '),
        ]),
      ]),
    );
  return 0;
}

interface Published {
  x64?: string | undefined;
  'x64-url'?: string | undefined;
  arm64?: string | undefined;
  'arm64-url'?: string | undefined;
  sign?: string | undefined;
  region?: string | undefined;
}

async function publish(values: Published, json: boolean, io: CommandIo): Promise<number> {
  const archives = {
    x64: pair('x64', values.x64, values['x64-url']),
    arm64: pair('arm64', values.arm64, values['arm64-url']),
  };
  const files = [archives.x64, archives.arm64].flatMap((one) => one?.file ?? []);
  if (files.length === 0)
    throw new Failure(
      'USAGE',
      'eniboot bundle publish: --x64 FILE --x64-url URL, or the same for arm64, is missing',
    );
  for (const file of files) requireFile(file);
  const key = values.sign === undefined ? undefined : await readKey(values.sign);
  const { connectFleet } = await import('./operator.ts');
  const { publishRelease } = await import('../rollout/releases.ts');
  const release = await publishRelease(
    (await connectFleet(values.region, 'work', io)).aws,
    archives,
    key?.sign,
  );
  if (json) io.stdout(`${JSON.stringify(release)}\n`);
  else {
    io.stdout(`${release.version} is published\n`);
    if (key !== undefined) io.stdout(`signed; in bundle.keys of the nodes: ${key.publicKey}\n`);
  }
  return 0;
}

async function readKey(file: string) {
  requireFile(file);
  const { signer } = await import('../aws/signature.ts');
  const { readIfPresent } = await import('../port/fs.ts');
  return signer(readIfPresent(file) ?? '', file);
}

async function build(
  from: string | undefined,
  out: string | undefined,
  json: boolean,
  io: CommandIo,
): Promise<number> {
  if (out !== undefined) requireWritable(out);
  const { packBundle } = await import('../rollout/releases.ts');
  const { runningFolder } = await import('../boot/version/versions.ts');
  const stopped = interruption();
  const packed = await packBundle(from ?? runningFolder(), out, {
    signal: stopped,
    tell: (what) => io.stderr(`${what}\n`),
  }).catch((error: unknown) => {
    if (stopped.aborted) return undefined;
    throw error;
  });
  if (packed === undefined) {
    io.stderr('eniboot: interrupted; nothing was written\n');
    return INTERRUPTED;
  }
  io.stdout(json ? `${JSON.stringify(packed)}\n` : `${packed.sha256}  ${packed.file}\n`);
  return 0;
}

function pair(
  arch: string,
  file: string | undefined,
  url: string | undefined,
): { file: string; url: string } | undefined {
  if (file === undefined && url === undefined) return undefined;
  if (file === undefined || url === undefined || !/^https?:\/\/\S+$/.test(url))
    throw new Failure(
      'USAGE',
      `eniboot bundle publish: --${arch} FILE and --${arch}-url URL belong together`,
    );
  return { file, url };
}
