// Which calls bring this node's pod ENIs to their target: pure, from what EC2 shows.
import type { AddressRequest, Eni } from '../../../aws/ec2.ts';
import type { InstanceLimits } from '../../../aws/limits/limits.ts';
import { POD_ROLE, ROLE_TAG } from '../../../aws/tags.ts';
import { Failure } from '../../../messages/failure.ts';
import type { AttachStep, ResumptionStep } from '../../change.ts';
import type { OpenAttempt } from './attempts.ts';

/** Addresses in one /28 prefix. */
const PREFIX_SIZE = 16;

export interface AttachInput {
  /** Everything attached to the instance, the boot ENI included. */
  attached: readonly Eni[];
  /** This node's pod ENIs that are attached to nothing: a killed run left them. */
  unattached: readonly Eni[];
  limits: InstanceLimits;
  addressing: 'prefixes' | 'addresses';
  /** Addresses wanted in the pool. */
  target: number;
  /** Each pod ENI must have an IPv6 prefix. */
  ipv6: boolean;
  /** ENIs that EC2 has just refused further addresses. */
  full: ReadonlySet<string>;
  /** EC2 has just refused a further ENI. */
  exhausted: boolean;
}

/** What to do about requests of a killed run, before anything else is planned. */
export function planResumption(open: readonly OpenAttempt[]): ResumptionStep[] {
  return open.flatMap(({ attempt, eni }): ResumptionStep[] => {
    const { eniId } = attempt;
    if (eniId === undefined) {
      const summary = `ask EC2 again for the ENI in ${attempt.request.subnetId} that an earlier run asked for`;
      return [{ kind: 'repeat', attempt, summary }];
    }
    if (eni !== undefined && eni.attachment === undefined) return [];
    const what = eni === undefined ? 'does not know it' : 'shows it attached';
    return [{ kind: 'strike', attempt, summary: `strike ${eniId} off the ENIs asked for: EC2 ${what}` }];
  });
}

/**
 * The pod ENIs among the attached: on the default card, not the boot ENI, and with eniboot's tag. An ENI that is being detached
 * still takes up its device index, but no longer serves pods.
 */
export function podEnisOf(attached: readonly Eni[]): Eni[] {
  return onDefaultCard(attached)
    .filter((eni) => eni.tags[ROLE_TAG] === POD_ROLE && (eni.attachment?.deviceIndex ?? 0) > 0)
    .filter((eni) => eni.attachment?.status !== 'detaching')
    .sort((a, b) => (a.attachment?.deviceIndex ?? 0) - (b.attachment?.deviceIndex ?? 0));
}

/** Foreign ENIs: on this card, neither the boot ENI nor a pod ENI. They are counted, reported and never touched. */
export function foreignEnisOf(attached: readonly Eni[]): Eni[] {
  return onDefaultCard(attached).filter(
    (eni) => eni.attachment?.deviceIndex !== 0 && eni.tags[ROLE_TAG] !== POD_ROLE,
  );
}

/**
 * Pods use only the default network card, and its limit is the one that counts. ENIs on other cards are not eniboot's to touch.
 */
export function onDefaultCard(attached: readonly Eni[]): Eni[] {
  return attached.filter((eni) => (eni.attachment?.networkCard ?? 0) === 0);
}

/** Addresses that an ENI gives to the pool: its prefixes and secondary addresses. No pod gets its primary address. */
export function poolSizeOf(eni: Eni): number {
  return eni.prefixes.length * PREFIX_SIZE + eni.secondaryAddresses.length;
}

/**
 * The steps to the target: fill the attached pod ENIs in order, adopt what an earlier run left, create the rest. The plan
 * always asks for at least one pod ENI. It stops at the type's limits, so the pool may end below the target.
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
  let room = input.exhausted ? 0 : input.limits.defaultCardEnis - present.length;
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
    const attached = input.attached.map((eni) => eni.eniId);
    const limit = input.limits.defaultCardEnis;
    const message = `no room for a pod ENI: ${attached.length} of ${limit} ENIs are attached`;
    throw new Failure('ENI_LIMIT', message, { attached, limit });
  }
  return steps;
}

/** Slots for prefixes or single addresses that the ENI has left. */
export function freeSlots(eni: Eni, limits: InstanceLimits): number {
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

export function sizeOf(addresses: AddressRequest): number {
  return addresses.kind === 'prefixes' ? addresses.count * PREFIX_SIZE : addresses.count;
}

function show(addresses: AddressRequest): string {
  return addresses.kind === 'prefixes' ? `${addresses.count} prefixes` : `${addresses.count} addresses`;
}
