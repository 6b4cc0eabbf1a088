// `npm run sbom`: the components of a build and its image, as CycloneDX with licence texts; a manifest that leads from the
// commit to the image; and one file with every digest to sign. The same inputs give the same bytes: no time, no serial number.
// Source of the form: CycloneDX 1.6, JSON reference.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const root = join(import.meta.dirname, '../..');
const { values } = parseArgs({
  options: {
    arch: { type: 'string', default: 'x64' },
    image: { type: 'string' },
    out: { type: 'string', default: join(root, 'dist') },
    help: { type: 'boolean' },
  },
});
if (values.help === true || (values.arch !== 'x64' && values.arch !== 'arm64')) {
  const text = `Usage: npm run sbom [-- [--arch x64|arm64] [--image FOLDER] [--out FOLDER]]
Writes sbom-ARCH.cdx.json (CycloneDX 1.6) and SHA256SUMS for what \`npm run build\` has left in dist/.
  --image FOLDER  files of the image's build (packer/out): its RPMs are added, and image-ARCH.json is written, which leads
                  from commit and executable to packages, base image, check report and AMI
  --out FOLDER    default: dist
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
  licenses?: ({ expression: string } | { license: { name: string; text?: { content: string } } })[];
  hashes?: { alg: 'SHA-256'; content: string }[];
  properties?: { name: string; value: string }[];
}

const manifest = JSON.parse(readFileSync(join(root, 'dist/manifest.json'), 'utf8')) as {
  version: string;
  commit: string;
  files: Record<string, { sha256: string }>;
};
const built = manifest.files[`${values.arch}/eniboot`];
if (built === undefined) throw new Error(`dist/ has no executable for ${values.arch}: npm run build`);
const executableDigest = built.sha256;
const executable: Component = {
  type: 'application',
  'bom-ref': 'eniboot',
  name: 'eniboot',
  version: manifest.version,
  licenses: [{ expression: 'Apache-2.0' }],
  hashes: [{ alg: 'SHA-256', content: executableDigest }],
  properties: [{ name: 'eniboot:commit', value: manifest.commit }],
};
const packages = [...npmPackages(), ...linkedIn(), ...rpms(values.image)];
const sbom = {
  $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
  bomFormat: 'CycloneDX',
  specVersion: '1.6',
  version: 1,
  metadata: { component: executable },
  components: packages.sort((a, b) => (a['bom-ref'] < b['bom-ref'] ? -1 : 1)),
};
// Before anything is written: throws when build and image do not belong together.
const image = values.image === undefined ? undefined : imageManifest(values.image);
mkdirSync(values.out, { recursive: true });
const file = `sbom-${values.arch}.cdx.json`;
writeFileSync(join(values.out, file), `${JSON.stringify(sbom, null, 2)}\n`);
const sums = new Map(Object.entries(manifest.files).map(([path, { sha256 }]) => [path, sha256]));
for (const name of readdirSync(values.out))
  if (/^sbom-.*\.cdx\.json$/.test(name)) sums.set(name, sha256(join(values.out, name)));
if (values.image !== undefined) {
  const name = `image-${values.arch}.json`;
  writeFileSync(join(values.out, name), `${JSON.stringify(image, null, 2)}\n`);
  sums.set(name, sha256(join(values.out, name)));
  for (const of of imageFiles()) sums.set(of, sha256(join(values.image, of)));
}
writeFileSync(
  join(values.out, 'SHA256SUMS'),
  [...sums]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([path, digest]) => `${digest}  ${path}\n`)
    .join(''),
);
process.stdout.write(`${packages.length} components: ${join(values.out, file)}, SHA256SUMS\n`);

/** The npm packages in the executable. */
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
      licenses: [{ license: { name: entry.license ?? 'NONE', ...textOf(join(root, path)) } }],
      properties: [{ name: 'eniboot:npm:integrity', value: entry.integrity ?? '' }],
    });
  }
  return [...found.values()];
}

/** The runtime and the libraries linked into it. Only NOTICE lists them, in the form `Name (licence, …)`. */
function linkedIn(): Component[] {
  const { optionalDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    optionalDependencies: Record<string, string>;
  };
  const runtime: Component = {
    type: 'framework',
    'bom-ref': 'runtime:bun',
    name: 'bun',
    version: optionalDependencies[`@oven/bun-linux-${values.arch === 'x64' ? 'x64' : 'aarch64'}`] ?? '',
    licenses: [{ license: { name: 'MIT', ...textOf(join(root, 'node_modules/@oven/bun-linux-x64')) } }],
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

/** The licence and the notice in a package's folder. */
function textOf(folder: string): { text?: { content: string } } {
  const names = existsSync(folder) ? readdirSync(folder).sort() : [];
  const texts = names
    .filter((name) => /^(licen[cs]e|copying|notice)([.-].*)?$/i.test(name))
    .map((name) => readFileSync(join(folder, name), 'utf8'));
  return texts.length === 0 ? {} : { text: { content: texts.join('\n') } };
}

/** The name of the CPU in packer/. */
function imageArch(): string {
  return values.arch === 'x64' ? 'x86_64' : 'arm64';
}

function imageFiles(): string[] {
  return [`packages-${imageArch()}.lock`, `licences-${imageArch()}.txt`, `check-${imageArch()}.json`];
}

/** From the commit to the image, each step with its digest. The AMI is that of Packer's last build for this CPU. */
function imageManifest(folder: string): object {
  const read = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));
  const { builds } = read(join(folder, 'manifest.json')) as {
    builds: { name: string; artifact_id: string; custom_data: Record<string, string> }[];
  };
  const build = builds.findLast(({ name }) => name === imageArch());
  if (build === undefined) throw new Error(`${folder}/manifest.json has no build of ${imageArch()}`);
  const { commit, executable: inImage, base, base_name } = build.custom_data;
  if (commit !== manifest.commit || inImage !== executableDigest)
    throw new Error(
      `${folder} is of commit ${commit}, executable ${inImage}, and dist/ of ${manifest.commit}, ${executableDigest}: build both anew`,
    );
  const { started } = build.custom_data;
  const last = readFileSync(join(folder, `started-${imageArch()}`), 'utf8').trim();
  if (last !== started)
    throw new Error(
      `${folder} has files of the build of ${last}, which made no image, and its last image is of ${started}: build anew`,
    );
  const { fit } = read(join(folder, `check-${imageArch()}.json`)) as { fit: boolean };
  if (!fit) throw new Error(`${folder}/check-${imageArch()}.json says that it is not fit to be an image`);
  const file = (name: string) => ({ file: name, sha256: sha256(join(folder, name)) });
  const [packages = '', licences = '', check = ''] = imageFiles();
  return {
    commit,
    version: manifest.version,
    executable: { file: `${values.arch}/eniboot`, sha256: executableDigest },
    nodeFiles: { file: 'node-files.tar', sha256: manifest.files['node-files.tar']?.sha256 },
    versions: Object.fromEntries(
      ['kubernetes', 'crio', 'ssm_agent', 'pause'].map((name) => [name, build.custom_data[name]]),
    ),
    packages: file(packages),
    licences: file(licences),
    base: { id: base, name: base_name },
    check: { ...file(check), fit },
    // REGION:AMI, one for each Region.
    images: build.artifact_id.split(','),
    mayDiffer: read(join(root, 'packer/may-differ.json')),
  };
}

/** Lines of `NEVRA SHA256-of-its-header`, and of `NEVRA licence`. */
function rpms(folder: string | undefined): Component[] {
  if (folder === undefined) return [];
  const [packages = '', licences = ''] = imageFiles().map((name) => join(folder, name));
  const licenceOf = new Map(
    readFileSync(licences, 'utf8')
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)]),
  );
  const path = packages;
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [, name, epoch, version, arch, header] =
        /^(\S+)-(?:(\d+):)?([^-\s]+-[^-\s]+)\.(\w+) ([0-9a-f]{64}|\(none\))$/.exec(line) ?? [];
      if (name === undefined || version === undefined) throw new Error(`${path}: not a package: ${line}`);
      // kubelet, cri-o and the SSM agent come from other vendors; Fedora's packages have .fcNN in their release.
      const vendor = /\.fc\d+(\.|$)/.test(version) ? 'fedora/' : '';
      const purl = `pkg:rpm/${vendor}${name}@${version}?arch=${arch}${epoch === undefined ? '' : `&epoch=${epoch}`}`;
      const licence = licenceOf.get(line.slice(0, line.indexOf(' ')));
      if (licence === undefined) throw new Error(`${licences}: no licence of ${name}`);
      return {
        type: 'library',
        'bom-ref': purl,
        name,
        version,
        purl,
        licenses: [{ license: { name: licence } }],
        properties: [{ name: 'eniboot:rpm:sha256header', value: header ?? '' }],
      };
    });
}

function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}
