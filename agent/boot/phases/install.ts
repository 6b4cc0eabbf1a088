// install: the running version is the installed one, its digests are those of the manifest, and the runtime finds the plugins.
// A switch of version is one rename of a link; the version before stays.
import { basename } from 'node:path';
import type { Config } from '../../config/schema.ts';
import { LIBEXEC_DIR } from '../../host/names.ts';
import { linkIfPresent, readIfPresent } from '../../port/fs.ts';
import type { Change } from '../change.ts';
import type { Context, Mode } from '../context.ts';
import type { BundleState } from '../facts/bundle-state.ts';
import type { NodeFacts } from '../facts/facts.ts';
import { type Check, fail, type Phase, pass, skip, warn } from '../phase.ts';
import { readBundle } from '../version/bundle.ts';
import { checkFiles, type FileDigest, type Manifest, readManifest } from '../version/manifest.ts';
import { CURRENT, PLUGIN_DIR, PREVIOUS, runningFolder } from '../version/versions.ts';

const EXECUTABLE_LINK = `${CURRENT}/eniboot`;

interface Installed {
  manifest: Manifest;
  /** Folder of the running version. */
  folder: string;
  digests: FileDigest[];
  current: string | undefined;
  /** Where each plugin's link leads. */
  links: Record<string, string | undefined>;
}

interface Observed extends Installed {
  /** undefined on a node that is looked at as it booted: that look does not follow the zone. */
  bundle: BundleState | undefined;
  /** The version to which `current` should lead. */
  version: string;
  /** This look decides about the version. A later look, or a repair, restores links and does not follow the zone. */
  decides: boolean;
}

export function install(context: Context, node: NodeFacts): Phase<Observed> {
  const { mode, bundle: begun } = context;
  return {
    name: 'install',

    async observe() {
      const installed = await observeInstalled(runningFolder());
      const decides = context.bundle === undefined && !mode.asBooted;
      if (decides) context.bundle = await readBundle(context, node, installed.manifest.version);
      return { ...installed, bundle: context.bundle, version: versionToKeep(mode, installed), decides };
    },

    plan: (observed) => [
      ...planCurrent(observed),
      ...planPlugins(observed.links),
      ...planStaging(node, observed.bundle),
    ],

    judge: (observed) => [
      checkDigests(observed),
      checkPlugins(observed),
      ...checkKeys(node.config.bundle),
      ...checkBundle(observed.bundle),
    ],

    forget() {
      context.bundle = begun;
    },
  };
}

function planCurrent({ current, version, decides }: Observed): Change[] {
  if (current === version) return [];
  const change: Change = { do: 'link', path: CURRENT, target: version, summary: `make ${version} current` };
  // When this look does not decide, another program has changed the link: its target is not the version before.
  if (current === undefined || !decides) return [change];
  return [{ do: 'link', path: PREVIOUS, target: current, summary: `keep ${current} as previous` }, change];
}

function planPlugins(links: Observed['links']): Change[] {
  return Object.entries(links)
    .filter(([, target]) => target !== EXECUTABLE_LINK)
    .map(([name]) => ({
      do: 'link',
      path: `${PLUGIN_DIR}/${name}`,
      target: EXECUTABLE_LINK,
      summary: `install plugin ${name}`,
    }));
}

/**
 * Staging comes last, when the running version is whole. The version that takes over makes itself current when its boot gets
 * this far.
 */
function planStaging(node: NodeFacts, bundle: BundleState | undefined): Change[] {
  if (bundle?.source === undefined) return [];
  const { source } = bundle;
  const summary = `stage the zone's version ${source.version} and hand this boot over to it`;
  return [{ do: 'stage', source, node, summary }];
}

/** A boot makes the running version the current one. A repair does not switch, whatever path it was called by. */
function versionToKeep({ kind }: Mode, { folder, current }: Installed): string {
  const standing =
    kind === 'repair' &&
    current !== undefined &&
    readIfPresent(`${LIBEXEC_DIR}/${current}/manifest.json`) !== undefined;
  return standing ? current : basename(folder);
}

/** Digests are checked before anything is switched: a damaged version never becomes current. */
async function observeInstalled(folder: string): Promise<Installed> {
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
  // A staged version is still going to get this boot, so there is nothing to report.
  if (bundle?.reason === undefined) return [];
  const { running, wanted, reason } = bundle;
  const what = `running ${running}, wanted ${wanted ?? 'unknown'}: ${reason}`;
  return [warn('bundle', `behind the zone: ${what}`, { running, wanted })];
}

/** Not a warning, since unsigned bundles are a choice. The row makes sure that the operator knows of it. */
function checkKeys(bundle: Config['bundle']): Check[] {
  if (bundle === undefined) return [];
  const { keys, lowest } = bundle;
  return [
    keys.length === 0
      ? skip('bundle-keys', 'versions need no signature: bundle.keys is empty')
      : pass('bundle-keys', `a version must be signed by one of ${keys.length} keys`, { keys, lowest }),
  ];
}

function checkDigests({ manifest, digests }: Installed): Check {
  const { version } = manifest;
  return pass('digest', `version ${version} matches its manifest`, { version, digests });
}

function checkPlugins({ links, manifest: { plugins } }: Installed): Check {
  const wrong = Object.entries(links).filter(([, target]) => target !== EXECUTABLE_LINK);
  if (wrong.length === 0) return pass('plugins', `${plugins.length} plugins in ${PLUGIN_DIR}`, { plugins });
  const names = wrong.map(([name]) => name).join(', ');
  return fail('plugins', 'PLUGINS_MISSING', `not installed in ${PLUGIN_DIR}: ${names}`, { links });
}
