import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildBundles } from '../build/executable.ts';

const root = join(import.meta.dirname, '../..');

/** The template reads the digests of both bundles and of the node files; tests leave a build of one CPU without a bundle. Builds what is missing. */
export function ensureBundles(say: (line: string) => void): void {
  if (isBuilt()) return;
  say('npm run build (the template reads its manifest)');
  buildBundles();
}

function isBuilt(): boolean {
  const manifest = join(root, 'dist/manifest.json');
  if (!existsSync(manifest)) return false;
  const { files } = JSON.parse(readFileSync(manifest, 'utf8')) as { files: Record<string, unknown> };
  const needed = ['-x64.tar.gz', '-arm64.tar.gz', 'node-files.tar'];
  return needed.every((end) => Object.keys(files).some((name) => name.endsWith(end)));
}
