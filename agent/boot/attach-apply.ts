// The EC2 side of attach: carries out planned steps so that a run killed anywhere, or an answer lost on the
// way, leaves nothing that the next run does not find and finish.
import type { AddressRequest, CreateEni, Ec2, Eni, Subnet } from '../aws/ec2.ts';
import { CLUSTER_TAG, CREATED_TAG, INSTANCE_TAG, POD_ROLE, ROLE_TAG } from '../aws/tags.ts';
import { type Link, waitForLinks } from '../host/links.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { welcomeBack } from '../pool/give-back.ts';
import { type Attempt, beginAttempt, closeAttempt, noteCreated, openAttempts } from './attach-attempts.ts';
import { type AttachStep, onDefaultCard, podEnisOf, poolSizeOf } from './attach-plan.ts';
import { lowerEniLimit } from './node-limits.ts';
import { type Boot, isDualStack, nodeOf } from './phase.ts';

/** EC2's codes for a subnet that cannot give what was asked. Source: EC2 API reference, error codes. */
const SUBNET_EXHAUSTED = ['InsufficientFreeAddressesInSubnet', 'InsufficientCidrBlocks'];
/** Its codes for an instance or an ENI that is not there yet: a machine runs before EC2 calls it running. */
const NOT_YET = ['IncorrectState', 'IncorrectInstanceState'];
/** Its code for an account that may have no more ENIs in this region. */
const QUOTA = 'NetworkInterfaceLimitExceeded';
/** How often another device index is tried when EC2 says ours is taken. */
const INDEX_TRIES = 5;
/** How long a describe may lag behind with addresses that EC2 has confirmed. Milliseconds. */
const ADDRESS_LAG_MS = 10_000;

export interface Applied {
  /** Everything attached afterwards, as EC2 describes it. */
  attached: Eni[];
  /** EC2 gives no further ENI: another plan would only be refused again. */
  exhausted: boolean;
  /** ENIs that got no further address: what they lack has to come from another one. */
  full: string[];
}

/** What a describe must show before a step counts as done. */
type Expected = Map<string, { poolSize: number; ipv6: boolean }>;

/** How long a describe may wait for a device that EC2 has promised; milliseconds. */
const DEVICE_FIRST_MS = 5_000;

/**
 * Runs the steps in order. A full subnet or EC2's own ENI limit is no reason to fail where pods have an ENI
 * already: the pool is smaller then, and says so.
 */
export async function applySteps(steps: AttachStep[], before: Eni[], boot: Boot): Promise<Applied> {
  const ec2 = await boot.ec2();
  const expected: Expected = new Map();
  const macs: string[] = [];
  const full: string[] = [];
  let exhausted = false;
  for (const step of steps) {
    if (step.kind === 'protect') {
      await boot.waiting(ec2.setDeleteOnTermination(step.eniId, step.attachmentId));
      expect(expected, step.eniId, 0);
    } else if (step.kind === 'assign') {
      const assigned = await assign(ec2, step.eniId, step.addresses, boot);
      const eni = before.find((one) => one.eniId === step.eniId);
      if (eni !== undefined) expect(expected, step.eniId, poolSizeOf(eni) + assigned);
      if (assigned === 0) full.push(step.eniId);
    } else if (step.kind === 'assign-ipv6') {
      await assignIpv6(ec2, step.eniId, before, boot);
      expect(expected, step.eniId, 0, true);
    } else {
      try {
        if (step.kind === 'adopt') {
          await attachOrRemove(ec2, step.eniId, step.deviceIndex, boot);
          expect(expected, step.eniId, 0);
        } else {
          const eni = await create(ec2, step, before, boot);
          await attachOrRemove(ec2, eni.eniId, step.deviceIndex, boot);
          expect(expected, eni.eniId, poolSizeOf(eni), isDualStack(boot));
          macs.push(eni.mac);
        }
      } catch (error) {
        const podsHaveOne = podEnisOf(before).length > 0 || expected.size > 0;
        if (!podsHaveOne || !isFailure(error, 'ENI_LIMIT', 'ENI_QUOTA', 'SUBNETS_FULL')) throw error;
        boot.log.warn('no further pod ENI', { code: error.code, reason: error.message });
        // A smaller node than asked for is no node as asked for.
        boot.degradations.push(
          `only ${podEnisOf(before).length + expected.size} pod ENIs, fewer than pods.max and pool.target ask for: ${error.code}: ${error.message} (${error.remedy})`,
        );
        if (error.code === 'ENI_LIMIT') await learnLimit(ec2, boot);
        exhausted = true;
        break;
      }
    }
  }
  await devicesFirst(macs, boot);
  return { attached: await settled(ec2, expected, boot), exhausted, full };
}

/**
 * A describe right after an attach shows nothing yet, and describes are what thousands of nodes booting at once
 * share: the device, of which the kernel tells us for nothing, says when it is worth asking.
 */
async function devicesFirst(macs: string[], boot: Boot): Promise<void> {
  if (macs.length === 0) return;
  const present = (links: Link[]) => macs.every((mac) => links.some((link) => link.mac === mac));
  const remaining = Math.max(0, boot.until() - boot.clock.bootMs());
  await boot.waiting(waitForLinks(present, Math.min(DEVICE_FIRST_MS, remaining)));
}

/**
 * ENIs an earlier run of this boot asked for and that no run has seen attached: asked for again with the same
 * token where the answer never came, looked up by ID (which lags less than a filter) where it did.
 */
export async function resumeAttempts(boot: Boot): Promise<Eni[]> {
  const found: Eni[] = [];
  for (const attempt of openAttempts()) {
    const ec2 = await boot.ec2();
    const eniId = attempt.eniId ?? (await repeat(ec2, attempt, boot));
    const eni = eniId === undefined ? undefined : await lookUp(ec2, eniId, boot);
    if (eni === undefined) closeAttempt(attempt);
    else found.push(eni);
  }
  return found;
}

/**
 * For a boot that has failed: deletes what it created and could not attach, since nobody else will for hours.
 * Returns the IDs that may be left behind.
 */
export async function giveBack(boot: Boot): Promise<string[]> {
  const attempts = openAttempts();
  if (attempts.length === 0) return [];
  const left: string[] = [];
  const ec2 = await boot.ec2();
  // An ENI whose answer was lost is only known by its tags.
  const tagged = await describeUnattached(ec2, boot).catch(() => []);
  const known = attempts.flatMap(({ eniId }) => eniId ?? []);
  for (const eniId of new Set([...known, ...tagged.map((eni) => eni.eniId)])) {
    try {
      const eni = await lookUp(ec2, eniId, boot);
      if (eni?.attachment !== undefined) continue;
      if (eni !== undefined) await remove(ec2, eniId, boot);
      const attempt = attempts.find((one) => one.eniId === eniId);
      if (attempt !== undefined) closeAttempt(attempt);
    } catch (error) {
      boot.log.warn('ENI left behind', { eniId, reason: String(error) });
      left.push(eniId);
    }
  }
  return left;
}

/**
 * Everything attached to this instance. The boot ENI always is: an answer without it (cut off, or a proxy's empty one) tells
 * nothing of the others either, and whoever believed it would make them anew or take them from their pods.
 *
 * @throws EC2_UNAVAILABLE when no whole answer comes in time.
 */
export async function describeAttached(ec2: Ec2, boot: Boot): Promise<Eni[]> {
  const { identity, bootEni } = nodeOf(boot);
  for (let pause = 250; ; pause = Math.min(2_000, pause * 2)) {
    const attached = await boot.waiting(ec2.describeAttachedEnis(identity.instanceId));
    if (attached.some((eni) => eni.eniId === bootEni.eniId)) return attached;
    if (boot.clock.bootMs() + pause >= boot.until()) {
      throw new Failure(
        'EC2_UNAVAILABLE',
        `EC2's list of the ENIs of ${identity.instanceId} lacks even the boot ENI ${bootEni.eniId}`,
        { action: 'DescribeNetworkInterfaces', listed: attached.map((eni) => eni.eniId) },
      );
    }
    await boot.waiting(boot.clock.sleep(pause));
  }
}

/** Our own ENIs that are attached to nothing. */
export async function describeUnattached(ec2: Ec2, boot: Boot): Promise<Eni[]> {
  const tags = { [INSTANCE_TAG]: nodeOf(boot).identity.instanceId, [ROLE_TAG]: POD_ROLE };
  return boot.waiting(ec2.describeEnis({ tags, status: 'available' }));
}

/** The ENI, or undefined when EC2 does not know it. */
export async function lookUp(ec2: Ec2, eniId: string, boot: Boot): Promise<Eni | undefined> {
  try {
    const [eni] = await boot.waiting(ec2.describeEnis({ ids: [eniId] }));
    return eni;
  } catch (error) {
    if (refusedWith(error, 'InvalidNetworkInterfaceID.NotFound')) return undefined;
    throw error;
  }
}

/** EC2's describe is eventually consistent: waits until it shows what was done, and closes the attempts seen. */
async function settled(ec2: Ec2, expected: Expected, boot: Boot): Promise<Eni[]> {
  const started = boot.clock.bootMs();
  for (let pause = 100; ; pause = Math.min(2_000, pause * 2)) {
    const attached = await describeAttached(ec2, boot);
    const unsettled: string[] = [];
    const short: string[] = [];
    for (const [eniId, { poolSize, ipv6 }] of expected) {
      const eni = attached.find((one) => one.eniId === eniId);
      // Without its tag it would count as somebody else's, and another be made.
      if (eni?.attachment?.deleteOnTermination !== true || eni.tags[ROLE_TAG] !== POD_ROLE)
        unsettled.push(eniId);
      else if (poolSizeOf(eni) < poolSize || (ipv6 && eni.ipv6Prefixes.length === 0)) short.push(eniId);
    }
    for (const attempt of openAttempts()) {
      if (attached.some((eni) => eni.eniId === attempt.eniId)) closeAttempt(attempt);
    }
    const now = boot.clock.bootMs();
    if (unsettled.length === 0 && (short.length === 0 || now - started > ADDRESS_LAG_MS)) return attached;
    if (now + pause >= boot.until()) {
      if (unsettled.length === 0) return attached;
      throw new Failure(
        'EC2_INCONSISTENT',
        `EC2 accepted it, but does not show ${unsettled.join(', ')} attached with its tags and delete-on-termination`,
        { unsettled, attached: attached.map((eni) => eni.eniId) },
      );
    }
    await boot.waiting(boot.clock.sleep(pause));
  }
}

function expect(expected: Expected, eniId: string, poolSize: number, ipv6 = false): void {
  const before = expected.get(eniId) ?? { poolSize: 0, ipv6: false };
  expected.set(eniId, { poolSize: Math.max(poolSize, before.poolSize), ipv6: ipv6 || before.ipv6 });
}

/** A refusal is explained by the ENI's subnet where that has no IPv6: EC2's own code for it is not documented. */
async function assignIpv6(ec2: Ec2, eniId: string, attached: Eni[], boot: Boot): Promise<void> {
  try {
    await boot.waiting(ec2.assignIpv6Prefix(eniId));
  } catch (error) {
    const eni = attached.find((one) => one.eniId === eniId);
    if (eni === undefined || !isFailure(error, 'EC2_REFUSED')) throw error;
    const [subnet] = await boot.waiting(ec2.describeSubnets(eni.vpcId, { ids: [eni.subnetId] }));
    if (subnet === undefined || subnet.ipv6) throw error;
    throw withoutIpv6([subnet], `${eniId} cannot have an IPv6 prefix`, error);
  }
}

function withoutIpv6(subnets: Subnet[], what: string, cause?: unknown): Failure {
  const ids = subnets.map((subnet) => subnet.subnetId);
  return new Failure(
    'SUBNET_NO_IPV6',
    `${what}: ${ids.join(', ')} ${ids.length === 1 ? 'has' : 'have'} no IPv6 CIDR`,
    { subnets: ids },
    cause,
  );
}

/** Returns the pool addresses gained: 0 when the subnet or the ENI is full. */
async function assign(ec2: Ec2, eniId: string, addresses: AddressRequest, boot: Boot): Promise<number> {
  for (const request of fallbacks(addresses, addresses.count, boot)) {
    try {
      welcomeBack(eniId, await boot.waiting(ec2.assignAddresses(eniId, request)));
      return request.kind === 'prefixes' ? request.count * 16 : request.count;
    } catch (error) {
      if (!subnetExhausted(error) && !refusedWith(error, 'PrivateIpAddressLimitExceeded')) throw error;
      boot.log.warn('addresses not assigned', { eniId, ...request, reason: String(error) });
    }
  }
  return 0;
}

/** An ENI that the instance cannot have is of no use to anybody. */
async function attachOrRemove(ec2: Ec2, eniId: string, deviceIndex: number, boot: Boot): Promise<void> {
  try {
    await attachAt(ec2, eniId, deviceIndex, boot);
  } catch (error) {
    if (!isFailure(error, 'ENI_LIMIT')) throw error;
    await remove(ec2, eniId, boot);
    for (const attempt of openAttempts()) if (attempt.eniId === eniId) closeAttempt(attempt);
    throw error;
  }
}

/** What is attached when EC2 refuses another is all this instance can have. */
async function learnLimit(ec2: Ec2, boot: Boot): Promise<void> {
  const attached = await describeAttached(ec2, boot);
  lowerEniLimit(boot, onDefaultCard(attached).length);
}

/** Creates the ENI in the emptiest pod subnet of the zone that can hold it. */
async function create(
  ec2: Ec2,
  step: Extract<AttachStep, { kind: 'create' }>,
  attached: Eni[],
  boot: Boot,
): Promise<Eni> {
  const subnets = await podSubnets(ec2, boot);
  const securityGroupIds = await securityGroups(ec2, attached, boot);
  const refused: string[] = [];
  for (const addresses of fallbacks(step.addresses, nodeOf(boot).limits.addressesPerEni - 1, boot)) {
    for (const subnet of subnets) {
      const attempt = beginAttempt(nodeOf(boot).identity.instanceId, {
        subnetId: subnet.subnetId,
        securityGroupIds,
        addresses,
        ipv6Prefix: isDualStack(boot),
        ...labels(boot),
      });
      try {
        const eni = await boot.waiting(ec2.createEni(attempt.request));
        noteCreated(attempt, eni.eniId);
        return eni;
      } catch (error) {
        if (isRefusal(error)) closeAttempt(attempt);
        if (refusedWith(error, QUOTA)) {
          throw new Failure(
            'ENI_QUOTA',
            `this account may have no more ENIs in ${nodeOf(boot).identity.region}`,
            { subnetId: subnet.subnetId },
            error,
          );
        }
        if (!subnetExhausted(error)) throw error;
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

function labels(boot: Boot): Pick<CreateEni, 'description' | 'tags'> {
  const { instanceId } = nodeOf(boot).identity;
  return {
    description: `eniboot pods of ${instanceId}`,
    tags: {
      ...boot.config.aws.tags,
      [ROLE_TAG]: POD_ROLE,
      [CLUSTER_TAG]: boot.config.cluster,
      [INSTANCE_TAG]: instanceId,
      [CREATED_TAG]: boot.clock.now().toISOString(),
    },
  };
}

/**
 * Prefixes need 16 addresses in a row; where `auto` chose them, a fragmented subnet still gives single ones,
 * one in each of so many slots.
 */
function fallbacks(addresses: AddressRequest, slots: number, boot: Boot): AddressRequest[] {
  if (addresses.kind !== 'prefixes' || boot.config.pods.addressing !== 'auto') return [addresses];
  return [addresses, { kind: 'addresses', count: Math.min(slots, addresses.count * 16) }];
}

/** The same request again: the ENI's ID, or undefined when EC2 has never made one for it and refuses to. */
async function repeat(ec2: Ec2, attempt: Attempt, boot: Boot): Promise<string | undefined> {
  try {
    const { eniId } = await boot.waiting(ec2.createEni(attempt.request));
    noteCreated(attempt, eniId);
    return eniId;
  } catch (error) {
    if (isRefusal(error)) return undefined;
    throw error;
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
          `EC2 attaches no further ENI to this ${identity.instanceType}: ${error instanceof Error ? error.message : String(error)}`,
          { eniId, deviceIndex },
          error,
        );
      }
      if (refusedWith(error, 'InvalidNetworkInterfaceID.NotFound')) {
        // Seconds old, or deleted by somebody: the next try finds out which.
        throw new Failure('EC2_INCONSISTENT', `EC2 does not know ${eniId}, which is ours`, { eniId }, error);
      }
      if (refusedWith(error, ...NOT_YET)) throw notYet(eniId, error);
      if (!isFailure(error, 'EC2_REFUSED') || tries >= INDEX_TRIES) throw error;
      // Either an earlier attempt succeeded and its answer was lost, or the index is taken: look.
      const mine = await lookUp(ec2, eniId, boot);
      if (mine?.attachment?.instanceId === identity.instanceId) {
        if (!mine.attachment.deleteOnTermination) {
          await boot.waiting(ec2.setDeleteOnTermination(eniId, mine.attachment.attachmentId));
        }
        return;
      }
      const attached = await describeAttached(ec2, boot);
      const used = new Set(attached.map((eni) => eni.attachment?.deviceIndex));
      // Most likely by our own call, whose answer was lost: the describes have not heard of it yet.
      if (refusedWith(error, 'InvalidNetworkInterface.InUse')) throw notYet(eniId, error);
      if (!used.has(deviceIndex) && !mentionsIndex(error)) throw error;
      deviceIndex += 1;
      while (used.has(deviceIndex)) deviceIndex += 1;
      boot.log.warn('device index taken', { eniId, wanted: wantedIndex, next: deviceIndex });
    }
  }
}

/** What passes while one waits. */
function notYet(eniId: string, error: unknown): Failure {
  const reason = error instanceof Error ? error.message : String(error);
  return new Failure('EC2_INCONSISTENT', `${eniId} cannot be attached yet: ${reason}`, { eniId }, error);
}

async function remove(ec2: Ec2, eniId: string, boot: Boot): Promise<void> {
  try {
    await boot.waiting(ec2.deleteEni(eniId));
  } catch (error) {
    if (!refusedWith(error, 'InvalidNetworkInterfaceID.NotFound')) throw error;
  }
}

/** Pod subnets of the node's own zone, the emptiest first. */
async function podSubnets(ec2: Ec2, boot: Boot): Promise<Subnet[]> {
  const { identity, bootEni } = nodeOf(boot);
  const wanted = boot.config.pods.subnets;
  const found = await boot.waiting(ec2.describeSubnets(bootEni.vpcId, wanted));
  const gone = 'ids' in wanted ? wanted.ids.filter((id) => !found.some((one) => one.subnetId === id)) : [];
  if (gone.length > 0)
    boot.log.warn('configured pod subnets that this VPC does not have', { vpcId: bootEni.vpcId, gone });
  const here = found.filter((subnet) => subnet.zone === identity.zone);
  if (here.length === 0) {
    throw new Failure(
      'NO_POD_SUBNET',
      `no pod subnet of the configuration is in ${identity.zone} of ${bootEni.vpcId}`,
      {
        zone: identity.zone,
        configured: wanted,
        found: found.map((subnet) => `${subnet.subnetId} in ${subnet.zone}`),
      },
    );
  }
  const usable = isDualStack(boot) ? here.filter((subnet) => subnet.ipv6) : here;
  if (usable.length === 0)
    throw withoutIpv6(here, `no pod subnet in ${identity.zone} can give an IPv6 prefix`);
  return usable.sort((a, b) => b.freeAddresses - a.freeAddresses || a.subnetId.localeCompare(b.subnetId));
}

async function securityGroups(ec2: Ec2, attached: Eni[], boot: Boot): Promise<string[]> {
  const { bootEni } = nodeOf(boot);
  const wanted = boot.config.pods.securityGroups;
  if (wanted === undefined) {
    // EC2's word, since IMDS may lag; every ENI has one. Asked for none, EC2 would take the VPC's default group.
    const groups = attached.find((eni) => eni.eniId === bootEni.eniId)?.securityGroupIds ?? [];
    if (groups.length > 0) return groups;
    throw new Failure('EC2_INCONSISTENT', `EC2 shows ${bootEni.eniId} without a security group`, {
      eniId: bootEni.eniId,
    });
  }
  if ('ids' in wanted) return [...wanted.ids].sort();
  const found = await boot.waiting(ec2.describeSecurityGroupIds(bootEni.vpcId, wanted));
  if (found.length > 0) return found;
  throw new Failure('NO_SECURITY_GROUP', `no security group in ${bootEni.vpcId} has the configured tags`, {
    tags: wanted.tags,
  });
}

/** EC2 has said no, so nothing was made. */
function isRefusal(error: unknown): boolean {
  return isFailure(error, 'EC2_REFUSED', 'EC2_DENIED');
}

function refusedWith(error: unknown, ...codes: string[]): boolean {
  return isFailure(error, 'EC2_REFUSED') && codes.includes(String(error.facts['ec2Code']));
}

/**
 * Besides its own codes EC2 says it with a general one and these words, when fewer addresses are free than
 * asked for (cilium/cilium#31016).
 */
function subnetExhausted(error: unknown): boolean {
  if (refusedWith(error, ...SUBNET_EXHAUSTED)) return true;
  return refusedWith(error, 'InvalidParameterValue') && /sufficient free/i.test(String(error));
}

function mentionsIndex(error: Failure): boolean {
  return /device index/i.test(error.message);
}
