// The self-test of an image: it runs as the last step of the build, and again on an instance booted from the image.
import { type Check, skip } from '../boot/phase.ts';
import { checkCapabilities } from './check-capabilities.ts';
import {
  BOOTED_CHECKS,
  checkBooted,
  checkDigests,
  checkKubeletVersion,
  checkVersions,
} from './check-contents.ts';
import { checkHygiene } from './check-hygiene.ts';
import {
  checkCgroup,
  checkConsole,
  checkDisk,
  checkEnabled,
  checkFreshDevice,
  checkListening,
  checkModules,
  checkSelinux,
  checkSwap,
  checkSysctls,
  checkUnitGraph,
} from './check-system.ts';
import type { Machine } from './machine.ts';

export interface ImageCheckOptions {
  /** The machine has booted from the finished image: its verdict is checked, and no files of a boot are looked for. */
  booted: boolean;
  /** Package → version that must be installed. */
  expected: Map<string, string>;
  /** Globs: files below /etc, /root and /var/lib that the operator's build adds. */
  allowed?: readonly string[];
}

/** All results, even after a failure. Loads kernel modules and makes a pair of devices for a moment; changes nothing else. */
export async function checkImage(machine: Machine, options: ImageCheckOptions): Promise<Check[]> {
  return [
    await checkModules(machine),
    await checkUnitGraph(machine),
    await checkEnabled(machine),
    ...(await checkSelinux(machine)),
    checkSwap(machine),
    checkConsole(machine, options.booted),
    await checkListening(machine),
    checkSysctls(machine),
    checkCapabilities(machine),
    checkCgroup(machine),
    await checkDigests(machine),
    await checkVersions(machine, options.expected),
    await checkKubeletVersion(machine),
    checkDisk(machine),
    await checkFreshDevice(machine),
    ...(options.booted
      ? [
          skip('hygiene', 'only before the first boot: a boot makes such files'),
          ...(await checkBooted(machine)),
        ]
      : [
          await checkHygiene(machine, options.allowed ?? []),
          ...BOOTED_CHECKS.map((id) => skip(id, 'only an instance of the finished image shows it: --booted')),
        ]),
  ];
}
