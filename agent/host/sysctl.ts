import { readIfPresent } from '../port/fs.ts';

/** Reads a kernel setting by its path below /proc/sys (with slashes, since device names may contain dots). */
export function readSysctl(path: string): string | undefined {
  return readIfPresent(`/proc/sys/${path}`)?.trim();
}
