// install: the running version is the installed one, its digest is the manifest's, and the runtime finds the
// plugins. A switch of version is one rename of a link; the version before stays.
import { basename } from 'node:path';
import type { Config } from '../config/schema.ts';
import { LIBEXEC_DIR } from '../host/names.ts';
import { linkAtomic, linkIfPresent, readIfPresent } from '../port/fs.ts';
import { type BundleState, readBundle, type Source, stageBundle } from './bundle.ts';
import { checkFiles, type FileDigest, type Manifest, readManifest } from './manifest.ts';
import { type Boot, type Change, type Check, fail, type Phase, pass, skip, warn } from './phase.ts';
import { CURRENT, PLUGIN_DIR, PREVIOUS, runningFolder } from './versions.ts';

interface Observed {
  manifest: Manifest;
  /** Folder of the running version. */
  folder: string;
  digests: FileDigest[];
  /** undefined for a repair: it follows no zone. */
  bundle: BundleState | undefined;
  current: string | undefined;
  /** What `current` should be. */
  version: string;
  links: Record<string, string | undefined>;
}

type Planned = Change & ({ from: string; to: string } | { stage: Source });

export const install: Phase<Observed, Planned> = {
  name: 'install',
  budgetSeconds: 60,

  async observe(boot) {
    const installed = await observeInstalled(runningFolder());
    // Decided once a boot: what mends it later puts links back and follows nothing.
    const bundle =
      boot.bundle ?? (boot.localOnly ? undefined : await readBundle(boot, installed.manifest.version));
    return { ...installed, bundle, version: versionToKeep(boot, installed) };
  },

  plan(observed, boot) {
    const { current, version } = observed;
    const changes: Planned[] = [];
    if (current !== version) {
      // Only where this boot decides about the version: what somebody else left there since is not the one before.
      if (current !== undefined && isFirstLook(boot)) {
        changes.push({ from: PREVIOUS, to: current, summary: `keep ${current} as previous` });
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
    // Last, on top of a version that is whole. The one handed over to makes itself current when it gets this far.
    const source = observed.bundle?.source;
    if (source !== undefined) {
      changes.push({
        stage: source,
        summary: `stage the zone's version ${source.version} and hand this boot over to it`,
      });
    }
    return changes;
  },

  async apply(changes, observed, boot) {
    let { bundle } = observed;
    for (const change of changes) {
      if ('from' in change) linkAtomic(change.from, change.to);
      else if (bundle !== undefined) bundle = await stageBundle(boot, bundle, change.stage);
    }
    boot.bundle = bundle;
  },

  async verify(boot) {
    const observed = await observeInstalled(runningFolder());
    return [
      checkDigests(observed),
      checkPlugins(observed),
      ...checkKeys(boot.config.bundle),
      ...checkBundle(boot.bundle),
    ];
  },
};

function isFirstLook(boot: Boot): boolean {
  return boot.bundle === undefined && !boot.localOnly;
}

/** A boot makes the version that runs the current one. A repair, whoever called it by which path, switches nothing. */
function versionToKeep(boot: Boot, { folder, current }: Pick<Observed, 'folder' | 'current'>): string {
  const standing =
    boot.localOnly &&
    current !== undefined &&
    readIfPresent(`${LIBEXEC_DIR}/${current}/manifest.json`) !== undefined;
  return standing ? current : basename(folder);
}

/** Digests are checked before anything is switched: a damaged version never becomes current. */
async function observeInstalled(folder: string): Promise<Omit<Observed, 'bundle' | 'version'>> {
  const manifest = readManifest(folder);
  return {
    manifest,
    folder,
    digests: await checkFiles(folder, manifest),
    current: linkIfPresent(CURRENT),
    links: Object.fromEntries(manifest.plugins.map((name) => [name, linkIfPresent(`${PLUGIN_DIR}/${name}`)])),
  };
}

function checkBundle(bundle: BundleState | undefined): Check[] {
  // While a version is staged nothing is known against it: it is handed this boot.
  if (bundle?.reason === undefined) return [];
  const evidence = { running: bundle.running, wanted: bundle.wanted };
  return [
    warn(
      'bundle',
      `behind the zone: running ${bundle.running}, wanted ${bundle.wanted ?? 'unknown'}: ${bundle.reason}`,
      evidence,
    ),
  ];
}

/** Not a warning: signatures are a choice. But nobody should believe to have made it. */
function checkKeys(bundle: Config['bundle']): Check[] {
  if (bundle === undefined) return [];
  const { keys, lowest } = bundle;
  return [
    keys.length === 0
      ? skip('bundle-keys', 'versions need no signature: bundle.keys is empty')
      : pass('bundle-keys', `a version must be signed by one of ${keys.length} keys`, { keys, lowest }),
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
