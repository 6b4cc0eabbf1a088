// ENIs that were created and cannot be used. They are deleted at once: the next program that could delete them would run only
// hours later.
import type { Ec2 } from '../../../aws/ec2.ts';
import type { Context } from '../../context.ts';
import type { NodeFacts } from '../../facts/facts.ts';
import { closeAttempt, openAttempts } from './attempts.ts';
import { describeUnattached, lookUpMade } from './describe.ts';
import { refusedWith } from './refusals.ts';

/**
 * For a boot that has failed: deletes the ENIs that it created and could not attach. No other program would delete them for
 * hours. Returns the IDs of ENIs that may be left behind.
 */
export async function deleteUnattached(context: Context, node: NodeFacts): Promise<string[]> {
  const attempts = openAttempts();
  if (attempts.length === 0) return [];
  const left: string[] = [];
  const ec2 = await context.ec2();
  // An ENI whose answer was lost is known only by its tags.
  const tagged = await describeUnattached(ec2, context, node).catch(() => []);
  const known = attempts.flatMap(({ eniId }) => eniId ?? []);
  for (const eniId of new Set([...known, ...tagged.map((eni) => eni.eniId)])) {
    const attempt = attempts.find((one) => one.eniId === eniId);
    try {
      const eni = await lookUpMade(ec2, eniId, attempt ?? {}, context);
      if (eni?.attachment !== undefined) continue;
      if (eni !== undefined) await deleteEni(ec2, eniId, context);
      if (attempt !== undefined) closeAttempt(attempt);
    } catch (error) {
      context.log.warn('ENI left behind', { eniId, reason: String(error) });
      left.push(eniId);
    }
  }
  return left;
}

export async function deleteEni(ec2: Ec2, eniId: string, context: Context): Promise<void> {
  try {
    await context.waiting(ec2.deleteEni(eniId));
  } catch (error) {
    if (!refusedWith(error, 'InvalidNetworkInterfaceID.NotFound')) throw error;
  }
}
