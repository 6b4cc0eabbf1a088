// What EC2 shows of this instance's ENIs, and the wait until EC2 shows a change: a describe lags behind.
import type { Ec2, Eni } from '../../../aws/ec2.ts';
import { INSTANCE_TAG, POD_ROLE, ROLE_TAG } from '../../../aws/tags.ts';
import { type Link, waitForLinks } from '../../../host/links.ts';
import { Failure, isFailure } from '../../../messages/failure.ts';
import type { Attempt } from '../../change.ts';
import type { Cloud } from '../../cloud.ts';
import type { Context } from '../../context.ts';
import type { NodeFacts } from '../../facts/facts.ts';
import { closeAttempt, openAttempts } from './attempts.ts';
import { onDefaultCard, poolSizeOf } from './plan.ts';
import { refusedWith } from './refusals.ts';

/** How long a describe may lag behind with addresses that EC2 has confirmed. Milliseconds. */
const ADDRESS_LAG_MS = 10_000;

/** How long the first describe waits for the device of an ENI that EC2 has accepted to attach. Milliseconds. */
const DEVICE_FIRST_MS = 5_000;

/**
 * Everything attached to this instance. The boot ENI is always attached, so an answer without it (cut off, or empty from a
 * proxy) says nothing about the other ENIs either. Using such an answer would create the pod ENIs a second time, or take them
 * from their pods.
 *
 * @throws EC2_UNAVAILABLE when no whole answer comes in time.
 */
export async function describeAttached(ec2: Ec2, context: Context, node: NodeFacts): Promise<Eni[]> {
  const { identity, bootEni } = node;
  for (let pause = 250; ; pause = Math.min(2_000, pause * 2)) {
    const attached = await context.waiting(ec2.describeAttachedEnis(identity.instanceId));
    if (attached.some((eni) => eni.eniId === bootEni.eniId)) return attached;
    if (context.clock.bootMs() + pause >= context.until()) {
      const message = `EC2's list of the ENIs of ${identity.instanceId} lacks even the boot ENI ${bootEni.eniId}`;
      const listed = attached.map((eni) => eni.eniId);
      throw new Failure('EC2_UNAVAILABLE', message, { action: 'DescribeNetworkInterfaces', listed });
    }
    await context.waiting(context.clock.sleep(pause));
  }
}

/** This node's pod ENIs that are attached to nothing. */
export async function describeUnattached(ec2: Ec2, context: Context, node: NodeFacts): Promise<Eni[]> {
  const tags = { [INSTANCE_TAG]: node.identity.instanceId, [ROLE_TAG]: POD_ROLE };
  return context.waiting(ec2.describeEnis({ tags, status: 'available' }));
}

/** The ENI, or undefined when EC2 does not know it. */
export async function lookUp(ec2: Ec2, eniId: string, context: Context): Promise<Eni | undefined> {
  try {
    const [eni] = await context.waiting(ec2.describeEnis({ ids: [eniId] }));
    return eni;
  } catch (error) {
    if (refusedWith(error, 'InvalidNetworkInterfaceID.NotFound')) return undefined;
    throw error;
  }
}

/**
 * For how long EC2 may not know an ENI that it has just made, not even by its ID. Source: EC2 developer guide, "Eventual
 * consistency in the Amazon EC2 API"; hashicorp/terraform-provider-aws#35568. Milliseconds.
 */
const UNKNOWN_MS = 30_000;

/**
 * The ENI of an attempt; undefined when EC2 does not know it.
 *
 * @throws EC2_INCONSISTENT while EC2 may not know it yet: another ENI would be made in its place.
 */
export async function lookUpMade(
  ec2: Ec2,
  eniId: string,
  { madeMs = 0 }: Partial<Attempt>,
  context: Context,
): Promise<Eni | undefined> {
  const eni = await lookUp(ec2, eniId, context);
  if (eni !== undefined || context.clock.bootMs() - madeMs >= UNKNOWN_MS) return eni;
  throw new Failure('EC2_INCONSISTENT', `EC2 does not know ${eniId} yet, which eniboot has just made`, {
    eniId,
  });
}

/**
 * EC2's describe is eventually consistent. Waits until it shows the changes, closes the attempts that it shows, and keeps its
 * answer as EC2's latest.
 */
export async function settle(context: Context, node: NodeFacts): Promise<void> {
  const { cloud, clock } = context;
  // A request that was refused, or that was sent again, has attached nothing.
  if (cloud.promised.size === 0 && cloud.exhausted === undefined) return;
  await devicesFirst(context);
  const ec2 = await context.ec2();
  const started = clock.bootMs();
  for (let pause = 100; ; pause = Math.min(2_000, pause * 2)) {
    const attached = await describeAttached(ec2, context, node);
    const { unsettled, short } = missingIn(attached, cloud);
    for (const attempt of openAttempts()) {
      if (attached.some((eni) => eni.eniId === attempt.eniId)) closeAttempt(attempt);
    }
    const now = clock.bootMs();
    const isOver = now + pause >= context.until();
    if (unsettled.length === 0 && (!short || isOver || now - started > ADDRESS_LAG_MS)) {
      cloud.promised.clear();
      if (isFailure(cloud.exhausted, 'ENI_LIMIT')) cloud.eniLimit = onDefaultCard(attached).length;
      Object.assign(cloud, { attached, unattached: [] });
      return;
    }
    if (isOver) {
      throw new Failure(
        'EC2_INCONSISTENT',
        `EC2 accepted it, but does not show ${unsettled.join(', ')} attached with its tags and delete-on-termination`,
        { unsettled, attached: attached.map((eni) => eni.eniId) },
      );
    }
    await context.waiting(clock.sleep(pause));
  }
}

/** ENIs that EC2 does not show as promised, and whether one of them lacks only addresses. */
function missingIn(attached: Eni[], { promised }: Cloud): { unsettled: string[]; short: boolean } {
  const unsettled: string[] = [];
  let short = false;
  for (const [eniId, { poolSize, ipv6 }] of promised) {
    const eni = attached.find((one) => one.eniId === eniId);
    // Without its tag the ENI would count as foreign, and another ENI would be created.
    if (eni?.attachment?.deleteOnTermination !== true || eni.tags[ROLE_TAG] !== POD_ROLE)
      unsettled.push(eniId);
    else if (poolSizeOf(eni) < poolSize || (ipv6 && eni.ipv6Prefixes.length === 0)) short = true;
  }
  return { unsettled, short };
}

/**
 * A describe right after an attach does not show the ENI yet, and thousands of nodes that boot at once share the limit of
 * describes. The kernel reports the device without a call to EC2, so the first describe waits for the device.
 */
async function devicesFirst(context: Context): Promise<void> {
  const macs = [...context.cloud.promised.values()].flatMap(({ mac }) => mac ?? []);
  if (macs.length === 0) return;
  const present = (links: Link[]) => macs.every((mac) => links.some((link) => link.mac === mac));
  const remaining = Math.max(0, context.until() - context.clock.bootMs());
  await context.waiting(waitForLinks(present, Math.min(DEVICE_FIRST_MS, remaining)));
}
