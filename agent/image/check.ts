// The self-test of an image: the last step of its build, and again on an instance booted from it.
import { type Check, skip } from '../boot/phase.ts';
import { checkCapabilities } from './check-capabilities.ts';
import { BOOTED_CHECKS, checkBooted, checkDigests, checkHygiene, checkVersions } from './check-contents.ts';
import {
  checkCgroup,
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
}

/** All findings, also after a failing one. Loads kernel modules and makes a pair of devices for a moment; changes no more. */
export async function checkImage(machine: Machine, options: ImageCheckOptions): Promise<Check[]> {
  return [
    await checkModules(machine),
    await checkUnitGraph(machine),
    await checkEnabled(machine),
    ...(await checkSelinux(machine)),
    checkSwap(machine),
    await checkListening(machine),
    checkSysctls(machine),
    checkCapabilities(machine),
    checkCgroup(machine),
    await checkDigests(machine),
    await checkVersions(machine, options.expected),
    checkDisk(machine),
    await checkFreshDevice(machine),
    ...(options.booted
      ? [
          skip('hygiene', 'only before the first boot: a boot makes what it looks for'),
          ...(await checkBooted(machine)),
        ]
      : [
          checkHygiene(machine),
          ...BOOTED_CHECKS.map((id) => skip(id, 'only an instance of the finished image shows it: --booted')),
        ]),
  ];
}
