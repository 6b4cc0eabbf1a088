// nft and ip of other releases, started by their own loader with their own libraries, as other programs on a node have them.
// kube-proxy's image had nft 1.0.6 of bookworm while nodes wrote with newer ones.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../../agent/build/cache.ts';
import { keptRoot } from '../debian.ts';

export const releases = ['bookworm', 'trixie', 'forky'] as const;
export type Release = (typeof releases)[number];

/** The file that names the folder in use for a release. */
export function pointerOf(release: Release): string {
  return join(cacheFolder('versions'), release);
}

/** A command line, without arguments, that starts `tool` of that release. */
export function commandOf(release: Release, tool: 'nft' | 'ip'): string[] {
  const root = keptRoot(pointerOf(release), 'test/versions/fetch.ts');
  const libraries = ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu', 'usr/lib/aarch64-linux-gnu']
    .map((path) => join(root, path))
    .filter((path) => namesIn(path).length > 0);
  const loader = libraries
    .flatMap((path) => namesIn(path).map((name) => join(path, name)))
    .find((path) => /\/ld-linux-[\w-]+\.so\.\d$/.test(path));
  const program = ['usr/sbin', 'sbin', 'usr/bin', 'bin']
    .flatMap((path) => (namesIn(join(root, path)).includes(tool) ? [join(root, path, tool)] : []))
    .at(0);
  if (loader === undefined || program === undefined)
    throw new Error(
      `${release} has no ${tool} in ${root}: run \`node test/versions/fetch.ts\` with a network`,
    );
  return [loader, '--library-path', libraries.join(':'), program];
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
