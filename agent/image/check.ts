// The self-test of an image: the last step of its build, and again on an instance booted from it.
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
  /** It has booted from the finished image: its verdict is looked at, instead of what a boot leaves behind. */
  booted: boolean;
  /** Package → version that must be installed. */
  expected: Map<string, string>;
  /** Globs: files below /etc, /root and /var/lib that a build of yours adds. */
  allowed?: readonly string[];
}

/** All findings, also after a failing one. Loads kernel modules and makes a pair of devices for a moment; changes no more. */
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
          skip('hygiene', 'only before the first boot: a boot makes what it looks for'),
          ...(await checkBooted(machine)),
        ]
      : [
          await checkHygiene(machine, options.allowed ?? []),
          ...BOOTED_CHECKS.map((id) => skip(id, 'only an instance of the finished image shows it: --booted')),
        ]),
  ];
}
