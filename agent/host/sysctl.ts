import { writeFileSync } from 'node:fs';
import { Failure } from '../messages/failure.ts';
import { readIfPresent } from '../port/fs.ts';

/** Reads a kernel setting by its path below /proc/sys (slashes, since device names may hold dots). */
export function readSysctl(path: string): string | undefined {
  return readIfPresent(`/proc/sys/${path}`)?.trim();
}

export function writeSysctl(path: string, value: string): void {
  try {
    writeFileSync(`/proc/sys/${path}`, value);
  } catch (error) {
    throw new Failure('KERNEL_CHANGE', `cannot set ${path} to ${value}`, { path, value }, error);
  }
}
