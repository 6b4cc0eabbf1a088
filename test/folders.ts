// Which folder of the product imports which: in one direction only, so that a reader knows what a folder can do
// without the ones above it.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';

/** A circle of folders that import one another; undefined when there is none. */
export function folderCircle(root: string): string | undefined {
  const imports = importsByFolder(root);
  const visit = (folder: string, path: string[]): string | undefined => {
    if (path.includes(folder)) return [...path.slice(path.indexOf(folder)), folder].join(' → ');
    for (const next of imports.get(folder) ?? []) {
      const found = visit(next, [...path, folder]);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  for (const folder of imports.keys()) {
    const found = visit(folder, []);
    if (found !== undefined) return `folders import one another: ${found}\n`;
  }
  return undefined;
}

function importsByFolder(root: string): Map<string, Set<string>> {
  const folders = new Map<string, Set<string>>();
  for (const top of ['agent', 'cni']) {
    for (const name of readdirSync(join(root, top), { recursive: true, encoding: 'utf8' })) {
      if (!name.endsWith('.ts')) continue;
      const file = join(root, top, name);
      const from = folderOf(relative(root, file));
      const seen = folders.get(from) ?? new Set();
      folders.set(from, seen);
      for (const [, path = ''] of readFileSync(file, 'utf8').matchAll(/(?:from |import\()'(\.[^']+)'/g)) {
        const to = folderOf(relative(root, join(dirname(file), path)));
        if (to !== from) seen.add(to);
      }
    }
  }
  return folders;
}

/** `agent/host` of `agent/host/netlink/ip.ts`; `cni` and `agent` of what lies right in them. */
function folderOf(path: string): string {
  const [top = '', ...rest] = dirname(path).split(sep);
  return top === 'agent' && rest[0] !== undefined ? `${top}/${rest[0]}` : top;
}
