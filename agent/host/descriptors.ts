// File descriptors kept back for the end of a boot.
import { closeSync, openSync } from 'node:fs';

/**
 * One file of the status, the folder that is made durable with it, the console, and the three pipes and the status pipe of one
 * program (systemd-notify), twice: pipes have two ends.
 */
const KEPT_BACK = 8;

/**
 * Opens descriptors that nothing uses. A boot that fails because none is left closes them, and can then write its verdict. Holds
 * none where none is left already.
 */
export function holdDescriptors(): { release(): void } {
  const held: number[] = [];
  try {
    while (held.length < KEPT_BACK) held.push(openSync('/dev/null', 'r'));
  } catch {
    // The boot is about to fail, and the descriptors that are held are enough or not.
  }
  return {
    release() {
      for (const descriptor of held.splice(0)) closeSync(descriptor);
    },
  };
}
