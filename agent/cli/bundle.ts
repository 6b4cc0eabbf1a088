import { Failure } from '../messages/failure.ts';
import { parse } from './arguments.ts';
import type { Command, CommandIo } from './command.ts';
import { table } from './table.ts';

const help = `Usage: eniboot bundle build [--from FOLDER] [--out FILE] [--json]
       eniboot bundle publish [--x64 FILE --x64-url URL] [--arm64 FILE --arm64-url URL] [--region REGION] [--json]
       eniboot bundle list [--region REGION] [--json]

A bundle is one archive with the executable, its manifest and the licences: what a node stages beside the version it runs.

build     packs the version in FOLDER (default: the running one), the same bytes for the same files. \`npm run build\` makes
          the bundles of a commit for both CPUs.
publish   makes a version known: writes /eniboot/releases/<version> with address and SHA-256 of each archive. The file has to
          stand at its address already (S3 by a public or pre-signed address, or any HTTPS server): it is downloaded and
          compared first. A version is published once: other contents need another version.
list      the published versions, and which zone's parameter names which.

Nodes read /eniboot/releases/* and download from the address; docs/rollouts.md says what IAM, digests and retention need.

  eniboot bundle publish --x64 eniboot-1.4.0-x64.tar.gz --x64-url https://bundles.example.com/eniboot-1.4.0-x64.tar.gz

Exit codes: 0 done, or shown; 1 not, with a code; 2 wrong usage.
`;

const options = {
  from: { type: 'string' },
  out: { type: 'string' },
  x64: { type: 'string' },
  'x64-url': { type: 'string' },
  arm64: { type: 'string' },
  'arm64-url': { type: 'string' },
  region: { type: 'string' },
  json: { type: 'boolean' },
} as const;

export const bundleCommand: Command = {
  name: 'bundle',
  summary: 'build, publish and list the versions a fleet can run',
  help,
  async run(args, io) {
    const [verb, ...rest] = args;
    if (verb !== 'build' && verb !== 'publish' && verb !== 'list')
      throw new Failure(
        'USAGE',
        `eniboot bundle: what to do is ${verb === undefined ? 'missing' : 'unknown'}: build, publish or list`,
      );
    const { values } = parse(`bundle ${verb}`, rest, options);
    const json = values.json === true;
    if (verb === 'build') return build(values.from, values.out, json, io);
    const { connectFleet } = await import('./operator.ts');
    const aws = await connectFleet(values.region);
    if (verb === 'list') {
      const { listReleases } = await import('../rollout/releases.ts');
      const { releases, zones } = await listReleases(aws);
      if (json) io.stdout(`${JSON.stringify({ releases, zones })}\n`);
      else
        io.stdout(
          releases.length + zones.length === 0
            ? 'nothing is published\n'
            : `${table([
                ['version', 'x64', 'arm64', 'zones'],
                ...releases.map((one) => [
                  one.version,
                  one.x64?.sha256.slice(0, 12) ?? '–',
                  one.arm64?.sha256.slice(0, 12) ?? '–',
                  zones
                    .filter((zone) => zone.version === one.version)
                    .map((zone) => zone.zoneId)
                    .join(' '),
                ]),
              ])}`,
        );
      return 0;
    }
    const archives = {
      x64: pair('x64', values.x64, values['x64-url']),
      arm64: pair('arm64', values.arm64, values['arm64-url']),
    };
    if (archives.x64 === undefined && archives.arm64 === undefined)
      throw new Failure(
        'USAGE',
        'eniboot bundle publish: --x64 FILE --x64-url URL, or the same for arm64, is missing',
      );
    const { publishRelease } = await import('../rollout/releases.ts');
    const release = await publishRelease(aws, archives);
    io.stdout(json ? `${JSON.stringify(release)}\n` : `${release.version} is published\n`);
    return 0;
  },
};

async function build(
  from: string | undefined,
  out: string | undefined,
  json: boolean,
  io: CommandIo,
): Promise<number> {
  const { packBundle } = await import('../rollout/releases.ts');
  const { runningFolder } = await import('../boot/versions.ts');
  const packed = await packBundle(from ?? runningFolder(), out);
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
