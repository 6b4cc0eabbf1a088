// The EC2 side of attach: carries out planned steps. When a run is killed, or an answer is lost on the way, the next run finds
// everything that was done and finishes it.
import type { AddressRequest, Ec2, Eni, Subnet } from '../../../aws/ec2.ts';
import { Failure, isFailure, messageOf } from '../../../messages/failure.ts';
import { welcomeBack } from '../../../pool/retire.ts';
import type { AttachStep, Attempt, ResumptionStep } from '../../change.ts';
import type { Cloud } from '../../cloud.ts';
import type { Context } from '../../context.ts';
import { isDualStack, type NodeFacts } from '../../facts/facts.ts';
import { closeAttempt, noteCreated, openAttempts } from './attempts.ts';
import { createEni, fallbacks, mayFit } from './create.ts';
import { describeAttached, lookUp } from './describe.ts';
import { deleteEni } from './leftovers.ts';
import { freeSlots, onDefaultCard, podEnisOf, poolSizeOf, sizeOf } from './plan.ts';
import { isRefusal, refusedWith, subnetExhausted, withoutIpv6 } from './refusals.ts';

/** EC2's codes for an instance or an ENI that is not there yet: a machine runs before EC2 calls it running. */
const NOT_YET = ['IncorrectState', 'IncorrectInstanceState'];

/** How often another device index is tried when EC2 says that the index is taken. */
const INDEX_TRIES = 5;

/**
 * Makes one step's calls. A full subnet or EC2's ENI limit is no failure when pods have an ENI already: the pool is then
 * smaller, and the status says so.
 */
export async function takeStep(
  step: AttachStep | ResumptionStep,
  context: Context,
  node: NodeFacts,
): Promise<void> {
  const { cloud } = context;
  const ec2 = await context.ec2();
  if (step.kind === 'protect') {
    await protect(ec2, step.eniId, step.attachmentId, context);
    promise(cloud, step.eniId, 0);
  } else if (step.kind === 'assign') {
    const eni = attachedOf(cloud).find((one) => one.eniId === step.eniId);
    if (eni === undefined) return;
    const assigned = await assign(ec2, eni, step.addresses, context, node);
    promise(cloud, step.eniId, poolSizeOf(eni) + assigned);
    if (assigned === 0) cloud.full.add(step.eniId);
  } else if (step.kind === 'assign-ipv6') {
    await assignIpv6(ec2, step.eniId, attachedOf(cloud), context);
    promise(cloud, step.eniId, 0, true);
  } else if (step.kind === 'repeat') await repeat(ec2, step.attempt, context);
  else if (step.kind === 'strike') closeAttempt(step.attempt);
  // After one refusal, EC2 would refuse another ENI too.
  else if (cloud.exhausted === undefined) await addEni(ec2, step, context, node);
}

type NewEni = Extract<AttachStep, { kind: 'adopt' | 'create' }>;

async function addEni(ec2: Ec2, step: NewEni, context: Context, node: NodeFacts): Promise<void> {
  const { cloud, log } = context;
  const before = attachedOf(cloud);
  try {
    if (step.kind === 'create') {
      const made = await createEni(ec2, step, before, context, node);
      await attachOrRemove(ec2, made.eniId, step.deviceIndex, context, node);
      promise(cloud, made.eniId, poolSizeOf(made), isDualStack(node), made.mac);
    } else {
      await attachOrRemove(ec2, step.eniId, step.deviceIndex, context, node);
      promise(cloud, step.eniId, 0);
    }
  } catch (error) {
    const podsHaveOne = podEnisOf(before).length > 0 || cloud.promised.size > 0;
    if (!podsHaveOne || !isFailure(error, 'ENI_LIMIT', 'ENI_QUOTA', 'SUBNETS_FULL')) throw error;
    log.warn('no further pod ENI', { code: error.code, reason: error.message });
    cloud.exhausted = error;
  }
}

/** The ENIs as EC2 showed them before the steps. */
function attachedOf({ attached }: Cloud): readonly Eni[] {
  return attached === undefined || isFailure(attached) ? [] : attached;
}

function promise(cloud: Cloud, eniId: string, poolSize: number, ipv6 = false, mac?: string): void {
  const before = cloud.promised.get(eniId) ?? { poolSize: 0, ipv6: false };
  cloud.promised.set(eniId, {
    poolSize: Math.max(poolSize, before.poolSize),
    ipv6: ipv6 || before.ipv6,
    mac: mac ?? before.mac,
  });
}

/** A refusal is explained by the ENI's subnet when the subnet has no IPv6. EC2's own code for this is not documented. */
async function assignIpv6(
  ec2: Ec2,
  eniId: string,
  attached: readonly Eni[],
  context: Context,
): Promise<void> {
  try {
    await context.waiting(ec2.assignIpv6Prefix(eniId));
  } catch (error) {
    const eni = attached.find((one) => one.eniId === eniId);
    if (eni === undefined || !isFailure(error, 'EC2_REFUSED')) throw error;
    const [subnet] = await context.waiting(ec2.describeSubnets(eni.vpcId, { ids: [eni.subnetId] }));
    if (subnet === undefined || subnet.ipv6) throw error;
    throw withoutIpv6([subnet], `${eniId} cannot have an IPv6 prefix`, error);
  }
}

/** Returns the number of addresses that the pool gained: 0 when the subnet or the ENI is full. */
async function assign(
  ec2: Ec2,
  eni: Eni,
  addresses: AddressRequest,
  context: Context,
  node: NodeFacts,
): Promise<number> {
  const { eniId, vpcId, subnetId } = eni;
  let subnet: Subnet | undefined;
  for (const request of fallbacks(addresses, freeSlots(eni, node.limits), node)) {
    if (subnet !== undefined && !mayFit(request, subnet)) continue;
    try {
      welcomeBack(eniId, await context.waiting(ec2.assignAddresses(eniId, request)));
      return sizeOf(request);
    } catch (error) {
      if (!subnetExhausted(error) && !refusedWith(error, 'PrivateIpAddressLimitExceeded')) throw error;
      context.log.warn('addresses not assigned', { eniId, ...request, reason: String(error) });
      subnet ??= (await context.waiting(ec2.describeSubnets(vpcId, { ids: [subnetId] })))[0];
    }
  }
  return 0;
}

/** Attaches the ENI. When the instance cannot have it, the ENI is deleted. */
async function attachOrRemove(
  ec2: Ec2,
  eniId: string,
  deviceIndex: number,
  context: Context,
  node: NodeFacts,
): Promise<void> {
  try {
    await attachAt(ec2, eniId, deviceIndex, context, node);
  } catch (error) {
    if (!isFailure(error, 'ENI_LIMIT')) throw error;
    await deleteEni(ec2, eniId, context);
    for (const attempt of openAttempts()) if (attempt.eniId === eniId) closeAttempt(attempt);
    throw error;
  }
}

/** Sends the same request again. When EC2 refuses it, no earlier request has made an ENI. */
async function repeat(ec2: Ec2, attempt: Attempt, context: Context): Promise<void> {
  try {
    const { eniId } = await context.waiting(ec2.createEni(attempt.request));
    noteCreated(attempt, eniId, context.clock.bootMs());
  } catch (error) {
    if (!isRefusal(error)) throw error;
    closeAttempt(attempt);
  }
}

/** Attaches the ENI at the index, or at the next free one when the index is taken; then sets delete-on-termination. */
async function attachAt(
  ec2: Ec2,
  eniId: string,
  wantedIndex: number,
  context: Context,
  node: NodeFacts,
): Promise<void> {
  const { identity } = node;
  let deviceIndex = wantedIndex;
  for (let tries = 1; ; tries += 1) {
    try {
      const attachmentId = await context.waiting(ec2.attachEni(eniId, identity.instanceId, deviceIndex));
      await protect(ec2, eniId, attachmentId, context);
      return;
    } catch (error) {
      if (refusedWith(error, 'AttachmentLimitExceeded')) {
        const message = `EC2 attaches no further ENI to this ${identity.instanceType}: ${messageOf(error)}`;
        throw new Failure('ENI_LIMIT', message, { eniId, deviceIndex }, error);
      }
      if (refusedWith(error, 'InvalidNetworkInterfaceID.NotFound')) {
        // The ENI is seconds old, or was deleted by another program; the next try finds out which.
        throw new Failure(
          'EC2_INCONSISTENT',
          `EC2 does not know ${eniId}, which eniboot made`,
          { eniId },
          error,
        );
      }
      if (refusedWith(error, ...NOT_YET)) throw notYet(eniId, error);
      if (!isFailure(error, 'EC2_REFUSED') || tries >= INDEX_TRIES) throw error;
      // Either an earlier attempt succeeded and its answer was lost, or the index is taken: look.
      const mine = await lookUp(ec2, eniId, context);
      if (mine?.attachment?.instanceId === identity.instanceId) {
        if (!mine.attachment.deleteOnTermination) {
          await protect(ec2, eniId, mine.attachment.attachmentId, context);
        }
        return;
      }
      const attached = await describeAttached(ec2, context, node);
      const used = new Set(onDefaultCard(attached).map((eni) => eni.attachment?.deviceIndex));
      // Most likely attached by this run's own call, whose answer was lost, and the describes do not show it yet.
      if (refusedWith(error, 'InvalidNetworkInterface.InUse')) throw notYet(eniId, error);
      if (!used.has(deviceIndex) && !mentionsIndex(error)) throw error;
      deviceIndex += 1;
      while (used.has(deviceIndex)) deviceIndex += 1;
      context.log.warn('device index taken', { eniId, wanted: wantedIndex, next: deviceIndex });
    }
  }
}

/** Sets delete-on-termination. EC2 may not know a new attachment by its ID at once ("Eventual consistency"). */
async function protect(ec2: Ec2, eniId: string, attachmentId: string, context: Context): Promise<void> {
  try {
    await context.waiting(ec2.setDeleteOnTermination(eniId, attachmentId));
  } catch (error) {
    if (!refusedWith(error, 'InvalidAttachmentID.NotFound')) throw error;
    const message = `EC2 does not know the attachment of ${eniId} yet: ${messageOf(error)}`;
    throw new Failure('EC2_INCONSISTENT', message, { eniId, attachmentId }, error);
  }
}

/** A state that passes with time. */
function notYet(eniId: string, error: unknown): Failure {
  const message = `${eniId} cannot be attached yet: ${messageOf(error)}`;
  return new Failure('EC2_INCONSISTENT', message, { eniId }, error);
}

function mentionsIndex(error: Failure): boolean {
  return /device index/i.test(error.message);
}
