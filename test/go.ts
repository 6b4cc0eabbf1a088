import { spawnSync } from 'node:child_process';

/** The Go command, on the path or where its own archive puts it; undefined where it is not installed. */
export function goCommand(): string | undefined {
  return ['go', '/usr/local/go/bin/go'].find((name) => spawnSync(name, ['version']).status === 0);
}
