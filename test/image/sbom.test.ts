// The bill of materials names the contents of a build, and is the same for the same build.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const root = join(import.meta.dirname, '../..');
const script = join(root, 'agent/build/sbom.ts');
const folder = mkdtempSync(join(tmpdir(), 'eniboot-sbom-'));
test.after(() => rmSync(folder, { recursive: true }));
const packages = join(folder, 'packages-x86_64.lock');

const dist = JSON.parse(readFileSync(join(root, 'dist/manifest.json'), 'utf8')) as {
  commit: string;
  files: Record<string, { sha256: string }>;
};
const writeCheck = (fit: boolean) =>
  writeFileSync(join(folder, 'check-x86_64.json'), `{"fit":${fit},"checks":[]}\n`);
writeCheck(true);
const writeStarted = (at: string) => writeFileSync(join(folder, 'started-x86_64'), `${at}\n`);
writeStarted('2026-11-27T15:00:00Z');
const custom_data = {
  commit: dist.commit,
  executable: dist.files['x64/eniboot']?.sha256,
  base: 'ami-1',
  base_name: 'Fedora',
  kubernetes: '1.34.2',
  crio: '1.34.1',
  started: '2026-11-27T15:00:00Z',
  ssm_agent: '3.3.3050.0',
  pause: 'registry.k8s.io/pause:3.10@sha256:1',
};
const writeManifest = (data: object) =>
  writeFileSync(
    join(folder, 'manifest.json'),
    JSON.stringify({ builds: [{ name: 'x86_64', artifact_id: 'eu-west-1:ami-2', custom_data: data }] }),
  );
writeManifest(custom_data);

interface Bom {
  bomFormat: string;
  specVersion: string;
  metadata: { component: { hashes: { content: string }[] } };
  components: { 'bom-ref': string; name: string; version?: string; licenses?: unknown[] }[];
}

function make(): Bom {
  execFileSync(process.execPath, [script, '--out', folder, '--image', folder]);
  return JSON.parse(readFileSync(join(folder, 'sbom-x64.cdx.json'), 'utf8')) as Bom;
}

test('it has npm packages, the runtime, linked libraries and RPMs, each once', () => {
  const header = 'a'.repeat(64);
  writeFileSync(
    packages,
    `kubelet-1.34.2-150500.1.1.x86_64 ${header}\nshadow-utils-2:4.17.0-5.fc44.x86_64 ${header}\n`,
  );
  writeFileSync(
    join(folder, 'licences-x86_64.txt'),
    'kubelet-1.34.2-150500.1.1.x86_64 Apache-2.0\nshadow-utils-2:4.17.0-5.fc44.x86_64 BSD-3-Clause AND GPL-2.0-or-later\n',
  );
  const bom = make();
  assert.equal([bom.bomFormat, bom.specVersion], ['CycloneDX', '1.6']);
  const refs = bom.components.map((one) => one['bom-ref']);
  assert.is(new Set(refs).size, refs.length);
  for (const wanted of [
    'runtime:bun',
    'runtime:bun/BoringSSL',
    'runtime:bun/zstd',
    // This package is not Fedora's: Fedora's advisories for a package of that name do not apply to it.
    'pkg:rpm/kubelet@1.34.2-150500.1.1?arch=x86_64',
    'pkg:rpm/fedora/shadow-utils@4.17.0-5.fc44?arch=x86_64&epoch=2',
  ])
    assert.ok(refs.includes(wanted), `${wanted} is not among ${refs.join('\n')}`);
  const listed = readFileSync(join(root, 'docs/licences.md'), 'utf8').match(/^\| [@a-z]\S* \| \d/gm) ?? [];
  assert.is(
    refs.filter((ref) => ref.startsWith('pkg:npm/')).length,
    listed.length,
    'as the page of licences',
  );
  for (const one of bom.components) assert.ok(one.licenses?.length === 1, one.name);
  const said = JSON.stringify(bom.components.find(({ name }) => name === 'shadow-utils')?.licenses);
  assert.match(said, 'BSD-3-Clause AND GPL-2.0-or-later');
  for (const one of bom.components.filter((npm) => npm['bom-ref'].startsWith('pkg:npm/')))
    if (!/^@(aws-sdk|smithy)/.test(one.name))
      assert.match(JSON.stringify(one.licenses), /"content":".{200}/, `${one.name} has no licence text`);
  assert.match(bom.metadata.component.hashes[0]?.content ?? '', /^[0-9a-f]{64}$/);
});

test('the manifest of the image leads from the commit to the AMI, and refuses an image of another build', () => {
  const image = JSON.parse(readFileSync(join(folder, 'image-x64.json'), 'utf8')) as Record<string, unknown>;
  assert.is(image['commit'], dist.commit);
  assert.equal(image['images'], ['eu-west-1:ami-2']);
  assert.equal(image['base'], { id: 'ami-1', name: 'Fedora' });
  assert.equal(image['versions'], {
    kubernetes: '1.34.2',
    crio: '1.34.1',
    ssm_agent: '3.3.3050.0',
    pause: 'registry.k8s.io/pause:3.10@sha256:1',
  });
  assert.equal(image['nodeFiles'], {
    file: 'node-files.tar',
    sha256: dist.files['node-files.tar']?.sha256,
  });
  assert.is((image['check'] as { fit: boolean }).fit, true);
  assert.ok((image['mayDiffer'] as unknown[]).length > 0);
  const refused = (why: RegExp) => {
    const bad = spawnSync(process.execPath, [script, '--out', folder, '--image', folder], {
      encoding: 'utf8',
    });
    assert.is(bad.status, 1, bad.stdout);
    assert.match(bad.stderr, why);
  };
  writeManifest({ ...custom_data, commit: 'another' });
  refused(/is of commit another/);
  writeManifest(custom_data);
  // A later build that ended after its packages, and one whose check failed.
  writeStarted('2026-11-27T16:00:00Z');
  refused(/has files of the build of 2026-11-27T16:00:00Z, .* of 2026-11-27T15:00:00Z/);
  writeStarted('2026-11-27T15:00:00Z');
  writeCheck(false);
  refused(/says that it is not fit/);
  writeCheck(true);
});

test('the same build gives the same bytes, and SHA256SUMS holds for every file that is there', () => {
  const first = readFileSync(join(folder, 'sbom-x64.cdx.json'), 'utf8');
  make();
  assert.is(readFileSync(join(folder, 'sbom-x64.cdx.json'), 'utf8'), first);
  const sums = readFileSync(join(folder, 'SHA256SUMS'), 'utf8');
  for (const name of [
    'image-x64.json',
    'check-x86_64.json',
    'licences-x86_64.txt',
    'sbom-x64.cdx.json',
    'packages-x86_64.lock',
    'x64/eniboot',
    'node-files.tar',
  ])
    assert.match(sums, new RegExp(`^[0-9a-f]{64}  ${name}$`, 'm'));
  const check = () =>
    spawnSync('sha256sum', ['--check', '--ignore-missing', '--quiet', 'SHA256SUMS'], { cwd: folder });
  assert.is(check().status, 0);
  writeFileSync(packages, 'other\n');
  assert.is(check().status, 1);
});

test('a CPU that was not built has no bill of materials', () => {
  const clone = join(folder, 'clone');
  for (const path of ['agent/build/sbom.ts', 'package.json', 'package-lock.json', 'NOTICE'])
    cpSync(join(root, path), join(clone, path));
  mkdirSync(join(clone, 'dist'));
  const { 'x64/eniboot': built } = dist.files;
  writeFileSync(
    join(clone, 'dist/manifest.json'),
    JSON.stringify({ ...dist, files: { 'x64/eniboot': built } }),
  );
  const made = spawnSync(process.execPath, [join(clone, 'agent/build/sbom.ts'), '--arch', 'arm64'], {
    encoding: 'utf8',
  });
  assert.is(made.status, 1, made.stdout);
  assert.match(made.stderr, /dist\/ has no executable for arm64: npm run build/);
  assert.not.ok(existsSync(join(clone, 'dist/sbom-arm64.cdx.json')));
});

test('a malformed list, and wrong usage, are refused', () => {
  assert.ok(existsSync(packages));
  const bad = spawnSync(process.execPath, [script, '--out', folder, '--image', folder], {
    encoding: 'utf8',
  });
  assert.is(bad.status, 1);
  assert.match(bad.stderr, 'not a package: other');
  assert.is(spawnSync(process.execPath, [script, '--arch', 'sparc']).status, 2);
});

test.run();
