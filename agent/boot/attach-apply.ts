// The EC2 side of attach: carries out planned steps so that a run killed anywhere, or an answer lost on the
// way, leaves nothing that the next run does not find and finish.
import { createHash } from 'node:crypto';
import type { AddressRequest, CreateEni, Ec2, Eni, Subnet } from '../aws/ec2.ts';
import { CLUSTER_TAG, CREATED_TAG, INSTANCE_TAG, POD_ROLE, ROLE_TAG } from '../aws/tags.ts';
import { RUN_DIR } from '../host/names.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { bootId } from '../port/clock.ts';
import { listIfPresent, readIfPresent, writeAtomic } from '../port/fs.ts';
import type { AttachStep } from './attach-plan.ts';
import { type Boot, nodeOf } from './phase.ts';

/** EC2's codes for a subnet that cannot give what was asked. Source: EC2 API reference, error codes. */
const SUBNET_EXHAUSTED = ['InsufficientFreeAddressesInSubnet', 'InsufficientCidrBlocks'];
/** How often another device index is tried when EC2 says ours is taken. */
const INDEX_TRIES = 5;

/** Runs the steps in order and returns everything attached afterwards, as EC2 describes it. */
export async function applySteps(steps: AttachStep[], attached: Eni[], boot: Boot): Promise<Eni[]> {
  const ec2 = await boot.ec2();
  const { identity } = nodeOf(boot);
  for (const step of steps) {
    if (step.kind === 'protect')
      await boot.waiting(ec2.setDeleteOnTermination(step.eniId, step.attachmentId));
    else if (step.kind === 'assign') await assign(ec2, step.eniId, step.addresses, boot);
    else if (step.kind === 'adopt') await attachAt(ec2, step.eniId, step.deviceIndex, boot);
    else if (!(await createAndAttach(ec2, step, attached, boot))) break;
  }
  return settled(ec2, identity.instanceId, boot);
}

/**
 * What is attached once EC2's describe has caught up with what was just done: it is eventually consistent.
 * Only then are the attempts' tokens given up, so that a run that never saw its ENI asks for the same one.
 */
async function settled(ec2: Ec2, instanceId: string, boot: Boot): Promise<Eni[]> {
  for (let pause = 100; ; pause = Math.min(2_000, pause * 2)) {
    const attached = await boot.waiting(ec2.describeAttachedEnis(instanceId));
    const unseen = openAttempts().filter(({ eniId }) => !attached.some((eni) => eni.eniId === eniId));
    if (unseen.length === 0) {
      for (const { slot } of openAttempts()) forgetAttempt(slot);
      return attached;
    }
    if (boot.clock.bootMs() + pause >= boot.until()) return attached;
    await boot.waiting(boot.clock.sleep(pause));
  }
}

/** A full subnet is no reason to fail where pods already have addresses: the pool is smaller, and says so. */
async function assign(ec2: Ec2, eniId: string, addresses: AddressRequest, boot: Boot): Promise<void> {
  try {
    await boot.waiting(ec2.assignAddresses(eniId, addresses));
  } catch (error) {
    if (!refusedWith(error, ...SUBNET_EXHAUSTED, 'PrivateIpAddressLimitExceeded')) throw error;
    boot.log.warn('addresses not assigned', { eniId, ...addresses, reason: String(error) });
  }
}

/** False when the type's ENI limit is reached although the table says otherwise, and pods have an ENI. */
async function createAndAttach(
  ec2: Ec2,
  step: Extract<AttachStep, { kind: 'create' }>,
  attached: Eni[],
  boot: Boot,
): Promise<boolean> {
  const eniId = await create(ec2, step, boot);
  try {
    await attachAt(ec2, eniId, step.deviceIndex, boot);
    return true;
  } catch (error) {
    if (!isFailure(error, 'ENI_LIMIT')) throw error;
    await boot.waiting(ec2.deleteEni(eniId));
    forgetAttempt(step.deviceIndex);
    if (attached.length <= 1) throw error;
    boot.log.warn('ENI limit reached', { eniId, reason: error.message });
    return false;
  }
}

/** Creates the ENI in the emptiest pod subnet of the zone that can hold it. */
async function create(ec2: Ec2, step: Extract<AttachStep, { kind: 'create' }>, boot: Boot): Promise<string> {
  const subnets = await podSubnets(ec2, boot);
  const securityGroupIds = await securityGroups(ec2, boot);
  const refused: string[] = [];
  for (const addresses of fallbacks(step.addresses, boot)) {
    for (const subnet of subnets) {
      try {
        return await createIn(ec2, subnet, addresses, securityGroupIds, step.deviceIndex, boot);
      } catch (error) {
        if (!refusedWith(error, ...SUBNET_EXHAUSTED)) throw error;
        refused.push(`${subnet.subnetId} (${subnet.freeAddresses} free): ${String(error)}`);
      }
    }
  }
  throw new Failure(
    'SUBNETS_FULL',
    `no pod subnet in ${nodeOf(boot).identity.zone} has room for ${step.addresses.count} ${step.addresses.kind}`,
    {
      subnets: subnets.map((subnet) => ({ ...subnet })),
      refused,
    },
  );
}

/** Prefixes need 16 addresses in a row; where `auto` chose them, a fragmented subnet still gives single ones. */
function fallbacks(addresses: AddressRequest, boot: Boot): AddressRequest[] {
  if (addresses.kind !== 'prefixes' || boot.config.pods.addressing !== 'auto') return [addresses];
  const slots = nodeOf(boot).limits.addressesPerEni - 1;
  return [addresses, { kind: 'addresses', count: Math.min(slots, addresses.count * 16) }];
}

async function createIn(
  ec2: Ec2,
  subnet: Subnet,
  addresses: AddressRequest,
  securityGroupIds: string[],
  slot: number,
  boot: Boot,
): Promise<string> {
  const { identity } = nodeOf(boot);
  for (;;) {
    const attempt = readAttempt(slot);
    const request: CreateEni = {
      subnetId: subnet.subnetId,
      securityGroupIds,
      description: `eniboot pods of ${identity.instanceId}`,
      tags: {
        ...boot.config.aws.tags,
        [ROLE_TAG]: POD_ROLE,
        [CLUSTER_TAG]: boot.config.cluster,
        [INSTANCE_TAG]: identity.instanceId,
        // The token covers the tags too: a time that changed between two tries would be another request.
        [CREATED_TAG]: attempt.created,
      },
      addresses,
      clientToken: tokenFor(identity.instanceId, slot, attempt, [
        subnet.subnetId,
        addresses,
        securityGroupIds,
      ]),
    };
    try {
      const eni = await boot.waiting(ec2.createEni(request));
      writeAtomic(attemptFile(slot), JSON.stringify({ ...attempt, eniId: eni.eniId }), 0o600);
      return eni.eniId;
    } catch (error) {
      if (refusedWith(error, 'IdempotentParameterMismatch')) {
        forgetAttempt(slot);
        continue;
      }
      throw error;
    }
  }
}

/** Attaches at the index, or the next free one when somebody took it; then asserts delete-on-termination. */
async function attachAt(ec2: Ec2, eniId: string, wantedIndex: number, boot: Boot): Promise<void> {
  const { identity } = nodeOf(boot);
  let deviceIndex = wantedIndex;
  for (let tries = 1; ; tries += 1) {
    try {
      const attachmentId = await boot.waiting(ec2.attachEni(eniId, identity.instanceId, deviceIndex));
      await boot.waiting(ec2.setDeleteOnTermination(eniId, attachmentId));
      return;
    } catch (error) {
      if (refusedWith(error, 'AttachmentLimitExceeded')) {
        throw new Failure(
          'ENI_LIMIT',
          `EC2 attaches no further ENI to this ${identity.instanceType}`,
          { eniId, deviceIndex },
          error,
        );
      }
      if (refusedWith(error, 'InvalidNetworkInterfaceID.NotFound')) {
        // The token led to an ENI that was deleted since: the next run asks with a new one.
        forgetAttempt(wantedIndex);
        throw new Failure(
          'EC2_INCONSISTENT',
          `EC2 does not know ${eniId}, which it has just created`,
          { eniId },
          error,
        );
      }
      if (!isFailure(error, 'EC2_REFUSED') || tries >= INDEX_TRIES) throw error;
      // Either an earlier attempt succeeded and its answer was lost, or the index is taken: look.
      const attached = await boot.waiting(ec2.describeAttachedEnis(identity.instanceId));
      const mine = attached.find((eni) => eni.eniId === eniId);
      if (mine?.attachment !== undefined) {
        if (!mine.attachment.deleteOnTermination) {
          await boot.waiting(ec2.setDeleteOnTermination(eniId, mine.attachment.attachmentId));
        }
        return;
      }
      const used = new Set(attached.map((eni) => eni.attachment?.deviceIndex));
      if (!used.has(deviceIndex) && !mentionsIndex(error)) throw error;
      deviceIndex += 1;
      while (used.has(deviceIndex)) deviceIndex += 1;
      boot.log.warn('device index taken', { eniId, wanted: wantedIndex, next: deviceIndex });
    }
  }
}

/** Pod subnets of the node's own zone, the emptiest first. */
async function podSubnets(ec2: Ec2, boot: Boot): Promise<Subnet[]> {
  const { identity, bootEni } = nodeOf(boot);
  const found = await boot.waiting(ec2.describeSubnets(bootEni.vpcId, boot.config.pods.subnets));
  const here = found.filter((subnet) => subnet.zone === identity.zone);
  if (here.length === 0) {
    throw new Failure(
      'NO_POD_SUBNET',
      `no pod subnet of the configuration is in ${identity.zone} of ${bootEni.vpcId}`,
      {
        zone: identity.zone,
        configured: boot.config.pods.subnets,
        found: found.map((subnet) => `${subnet.subnetId} in ${subnet.zone}`),
      },
    );
  }
  return here.sort((a, b) => b.freeAddresses - a.freeAddresses || a.subnetId.localeCompare(b.subnetId));
}

async function securityGroups(ec2: Ec2, boot: Boot): Promise<string[]> {
  const { bootEni } = nodeOf(boot);
  const wanted = boot.config.pods.securityGroups;
  if (wanted === undefined) return [...bootEni.securityGroupIds].sort();
  if ('ids' in wanted) return [...wanted.ids].sort();
  const found = await boot.waiting(ec2.describeSecurityGroupIds(bootEni.vpcId, wanted));
  if (found.length > 0) return found;
  throw new Failure('NO_SECURITY_GROUP', `no security group in ${bootEni.vpcId} has the configured tags`, {
    tags: wanted.tags,
  });
}

/**
 * One attempt to create an ENI in a slot, written down before the call: a killed run's successor sends the
 * same token and gets the same ENI, also while a describe does not show it yet.
 */
interface Attempt {
  counter: number;
  created: string;
}

const ATTEMPTS = `${RUN_DIR}/attach`;

function attemptFile(slot: number): string {
  return `${ATTEMPTS}/${slot}.json`;
}

function parseAttempt(slot: number): Partial<Attempt> & { eniId?: string } {
  const text = readIfPresent(attemptFile(slot));
  return text === undefined ? {} : (JSON.parse(text) as Partial<Attempt> & { eniId?: string });
}

/** Slots whose ENI has been created and not yet been seen attached. */
function openAttempts(): { slot: number; eniId: string }[] {
  return listIfPresent(ATTEMPTS)
    .map((name) => Number.parseInt(name, 10))
    .filter(Number.isInteger)
    .flatMap((slot) => {
      const { eniId } = parseAttempt(slot);
      return eniId === undefined ? [] : [{ slot, eniId }];
    });
}

function readAttempt(slot: number): Attempt {
  const { counter = 0, created } = parseAttempt(slot);
  if (created !== undefined) return { counter, created };
  const attempt = { counter, created: new Date().toISOString() };
  writeAtomic(attemptFile(slot), JSON.stringify(attempt), 0o600);
  return attempt;
}

/** The attempt is over: the next one in this slot uses a token of its own. */
function forgetAttempt(slot: number): void {
  writeAtomic(attemptFile(slot), JSON.stringify({ counter: (parseAttempt(slot).counter ?? 0) + 1 }), 0o600);
}

/** At most 64 ASCII characters, the limit of EC2's client tokens. */
function tokenFor(instanceId: string, slot: number, attempt: Attempt, parameters: unknown): string {
  const text = JSON.stringify([instanceId, bootId(), slot, attempt, parameters]);
  return createHash('sha256').update(text).digest('hex');
}

function refusedWith(error: unknown, ...codes: string[]): boolean {
  return isFailure(error, 'EC2_REFUSED') && codes.includes(String(error.facts['ec2Code']));
}

function mentionsIndex(error: Failure): boolean {
  return /device index/i.test(error.message);
}
