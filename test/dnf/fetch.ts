// Fetches dnf5 and RPM with all that they need to run, before the tests, which have no network.
import { keepPackages } from '../debian.ts';
import { pointer, release } from './root.ts';

keepPackages(pointer, {
  release,
  programs: [
    ...[
      'dnf5',
      'rpm',
      'createrepo-c',
      'bash',
      'dash',
      'coreutils',
      'sed',
      'grep',
      'gawk',
      'tar',
      'findutils',
    ],
    ...['util-linux', 'libc-bin'],
  ],
});
