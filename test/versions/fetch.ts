// Fetches nft and ip of other releases before the tests, which have no network.
import { keepPackages } from '../debian.ts';
import { pointerOf, releases } from './tools.ts';

for (const release of releases)
  keepPackages(pointerOf(release), { release, programs: ['nftables', 'iproute2'] });
