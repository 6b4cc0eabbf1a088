// Which calls bring this node's pod ENIs to their target: pure, from what EC2 says is there.
import type { AddressRequest, Eni } from '../aws/ec2.ts';
import type { InstanceLimits } from '../aws/limits/limits.ts';
import { POD_ROLE, ROLE_TAG } from '../aws/tags.ts';
import { Failure } from '../messages/failure.ts';

/** Addresses in one /28 prefix. */
const PREFIX_SIZE = 16;

export interface AttachInput {
  /** Everything attached to the instance, the boot ENI included. */
  attached: Eni[];
  /** Our own ENIs that exist but are attached to nothing: left by a run that was killed. */
  unattached: Eni[];
  limits: InstanceLimits;
  addressing: 'prefixes' | 'addresses';
  /** Addresses wanted in the pool. */
  target: number;
  /** Each pod ENI has to have an IPv6 prefix. */
  ipv6: boolean;
  /** ENIs that EC2 has just refused further addresses. */
  full: ReadonlySet<string>;
}

export type AttachStep = { summary: string } & (
  | { kind: 'protect'; eniId: string; attachmentId: string }
  | { kind: 'assign'; eniId: string; addresses: AddressRequest }
  | { kind: 'assign-ipv6'; eniId: string }
  | { kind: 'adopt'; eniId: string; deviceIndex: number }
  | { kind: 'create'; deviceIndex: number; addresses: AddressRequest }
);

/**
 * Pod ENIs among what is attached: on the default card, not the boot ENI, and tagged as ours. One that is being
 * detached takes up its device index and serves nobody any more.
 */
export function podEnisOf(attached: Eni[]): Eni[] {
  return onDefaultCard(attached)
    .filter((eni) => eni.tags[ROLE_TAG] === POD_ROLE && (eni.attachment?.deviceIndex ?? 0) > 0)
    .filter((eni) => eni.attachment?.status !== 'detaching')
    .sort((a, b) => (a.attachment?.deviceIndex ?? 0) - (b.attachment?.deviceIndex ?? 0));
}

/** ENIs on this card that are neither the boot ENI nor ours: counted, reported, never touched. */
export function foreignEnisOf(attached: Eni[]): Eni[] {
  return onDefaultCard(attached).filter(
    (eni) => eni.attachment?.deviceIndex !== 0 && eni.tags[ROLE_TAG] !== POD_ROLE,
  );
}

/** Pods use the default network card only, and its limit is the one that counts; others are somebody else's. */
export function onDefaultCard(attached: Eni[]): Eni[] {
  return attached.filter((eni) => (eni.attachment?.networkCard ?? 0) === 0);
}

/** Addresses an ENI gives to the pool: its prefixes and secondary addresses. Its primary serves no pod. */
export function poolSizeOf(eni: Eni): number {
  return eni.prefixes.length * PREFIX_SIZE + eni.secondaryAddresses.length;
}

/**
 * The steps to the target: fill attached pod ENIs in order, adopt what an earlier run left, create the rest.
 * At least one pod ENI is always asked for. Stops at the type's limits, so the pool may end below target.
 */
export function planAttach(input: AttachInput): AttachStep[] {
  const pods = podEnisOf(input.attached);
  const steps: AttachStep[] = [];
  let missing = input.target;

  for (const eni of pods) {
    if (eni.attachment !== undefined && !eni.attachment.deleteOnTermination) {
      steps.push({
        kind: 'protect',
        eniId: eni.eniId,
        attachmentId: eni.attachment.attachmentId,
        summary: `set delete-on-termination on ${eni.eniId}`,
      });
    }
    missing -= poolSizeOf(eni);
  }
  for (const eni of pods) {
    if (input.full.has(eni.eniId)) continue;
    const addresses = requestFor(missing, freeSlots(eni, input.limits), input.addressing);
    if (addresses === undefined) continue;
    steps.push({
      kind: 'assign',
      eniId: eni.eniId,
      addresses,
      summary: `assign ${show(addresses)} to ${eni.eniId}`,
    });
    missing -= sizeOf(addresses);
  }
  for (const eni of pods) {
    if (!input.ipv6 || eni.ipv6Prefixes.length > 0) continue;
    steps.push({ kind: 'assign-ipv6', eniId: eni.eniId, summary: `assign an IPv6 prefix to ${eni.eniId}` });
  }

  const present = onDefaultCard(input.attached);
  const used = new Set(present.map((eni) => eni.attachment?.deviceIndex ?? 0));
  let room = input.limits.defaultCardEnis - present.length;
  let podCount = pods.length;
  const nextIndex = () => {
    let index = 1;
    while (used.has(index)) index += 1;
    used.add(index);
    return index;
  };
  for (const eni of input.unattached) {
    if (room <= 0) break;
    const deviceIndex = nextIndex();
    steps.push({
      kind: 'adopt',
      eniId: eni.eniId,
      deviceIndex,
      summary: `attach ${eni.eniId} left by an earlier run at index ${deviceIndex}`,
    });
    room -= 1;
    podCount += 1;
    missing -= poolSizeOf(eni);
  }
  while (room > 0 && (missing > 0 || podCount === 0)) {
    const addresses = requestFor(Math.max(1, missing), input.limits.addressesPerEni - 1, input.addressing);
    if (addresses === undefined) break;
    const deviceIndex = nextIndex();
    steps.push({
      kind: 'create',
      deviceIndex,
      addresses,
      summary: `create an ENI with ${show(addresses)}${input.ipv6 ? ' and an IPv6 prefix' : ''} and attach it at index ${deviceIndex}`,
    });
    room -= 1;
    podCount += 1;
    missing -= sizeOf(addresses);
  }
  if (podCount === 0) {
    throw new Failure(
      'ENI_LIMIT',
      `no room for a pod ENI: ${input.attached.length} of ${input.limits.defaultCardEnis} ENIs are attached`,
      {
        attached: input.attached.map((eni) => eni.eniId),
        limit: input.limits.defaultCardEnis,
      },
    );
  }
  return steps;
}

function freeSlots(eni: Eni, limits: InstanceLimits): number {
  return limits.addressesPerEni - 1 - eni.prefixes.length - eni.secondaryAddresses.length;
}

function requestFor(
  missing: number,
  slots: number,
  kind: 'prefixes' | 'addresses',
): AddressRequest | undefined {
  const wanted = kind === 'prefixes' ? Math.ceil(missing / PREFIX_SIZE) : missing;
  const count = Math.min(wanted, slots);
  return count > 0 ? { kind, count } : undefined;
}

function sizeOf(addresses: AddressRequest): number {
  return addresses.kind === 'prefixes' ? addresses.count * PREFIX_SIZE : addresses.count;
}

function show(addresses: AddressRequest): string {
  return addresses.kind === 'prefixes' ? `${addresses.count} prefixes` : `${addresses.count} addresses`;
}
