import type { InstanceTypeInfo } from '@aws-sdk/client-ec2';
import { Failure } from '../../messages/failure.ts';
import type { Row, Source, Table } from './table.ts';

/** How many ENIs and addresses EC2 allows an instance of one type. */
export interface InstanceLimits {
  /** ENIs on all network cards; differs from `defaultCardEnis` only where `cards` is above 1. */
  enis: number;
  /** ENIs on the default network card, the boot ENI included: the limit for pods. */
  defaultCardEnis: number;
  /** IPv4 addresses, or /28 prefixes in their place, on one ENI, with its primary address. */
  addressesPerEni: number;
  /** Built on Nitro (every virtual Nitro type and all bare metal): prefixes may be assigned. */
  nitro: boolean;
  /** Number of network cards. */
  cards: number;
  /** Sustained bandwidth of the default network card in Mbit/s, where it is published: pods use no other card. */
  baselineMbps?: number;
}

/** The published limits of an instance type; undefined for a type that is newer than the table. */
export async function limitsOf(type: string): Promise<InstanceLimits | undefined> {
  const { types } = await loadTable();
  const row = Object.hasOwn(types, type) ? types[type] : undefined;
  return row === undefined ? undefined : fromRow(row);
}

/** Where the table comes from, with the day each source was published. */
export async function limitsSources(): Promise<Source[]> {
  return (await loadTable()).sources;
}

/**
 * The limits from one element of DescribeInstanceTypes' `InstanceTypes`, for types that are not in the table. Throws
 * INSTANCE_TYPE_UNKNOWN when the element or a number in it is missing.
 */
export function limitsFromDescribe(type: string, info: InstanceTypeInfo | undefined): InstanceLimits {
  const network = info?.NetworkInfo;
  const cards = network?.NetworkCards ?? [];
  const defaultIndex = network?.DefaultNetworkCardIndex ?? 0;
  const defaultCard = cards.find((card) => (card.NetworkCardIndex ?? 0) === defaultIndex);
  const enis = network?.MaximumNetworkInterfaces;
  const defaultCardEnis = defaultCard?.MaximumNetworkInterfaces ?? (cards.length <= 1 ? enis : undefined);
  const addressesPerEni = network?.Ipv4AddressesPerInterface;
  if (enis === undefined || defaultCardEnis === undefined || addressesPerEni === undefined)
    throw new Failure('INSTANCE_TYPE_UNKNOWN', `EC2 does not state the network limits of ${type}`, {
      instanceType: type,
      enis,
      defaultCardEnis,
      addressesPerEni,
    });
  // "The baseline network performance of the network card". Source: EC2 API reference, NetworkCardInfo.
  const gbps = defaultCard?.BaselineBandwidthInGbps;
  return {
    enis,
    defaultCardEnis,
    addressesPerEni,
    nitro: info?.Hypervisor === 'nitro' || info?.BareMetal === true,
    cards: Math.max(1, cards.length),
    ...(gbps === undefined ? {} : { baselineMbps: Math.round(gbps * 1000) }),
  };
}

/** The table has 43 KB that a CNI call never needs: it is read on first use. */
async function loadTable(): Promise<Table> {
  const { default: table } = await import('./limits.generated.json', { with: { type: 'json' } });
  return table as unknown as Table;
}

function fromRow([
  defaultCardEnis,
  addressesPerEni,
  nitro,
  baselineMbps,
  cards = 1,
  enis = defaultCardEnis,
]: Row) {
  // The table has the bandwidth of all cards. Where cards differ, as on p6-b300 (one for ENA, 16 for EFA), the division leaves
  // a remainder.
  const ofCard = baselineMbps / cards;
  return {
    enis,
    defaultCardEnis,
    addressesPerEni,
    nitro: nitro === 1,
    cards,
    ...(ofCard === 0 || !Number.isInteger(ofCard) ? {} : { baselineMbps: ofCard }),
  } satisfies InstanceLimits;
}
