// install: the running version is the installed one, its digest is the manifest's, and the runtime finds the
// plugins. A switch of version is one rename of a link; the version before stays.
import { lstatSync, readlinkSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { digestOf } from '../host/digest.ts';
import { LIBEXEC_DIR } from '../host/names.ts';
import { Failure } from '../messages/failure.ts';
import { hasCode, linkAtomic, readIfPresent } from '../port/fs.ts';
import { invocation } from '../port/runtime.ts';
import { type Change, type Check, fail, type Phase, pass } from './phase.ts';

const PLUGIN_DIR = '/opt/cni/bin';
const CURRENT = `${LIBEXEC_DIR}/current`;
const PREVIOUS = `${LIBEXEC_DIR}/previous`;

/** What a bundle says of itself: lies beside the executable. */
interface Manifest {
  version: string;
  files: { path: string; sha256: string }[];
  /** Names in the plugin folder, all of them links to the executable. */
  plugins: string[];
}

interface Observed {
  manifest: Manifest;
  /** Folder of the running version. */
  folder: string;
  digests: { path: string; wanted: string; actual: string; ms: number }[];
  current: string | undefined;
  links: Record<string, string | undefined>;
}

type Planned = Change & { from: string; to: string };

export const install: Phase<Observed, Planned> = {
  name: 'install',
  budgetSeconds: 60,

  observe: () => observeInstalled(),

  plan(observed) {
    const changes: Planned[] = [];
    const version = basename(observed.folder);
    if (observed.current !== version) {
      if (observed.current !== undefined) {
        changes.push({
          from: PREVIOUS,
          to: observed.current,
          summary: `keep ${observed.current} as previous`,
        });
      }
      changes.push({ from: CURRENT, to: version, summary: `make ${version} current` });
    }
    for (const [name, target] of Object.entries(observed.links)) {
      if (target === executableLink()) continue;
      changes.push({
        from: `${PLUGIN_DIR}/${name}`,
        to: executableLink(),
        summary: `install plugin ${name}`,
      });
    }
    return changes;
  },

  async apply(changes, observed) {
    refuseWrongDigest(observed);
    for (const change of changes) linkAtomic(change.from, change.to);
  },

  async verify() {
    const observed = await observeInstalled();
    refuseWrongDigest(observed);
    return [checkDigests(observed), checkPlugins(observed)];
  },
};

async function observeInstalled(): Promise<Observed> {
  const folder = dirname(invocation().executable);
  const manifest = readManifest(folder);
  const digests = await Promise.all(
    manifest.files.map(async (file) => {
      const { sha256, ms } = await digestOf(`${folder}/${file.path}`);
      return { path: file.path, wanted: file.sha256, actual: sha256, ms };
    }),
  );
  return {
    manifest,
    folder,
    digests,
    current: linkTarget(CURRENT),
    links: Object.fromEntries(manifest.plugins.map((name) => [name, linkTarget(`${PLUGIN_DIR}/${name}`)])),
  };
}

function readManifest(folder: string): Manifest {
  const path = `${folder}/manifest.json`;
  const text = readIfPresent(path);
  if (text === undefined) throw new Failure('MANIFEST_MISSING', `${path} is not there`, { path });
  try {
    const value = JSON.parse(text) as Partial<Manifest>;
    if (typeof value.version === 'string' && Array.isArray(value.files) && Array.isArray(value.plugins))
      return value as Manifest;
  } catch {
    // Falls through: damaged text and a wrong shape are the same to the reader.
  }
  throw new Failure('MANIFEST_MISSING', `${path} is damaged`, { path });
}

/** Checked before anything is switched: a damaged bundle never becomes current. */
function refuseWrongDigest(observed: Observed): void {
  const wrong = observed.digests.find((digest) => digest.actual !== digest.wanted);
  if (wrong === undefined) return;
  throw new Failure('BAD_DIGEST', `${observed.folder}/${wrong.path} is not what its manifest says`, {
    path: `${observed.folder}/${wrong.path}`,
    wanted: wrong.wanted,
    actual: wrong.actual,
  });
}

function checkDigests(observed: Observed): Check {
  return pass('digest', `version ${observed.manifest.version} matches its manifest`, {
    version: observed.manifest.version,
    digests: observed.digests,
  });
}

function checkPlugins(observed: Observed): Check {
  const wrong = Object.entries(observed.links).filter(([, target]) => target !== executableLink());
  return wrong.length === 0
    ? pass('plugins', `${observed.manifest.plugins.length} plugins in ${PLUGIN_DIR}`, {
        plugins: observed.manifest.plugins,
      })
    : fail(
        'plugins',
        'PLUGINS_MISSING',
        `not installed in ${PLUGIN_DIR}: ${wrong.map(([name]) => name).join(', ')}`,
        { links: observed.links },
      );
}

function executableLink(): string {
  return `${CURRENT}/eniboot`;
}

/** Where a link points; undefined when the path is absent or something else than a link. */
function linkTarget(path: string): string | undefined {
  try {
    return lstatSync(path).isSymbolicLink() ? readlinkSync(path) : undefined;
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}
