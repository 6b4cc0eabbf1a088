// Fetches the real units that the graph is tested with: systemd and udev with all that they need to run, and the units of
// cloud-init, NetworkManager and others. Run before the tests, which have no network.
import { keepPackages } from '../debian.ts';
import { pointerOf, releases } from './releases.ts';

/** Fetched with all dependencies: these run, in a root of their own. libseccomp2 is only opened at run time. */
const programs = ['systemd', 'udev', 'libseccomp2', 'dash', 'coreutils', 'util-linux'];
/** Fetched without dependencies, for their units. */
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

for (const release of releases)
  keepPackages(pointerOf(release), {
    release,
    programs,
    alone: services,
    unneeded: ['python3', 'firewalld', 'x86_64-linux-gnu/gconv', '../share/perl5'].map(
      (path) => `usr/lib/${path}`,
    ),
  });
