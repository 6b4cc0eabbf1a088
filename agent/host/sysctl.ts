import { readFileSync, writeFileSync } from 'node:fs';
import { Failure } from '../messages/failure.ts';
import { hasCode } from '../port/fs.ts';

/** Reads a kernel setting by its path below /proc/sys (slashes, since device names may hold dots). */
export function readSysctl(path: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${path}`, 'utf8').trim();
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

export function writeSysctl(path: string, value: string): void {
  try {
    writeFileSync(`/proc/sys/${path}`, value);
  } catch (error) {
    throw new Failure('KERNEL_CHANGE', `cannot set ${path} to ${value}`, { path, value }, error);
  }
}
