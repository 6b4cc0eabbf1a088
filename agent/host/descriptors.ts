// File descriptors kept back for the end of a boot.
import { closeSync, openSync } from 'node:fs';

/**
 * The most descriptors that the verdict needs at once: the start of systemd-notify takes three pipes and a status pipe, each with
 * two ends. The status file, its folder and the console are opened one after another.
 */
const KEPT_BACK = 8;

/**
 * Opens descriptors that nothing uses. A boot that fails because none is left closes them, and can then write its verdict. When
 * fewer are free, it holds fewer.
 */
export function holdDescriptors(): { release(): void } {
  const held: number[] = [];
  try {
    while (held.length < KEPT_BACK) held.push(openSync('/dev/null', 'r'));
  } catch {
    // No further descriptor is free. The verdict has to be written with those that are held.
  }
  return {
    release() {
      for (const descriptor of held.splice(0)) closeSync(descriptor);
    },
  };
}
