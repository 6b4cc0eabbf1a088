// How many ENIs and addresses this instance may have: from the built-in table; from EC2, asked once, when the type is newer
// than the table; and less than either when EC2 has refused an ENI.
import type { InstanceLimits } from '../../aws/limits/limits.ts';
import type { InstanceIdentity } from '../../aws/metadata.ts';
import { STATE_DIR } from '../../host/names.ts';
import { Failure, isFailure } from '../../messages/failure.ts';
import { bootId } from '../../port/clock.ts';
import { readIfPresent, readJsonIfPresent } from '../../port/fs.ts';
import type { WantedFile } from '../change.ts';
import type { Context } from '../context.ts';
import type { NodeFacts } from '../facts/facts.ts';

interface Learned {
  instanceType: string;
  limits: InstanceLimits;
  /**
   * Set when EC2 refused an ENI. A refusal counts for one boot, so that a temporary refusal does not cost capacity for ever.
   */
  refusedInBoot?: string;
}

/**
 * EC2 is asked only about types that are newer than the table, and only until a boot has noted its answer.
 *
 * @throws INSTANCE_TYPE_UNKNOWN
 */
export async function findLimits(
  context: Context,
  { instanceId, instanceType, region }: InstanceIdentity,
): Promise<{ limits: InstanceLimits; from: 'note' | 'table' | 'EC2' }> {
  const learned = recall(instanceId, instanceType);
  if (learned !== undefined) return { limits: learned, from: 'note' };
  const { limitsOf } = await import('../../aws/limits/limits.ts');
  const known = await limitsOf(instanceType);
  if (known !== undefined) return { limits: known, from: 'table' };
  const ec2 = await context.ec2(region);
  try {
    return { limits: await context.waiting(ec2.describeInstanceType(instanceType)), from: 'EC2' };
  } catch (error) {
    if (!isFailure(error, 'EC2_REFUSED')) throw error;
    const message = `neither the built-in table nor EC2 knows ${instanceType}`;
    throw new Failure('INSTANCE_TYPE_UNKNOWN', message, { instanceType }, error);
  }
}

/**
 * When EC2 has refused an ENI with `eniLimit` ENIs on the default card, that number is the limit, for refill and repair too,
 * until the next boot. Otherwise each of them would create an ENI again and delete it, and kubelet would be told of pods that
 * can have no address.
 */
export function limitsNow(
  { limits }: Pick<NodeFacts, 'limits'>,
  eniLimit = Number.POSITIVE_INFINITY,
): InstanceLimits {
  return { ...limits, defaultCardEnis: Math.min(limits.defaultCardEnis, eniLimit) };
}

/**
 * With the note, repair need not ask EC2, and the next boot can go on when EC2 does not answer. Empty when there is nothing to
 * note.
 */
export function limitsNote(node: NodeFacts, limits: InstanceLimits): WantedFile[] {
  const { instanceId, instanceType } = node.identity;
  const isLowered = limits.defaultCardEnis < node.limits.defaultCardEnis;
  if (!isLowered && !node.limitsFromEc2) return [];
  const path = fileOf(instanceId);
  const learned: Learned = { instanceType, limits, ...(isLowered ? { refusedInBoot: bootId() } : {}) };
  const text = `${JSON.stringify(learned)}\n`;
  // On a disk that cannot be written, EC2 is asked again.
  return [{ path, text, mode: 0o600, mayFail: true, found: readIfPresent(path) }];
}

function recall(instanceId: string, instanceType: string): InstanceLimits | undefined {
  const learned = readJsonIfPresent(fileOf(instanceId)) as Partial<Learned> | null | undefined;
  // A stopped instance may be started again as another type.
  if (learned?.instanceType !== instanceType) return undefined;
  const { refusedInBoot, limits } = learned;
  if (refusedInBoot !== undefined && refusedInBoot !== bootId()) return undefined;
  const counts = [limits?.enis, limits?.defaultCardEnis, limits?.addressesPerEni, limits?.cards];
  return counts.every((count) => Number.isInteger(count)) ? limits : undefined;
}

function fileOf(instanceId: string): string {
  return `${STATE_DIR}/${instanceId}/limits.json`;
}
