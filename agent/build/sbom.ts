// `npm run sbom`: what is in a build, as CycloneDX, and one file with every digest to sign. The same inputs give the same
// bytes: no time, no serial number. Source of the form: CycloneDX 1.6, JSON reference.
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';

const root = join(import.meta.dirname, '../..');
const { values } = parseArgs({
  options: {
    arch: { type: 'string', default: 'x64' },
    packages: { type: 'string' },
    out: { type: 'string', default: join(root, 'dist') },
    help: { type: 'boolean' },
  },
});
if (values.help === true || (values.arch !== 'x64' && values.arch !== 'arm64')) {
  const text = `Usage: npm run sbom [-- [--arch x64|arm64] [--packages FILE] [--out FOLDER]]
Writes FOLDER/sbom-ARCH.cdx.json (CycloneDX 1.6) and FOLDER/SHA256SUMS for what \`npm run build\` has left in dist/.
  --packages FILE  the image's packages as its build lists them (packer/out/packages-ARCH.lock): RPMs are added
  --out FOLDER     default: dist
`;
  (values.help === true ? process.stdout : process.stderr).write(text);
  process.exit(values.help === true ? 0 : 2);
}

interface Component {
  type: 'application' | 'library' | 'framework';
  'bom-ref': string;
  name: string;
  version?: string;
  purl?: string;
  licenses?: ({ expression: string } | { license: { name: string } })[];
  hashes?: { alg: 'SHA-256'; content: string }[];
  properties?: { name: string; value: string }[];
}

const manifest = JSON.parse(readFileSync(join(root, 'dist/manifest.json'), 'utf8')) as {
  version: string;
  commit: string;
  files: Record<string, { sha256: string }>;
};
const executable: Component = {
  type: 'application',
  'bom-ref': 'eniboot',
  name: 'eniboot',
  version: manifest.version,
  licenses: [{ expression: 'Apache-2.0' }],
  hashes: [{ alg: 'SHA-256', content: manifest.files[`${values.arch}/eniboot`]?.sha256 ?? '' }],
  properties: [{ name: 'eniboot:commit', value: manifest.commit }],
};
const packages = [...npmPackages(), ...linkedIn(), ...rpms(values.packages)];
const sbom = {
  $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
  bomFormat: 'CycloneDX',
  specVersion: '1.6',
  version: 1,
  metadata: { component: executable },
  components: packages.sort((a, b) => (a['bom-ref'] < b['bom-ref'] ? -1 : 1)),
};
mkdirSync(values.out, { recursive: true });
const file = `sbom-${values.arch}.cdx.json`;
writeFileSync(join(values.out, file), `${JSON.stringify(sbom, null, 2)}\n`);
const sums = new Map(Object.entries(manifest.files).map(([path, { sha256 }]) => [path, sha256]));
for (const name of readdirSync(values.out))
  if (/^sbom-.*\.cdx\.json$/.test(name)) sums.set(name, sha256(join(values.out, name)));
if (values.packages !== undefined) sums.set(basename(values.packages), sha256(values.packages));
writeFileSync(
  join(values.out, 'SHA256SUMS'),
  [...sums]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([path, digest]) => `${digest}  ${path}\n`)
    .join(''),
);
process.stdout.write(`${packages.length} components: ${join(values.out, file)}, SHA256SUMS\n`);

/** Those that the executable is made of. */
function npmPackages(): Component[] {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<
      string,
      { version?: string; dev?: boolean; optional?: boolean; license?: string; integrity?: string }
    >;
  };
  const found = new Map<string, Component>();
  for (const [path, entry] of Object.entries(lock.packages)) {
    if (path === '' || entry.dev === true || entry.optional === true) continue;
    const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
    const purl = `pkg:npm/${name.replace('@', '%40')}@${entry.version}`;
    found.set(purl, {
      type: 'library',
      'bom-ref': purl,
      name,
      version: entry.version ?? '',
      purl,
      licenses: [{ expression: entry.license ?? 'NONE' }],
      properties: [{ name: 'eniboot:npm:integrity', value: entry.integrity ?? '' }],
    });
  }
  return [...found.values()];
}

/** The runtime and what is linked into it: NOTICE is the one place that lists them, in the form `Name (licence, …)`. */
function linkedIn(): Component[] {
  const { optionalDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    optionalDependencies: Record<string, string>;
  };
  const runtime: Component = {
    type: 'framework',
    'bom-ref': 'runtime:bun',
    name: 'bun',
    version: optionalDependencies[`@oven/bun-linux-${values.arch === 'x64' ? 'x64' : 'aarch64'}`] ?? '',
    licenses: [{ expression: 'MIT' }],
  };
  const listed = readFileSync(join(root, 'NOTICE'), 'utf8').split('Linked into it are:')[1] ?? '';
  const linked = [...listed.replace(/\s+/g, ' ').matchAll(/(?:^|[-,] )([A-Za-z][\w' -]*?) \(([^)]+)\)/g)];
  return [
    runtime,
    ...linked.map(
      ([, name = '', licence = '']): Component => ({
        type: 'library',
        'bom-ref': `runtime:bun/${name}`,
        name,
        licenses: [{ license: { name: licence } }],
      }),
    ),
  ];
}

/** Lines of `NEVRA SHA256-of-its-header`; the list has no licences, so neither has this. */
function rpms(path: string | undefined): Component[] {
  if (path === undefined) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [, name, epoch, version, arch, header] =
        /^(\S+)-(?:(\d+):)?([^-\s]+-[^-\s]+)\.(\w+) ([0-9a-f]{64}|\(none\))$/.exec(line) ?? [];
      if (name === undefined || version === undefined) throw new Error(`${path}: not a package: ${line}`);
      const purl = `pkg:rpm/fedora/${name}@${version}?arch=${arch}${epoch === undefined ? '' : `&epoch=${epoch}`}`;
      return {
        type: 'library',
        'bom-ref': purl,
        name,
        version,
        purl,
        properties: [{ name: 'eniboot:rpm:sha256header', value: header ?? '' }],
      };
    });
}

function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}
