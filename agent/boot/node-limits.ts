// What this very instance may have in ENIs and addresses: from the built-in table; from EC2, asked once, where the
// type is younger than the table; and less than either where EC2 has refused an ENI.
import type { InstanceLimits } from '../aws/limits/limits.ts';
import type { InstanceIdentity } from '../aws/metadata.ts';
import { STATE_DIR } from '../host/names.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { bootId } from '../port/clock.ts';
import { readJsonIfPresent, writeAtomic } from '../port/fs.ts';
import { type Boot, nodeOf } from './phase.ts';

interface Learned {
  instanceType: string;
  limits: InstanceLimits;
  /** Set where EC2 refused an ENI: a refusal counts for one boot, so that a passing one costs no capacity for ever. */
  refusedInBoot?: string;
}

/**
 * EC2 is asked only about types younger than the table, and only until a boot has noted its answer.
 *
 * @throws INSTANCE_TYPE_UNKNOWN
 */
export async function findLimits(
  boot: Boot,
  { instanceId, instanceType, region }: InstanceIdentity,
): Promise<InstanceLimits> {
  const learned = recall(instanceId, instanceType);
  if (learned !== undefined) return learned;
  const { limitsOf } = await import('../aws/limits/limits.ts');
  const known = await limitsOf(instanceType);
  if (known !== undefined) return known;
  const ec2 = await boot.ec2(region);
  try {
    return await boot.waiting(ec2.describeInstanceType(instanceType));
  } catch (error) {
    if (!isFailure(error, 'EC2_REFUSED')) throw error;
    throw new Failure(
      'INSTANCE_TYPE_UNKNOWN',
      `neither the built-in table nor EC2 knows ${instanceType}`,
      { instanceType },
      error,
    );
  }
}

/** So that repair asks EC2 nothing, and the next boot can go on when EC2 does not answer. */
export async function noteLimits(boot: Boot): Promise<void> {
  const { identity, limits } = nodeOf(boot);
  const { instanceId, instanceType } = identity;
  if (recall(instanceId, instanceType) !== undefined) return;
  const { limitsOf } = await import('../aws/limits/limits.ts');
  if ((await limitsOf(instanceType)) === undefined) remember(boot, instanceId, { instanceType, limits });
}

/**
 * EC2 has refused an ENI with so many on the default card: from here on, and for refill and repair until the next
 * boot, that is the limit. Otherwise each of them would create an ENI again and delete it, and kubelet be told of pods
 * that can have no address.
 */
export function lowerEniLimit(boot: Boot, defaultCardEnis: number): void {
  const node = nodeOf(boot);
  if (defaultCardEnis >= node.limits.defaultCardEnis) return;
  const { instanceId, instanceType } = node.identity;
  node.limits = { ...node.limits, defaultCardEnis };
  remember(boot, instanceId, { instanceType, limits: node.limits, refusedInBoot: bootId() });
}

function recall(instanceId: string, instanceType: string): InstanceLimits | undefined {
  const learned = readJsonIfPresent(fileOf(instanceId)) as Partial<Learned> | null | undefined;
  // A stopped instance may come back as another type.
  if (learned?.instanceType !== instanceType) return undefined;
  const { refusedInBoot, limits } = learned;
  if (refusedInBoot !== undefined && refusedInBoot !== bootId()) return undefined;
  const counts = [limits?.enis, limits?.defaultCardEnis, limits?.addressesPerEni, limits?.cards];
  return counts.every((count) => Number.isInteger(count)) ? limits : undefined;
}

/** Only a note: on a disk that takes nothing EC2 is asked again. */
function remember(boot: Boot, instanceId: string, learned: Learned): void {
  try {
    writeAtomic(fileOf(instanceId), `${JSON.stringify(learned)}\n`, 0o600);
  } catch (error) {
    boot.log.warn('limits not noted', { reason: String(error) });
  }
}

function fileOf(instanceId: string): string {
  return `${STATE_DIR}/${instanceId}/limits.json`;
}
