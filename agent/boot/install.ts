// install: the running version is the installed one, its digest is the manifest's, and the runtime finds the
// plugins. A switch of version is one rename of a link; the version before stays.
import { lstatSync, readlinkSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { LIBEXEC_DIR } from '../host/names.ts';
import { hasCode, linkAtomic } from '../port/fs.ts';
import { invocation } from '../port/runtime.ts';
import { type BundleState, followBundle } from './bundle.ts';
import { checkFiles, type FileDigest, type Manifest, readManifest } from './manifest.ts';
import { type Change, type Check, fail, type Phase, pass, warn } from './phase.ts';

const PLUGIN_DIR = '/opt/cni/bin';
const CURRENT = `${LIBEXEC_DIR}/current`;
const PREVIOUS = `${LIBEXEC_DIR}/previous`;

interface Observed {
  manifest: Manifest;
  /** Folder of the running version. */
  folder: string;
  digests: FileDigest[];
  bundle: BundleState;
  current: string | undefined;
  links: Record<string, string | undefined>;
}

type Planned = Change & { from: string; to: string };

export const install: Phase<Observed, Planned> = {
  name: 'install',
  budgetSeconds: 60,

  async observe(boot) {
    const folder = runningFolder();
    const bundle = await followBundle(boot, readManifest(folder).version);
    return { ...(await observeInstalled(folder)), bundle };
  },

  plan(observed) {
    const changes: Planned[] = [];
    // A staged version is handed over to, and installs its own plugins.
    const version = basename(observed.bundle.staged ?? observed.folder);
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
      if (target === executableLink() || observed.bundle.staged !== undefined) continue;
      changes.push({
        from: `${PLUGIN_DIR}/${name}`,
        to: executableLink(),
        summary: `install plugin ${name}`,
      });
    }
    return changes;
  },

  async apply(changes, observed, boot) {
    for (const change of changes) linkAtomic(change.from, change.to);
    boot.bundle = observed.bundle;
  },

  async verify(boot) {
    const observed = await observeInstalled(runningFolder());
    // A staged version installs its own plugins once it has taken over.
    const plugins = boot.bundle?.staged === undefined ? [checkPlugins(observed)] : [];
    return [checkDigests(observed), ...plugins, ...checkBundle(boot.bundle)];
  },
};

/** Points `current` back at the version that runs: the one handed over to did not come up. */
export function takeBack(): void {
  linkAtomic(CURRENT, basename(runningFolder()));
}

/** The folder of the running version; its manifest lies beside the executable. */
function runningFolder(): string {
  return dirname(invocation().executable);
}

/** Digests are checked before anything is switched: a damaged version never becomes current. */
async function observeInstalled(folder: string): Promise<Omit<Observed, 'bundle'>> {
  const manifest = readManifest(folder);
  return {
    manifest,
    folder,
    digests: await checkFiles(folder, manifest),
    current: linkTarget(CURRENT),
    links: Object.fromEntries(manifest.plugins.map((name) => [name, linkTarget(`${PLUGIN_DIR}/${name}`)])),
  };
}

function checkBundle(bundle: BundleState | undefined): Check[] {
  if (bundle === undefined || bundle.wanted === bundle.running) return [];
  if (bundle.wanted === undefined && bundle.reason === undefined) return [];
  const evidence = { running: bundle.running, wanted: bundle.wanted };
  return [
    warn(
      'bundle',
      `behind the zone: running ${bundle.running}, wanted ${bundle.wanted ?? 'unknown'}: ${bundle.reason}`,
      evidence,
    ),
  ];
}

function checkDigests(observed: Pick<Observed, 'manifest' | 'digests'>): Check {
  return pass('digest', `version ${observed.manifest.version} matches its manifest`, {
    version: observed.manifest.version,
    digests: observed.digests,
  });
}

function checkPlugins(observed: Pick<Observed, 'manifest' | 'links'>): Check {
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
