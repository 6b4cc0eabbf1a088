import { spawnSync } from 'node:child_process';

/** The Go command, on the PATH or in the folder of Go's own archive; undefined when it is not installed. */
export function goCommand(): string | undefined {
  return ['go', '/usr/local/go/bin/go'].find((name) => spawnSync(name, ['version']).status === 0);
}
