// Fetches the real units the graph is proven against: systemd and udev with what they need to run, and the units of
// cloud-init, NetworkManager and others. Run before the tests, which have no network. Kept for a week; without a
// network an older copy serves.
import { existsSync, mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { unpackPackages } from '../debian.ts';
import { pointerOf, type Release, releases, unitCache } from './releases.ts';

/** Taken with all they depend on: these run, in a root of their own. libseccomp2 is only opened at run time. */
const programs = ['systemd', 'udev', 'libseccomp2', 'dash', 'coreutils', 'util-linux'];
/** Taken alone, for their units. */
const services = [
  'cloud-init',
  'network-manager',
  'dbus',
  'openssh-server',
  'chrony',
  'nftables',
  'firewalld',
  'systemd-resolved',
];
const weekMs = 7 * 24 * 3600 * 1000;

function fetchRelease(release: Release): string {
  const key = unpackPackages(unitCache, {
    release,
    programs,
    alone: services,
    unneeded: ['python3', 'firewalld', 'x86_64-linux-gnu/gconv', '../share/perl5'].map(
      (path) => `usr/lib/${path}`,
    ),
  });
  writeFileSync(`${pointerOf(release)}.tmp`, `${key}\n`);
  renameSync(`${pointerOf(release)}.tmp`, pointerOf(release));
  return join(unitCache, key);
}

function isFresh(release: Release): boolean {
  return existsSync(pointerOf(release)) && Date.now() - statSync(pointerOf(release)).mtimeMs < weekMs;
}

mkdirSync(unitCache, { recursive: true });
for (const release of releases.filter((one) => !isFresh(one))) {
  try {
    process.stdout.write(`${release}: ${fetchRelease(release)}\n`);
  } catch (error) {
    if (!existsSync(pointerOf(release))) throw error;
    process.stdout.write(`${release}: no newer packages to be had, the last ones are used\n`);
  }
}
