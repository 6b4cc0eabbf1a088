// The address pool on a node, read as files, and the content that EC2's assignments require.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { POD_ROLE, ROLE_TAG } from '../../../agent/aws/tags.ts';
import { rangeOf, toAddress } from '../../../agent/host/ipv4.ts';
import type { Instance } from '../../aws/index.ts';

const POOL = '/run/eniboot/pool';

export interface PoolContent {
  /** Lines `<eni> <cidr>`, sorted. */
  owned: string[];
  /** Addresses in free, leased, cooling and retiring, sorted; an address in two folders is twice in the list. */
  addresses: string[];
  /** Prefixes whose entries are not all in place yet. */
  adding: string[];
}

export function poolOf(instance: Instance): PoolContent {
  const list = (path: string) => names(join(instance.root, POOL, path));
  return {
    owned: list('owned')
      .flatMap((eni) => list(`owned/${eni}`).map((cidr) => `${eni} ${cidr.replace('-', '/')}`))
      .sort(),
    addresses: ['free', 'leased', 'cooling', 'retiring']
      .flatMap(list)
      .map((name) => name.split(',')[0] ?? '')
      .sort(),
    adding: list('adding'),
  };
}

/** What EC2 has assigned to the pod ENIs attached to the instance. */
export function poolInEc2(instance: Instance): PoolContent {
  const pods = instance.enis.filter((eni) => eni.tags.get(ROLE_TAG) === POD_ROLE);
  const owned = pods.flatMap((eni) =>
    [...eni.prefixes, ...eni.secondaryIps.map((address) => `${address}/32`)].map((cidr) => ({
      eni: eni.id,
      cidr,
    })),
  );
  return {
    owned: owned.map(({ eni, cidr }) => `${eni} ${cidr}`).sort(),
    addresses: owned
      .flatMap(({ cidr }) => {
        const { first, last } = rangeOf(cidr);
        return Array.from({ length: last - first + 1 }, (_, at) => toAddress(first + at));
      })
      .sort(),
    adding: [],
  };
}

function names(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
