// Licences of the npm packages that are bundled into the executable, from the lock file and their own words.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const ALLOWED = new Set(['MIT', 'Apache-2.0', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD']);

interface Package {
  name: string;
  version: string;
  licence: string;
}

/** Production packages whose licence is not on the list; undefined when there is none. */
export function licenceProblems(root: string): string | undefined {
  const bad = bundled(root).filter((one) => !ALLOWED.has(one.licence));
  return bad.length === 0
    ? undefined
    : bad.map((one) => `${one.name}@${one.version}: ${one.licence}\n`).join('');
}

export function licencesPage(root: string): string {
  const rows = bundled(root).map((one) => `| ${one.name} | ${one.version} | ${one.licence} |\n`);
  return `# Licences of bundled npm packages

Written by \`node test/licences.ts --write\`; \`npm run check\` refuses a licence outside ${[...ALLOWED].join(', ')}.
What the runtime links in stands in [NOTICE](../NOTICE).

| package | version | licence |
|---|---|---|
${rows.join('')}`;
}

function bundled(root: string): Package[] {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { version?: string; dev?: boolean; optional?: boolean; license?: string }>;
  };
  const seen = new Map<string, Package>();
  for (const [path, entry] of Object.entries(lock.packages)) {
    if (path === '' || entry.dev === true || entry.optional === true) continue;
    const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
    const version = entry.version ?? '';
    seen.set(`${name}@${version}`, { name, version, licence: entry.license ?? 'none stated' });
  }
  return [...seen.values()].sort(
    (a, b) => a.name.localeCompare(b.name) || a.version.localeCompare(b.version),
  );
}

if (import.meta.main) {
  const root = join(import.meta.dirname, '..');
  writeFileSync(join(root, 'docs/licences.md'), licencesPage(root));
}
