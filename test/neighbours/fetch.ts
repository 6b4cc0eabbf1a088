// Fetches the programs before the tests, which have no network.
import { keepPackages } from '../debian.ts';
import { pointer, release } from './programs.ts';

keepPackages(pointer, { release, programs: ['firewalld', 'dbus'] });
