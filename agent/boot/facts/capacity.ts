import type { InstanceLimits } from '../../aws/limits/limits.ts';
import type { Config } from '../../config/schema.ts';
import { Failure } from '../../messages/failure.ts';

/** Addresses in the /28 that one slot of an ENI holds with prefixes. */
const prefixSize = 16;

export interface Capacity {
  /** What a slot holds: a /28 prefix or one address. */
  unit: 'prefixes' | 'addresses';
  /** ENIs for pods: all that the default card allows, without the boot ENI, which belongs to the control plane. */
  podEnis: number;
  /** Prefixes or addresses that these ENIs hold beside their own primary addresses. */
  slots: number;
  /** Pod addresses in those slots. */
  addresses: number;
  /** The number of pods that kubelet is told. */
  maxPods: number;
  /** What limits `maxPods`: EC2's limits for this type, or the configured `pods.max`. */
  limitedBy: 'enis' | 'cap';
  /** The calculation in one line, for people. */
  explain: string;
}

/**
 * How many pods can have an address of their own: (ENIs - 1) x (addresses per ENI - 1), x 16 with prefixes, capped by `max`.
 * Throws PREFIXES_UNSUPPORTED when prefixes are configured for a type without Nitro, and NO_POD_CAPACITY when the type has no
 * room for a pod ENI.
 */
export function capacity(
  limits: InstanceLimits,
  addressing: 'auto' | 'prefixes' | 'addresses',
  max: number,
): Capacity {
  if (addressing === 'prefixes' && !limits.nitro)
    throw new Failure('PREFIXES_UNSUPPORTED', 'EC2 assigns prefixes on Nitro instance types only', {
      limits,
    });
  const unit = addressing === 'addresses' || !limits.nitro ? 'addresses' : 'prefixes';
  const podEnis = limits.defaultCardEnis - 1;
  const slots = podEnis * (limits.addressesPerEni - 1);
  if (slots < 1)
    throw new Failure('NO_POD_CAPACITY', 'this instance type has no room for a pod ENI beside the boot ENI', {
      limits,
    });
  const addresses = unit === 'prefixes' ? slots * prefixSize : slots;
  const limitedBy = addresses < max ? 'enis' : 'cap';
  const maxPods = Math.min(addresses, max);
  const product =
    `(${limits.defaultCardEnis} ENIs${limits.cards > 1 ? ' on the default card' : ''} - 1 boot ENI)` +
    ` x (${limits.addressesPerEni} - 1) ${unit}${unit === 'prefixes' ? ` x ${prefixSize}` : ''} = ${addresses}`;
  const explain = limitedBy === 'cap' ? `${product}, capped at ${max} by pods.max` : product;
  return { unit, podEnis, slots, addresses, maxPods, limitedBy, explain };
}

/** What this instance can address: each ENI that eniboot did not make takes a slot away. `foreign` is their number. */
export function capacityOf(
  limits: InstanceLimits,
  { addressing, max }: Config['pods'],
  foreign: number,
): Capacity {
  if (foreign === 0) return capacity(limits, addressing, max);
  // When no slot is left, attach fails with ENI_LIMIT, which says more than a capacity of 0.
  const defaultCardEnis = Math.max(2, limits.defaultCardEnis - foreign);
  const left = capacity({ ...limits, defaultCardEnis }, addressing, max);
  return { ...left, explain: `${left.explain}; ${foreign} more not eniboot's` };
}

/** Addresses wanted in the pool: the configured number, or one for each pod that kubelet may run. */
export function targetOf({ target }: Config['pool'], { maxPods }: Capacity): number {
  return Math.min(target ?? Number.POSITIVE_INFINITY, maxPods);
}
