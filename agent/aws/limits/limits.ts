import type { InstanceTypeInfo } from '@aws-sdk/client-ec2';
import { Failure } from '../../messages/failure.ts';
import type { Row, Source, Table } from './table.ts';

/** What EC2 allows an instance of one type in ENIs and addresses. */
export interface InstanceLimits {
  /** ENIs over all network cards; only interesting where `cards` is above 1. */
  enis: number;
  /** ENIs on the default network card, the boot ENI included: the bound that holds for pods. */
  defaultCardEnis: number;
  /** IPv4 addresses, or /28 prefixes in their place, on one ENI, its own primary address included. */
  addressesPerEni: number;
  /** Built on Nitro (every virtual Nitro type and all bare metal): prefixes may be assigned. */
  nitro: boolean;
  /** Network cards. */
  cards: number;
  /** Sustained bandwidth of the default network card in Mbit/s, where a published figure says it: pods use no other card. */
  baselineMbps?: number;
}

/** The limits of an instance type as published, or undefined for a type younger than the table. */
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
 * The limits EC2 itself states for a type (one element of DescribeInstanceTypes' `InstanceTypes`), for types the table
 * does not know. Throws INSTANCE_TYPE_UNKNOWN when the answer is missing or lacks a number.
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

/** 43 KB that a CNI call never needs: read when first asked for. */
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
  // The table has that of all cards. Where those are not alike, as of p6-b300 (one for ENA, 16 for EFA), it leaves a rest.
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
