// Creating a pod ENI: in which subnet, with which security groups, tags and addresses.
import type { AddressRequest, CreateEni, Ec2, Eni, Subnet } from '../../../aws/ec2.ts';
import { CLUSTER_TAG, CREATED_TAG, INSTANCE_TAG, POD_ROLE, ROLE_TAG } from '../../../aws/tags.ts';
import { Failure } from '../../../messages/failure.ts';
import type { AttachStep } from '../../change.ts';
import type { Context } from '../../context.ts';
import { isDualStack, type NodeFacts } from '../../facts/facts.ts';
import { beginAttempt, closeAttempt, noteCreated } from './attempts.ts';
import { sizeOf } from './plan.ts';
import { isRefusal, refusedWith, subnetExhausted, withoutIpv6 } from './refusals.ts';

/** EC2's code for an account that may have no more ENIs in this region. */
const QUOTA = 'NetworkInterfaceLimitExceeded';

/** Creates the ENI in the pod subnet of the zone with the most free addresses among those that can hold it. */
export async function createEni(
  ec2: Ec2,
  step: Extract<AttachStep, { kind: 'create' }>,
  attached: readonly Eni[],
  context: Context,
  node: NodeFacts,
): Promise<Eni> {
  const subnets = await podSubnets(ec2, context, node);
  const securityGroupIds = await securityGroups(ec2, attached, context, node);
  const refused: string[] = [];
  for (const addresses of fallbacks(step.addresses, node.limits.addressesPerEni - 1, node)) {
    for (const subnet of subnets.filter((one) => mayFit(addresses, one))) {
      const attempt = beginAttempt(node.identity.instanceId, {
        subnetId: subnet.subnetId,
        securityGroupIds,
        addresses,
        ipv6Prefix: isDualStack(node),
        ...labels(context, node),
      });
      try {
        const eni = await context.waiting(ec2.createEni(attempt.request));
        noteCreated(attempt, eni.eniId, context.clock.bootMs());
        return eni;
      } catch (error) {
        if (isRefusal(error)) closeAttempt(attempt);
        if (refusedWith(error, QUOTA)) {
          const message = `this account may have no more ENIs in ${node.identity.region}`;
          throw new Failure('ENI_QUOTA', message, { subnetId: subnet.subnetId }, error);
        }
        if (!subnetExhausted(error)) throw error;
        refused.push(`${subnet.subnetId} (${subnet.freeAddresses} free): ${String(error)}`);
      }
    }
  }
  const { count, kind } = step.addresses;
  const message = `no pod subnet in ${node.identity.zone} has room for ${count} ${kind}`;
  throw new Failure('SUBNETS_FULL', message, { subnets, refused });
}

function labels(context: Context, node: NodeFacts): Pick<CreateEni, 'description' | 'tags'> {
  const { instanceId } = node.identity;
  return {
    description: `eniboot pods of ${instanceId}`,
    tags: {
      ...node.config.aws.tags,
      [ROLE_TAG]: POD_ROLE,
      [CLUSTER_TAG]: node.config.cluster,
      [INSTANCE_TAG]: instanceId,
      [CREATED_TAG]: context.clock.now().toISOString(),
    },
  };
}

/**
 * What to ask for, one after the other. EC2 gives all that a request asks for or nothing, so half of it is asked for next.
 * Prefixes need 16 addresses in a row. Where `auto` chose prefixes, a fragmented subnet can still give single addresses, one
 * for each slot.
 */
export function fallbacks(addresses: AddressRequest, slots: number, node: NodeFacts): AddressRequest[] {
  if (addresses.kind !== 'prefixes' || node.config.pods.addressing !== 'auto') return halves(addresses);
  const singles = Math.min(slots, sizeOf(addresses));
  return [...halves(addresses), ...halves({ kind: 'addresses', count: singles })];
}

function halves({ kind, count }: AddressRequest): AddressRequest[] {
  return count < 1 ? [] : [{ kind, count }, ...halves({ kind, count: Math.floor(count / 2) })];
}

/** The smallest request is made in any case: the number of free addresses may be out of date. */
export function mayFit(addresses: AddressRequest, { freeAddresses }: Subnet): boolean {
  return addresses.count === 1 || sizeOf(addresses) < freeAddresses;
}

/** Pod subnets of the node's own zone, the one with the most free addresses first. */
async function podSubnets(ec2: Ec2, context: Context, node: NodeFacts): Promise<Subnet[]> {
  const { identity, bootEni } = node;
  const wanted = node.config.pods.subnets;
  const found = await context.waiting(ec2.describeSubnets(bootEni.vpcId, wanted));
  const gone = 'ids' in wanted ? wanted.ids.filter((id) => !found.some((one) => one.subnetId === id)) : [];
  if (gone.length > 0)
    context.log.warn('configured pod subnets that this VPC does not have', { vpcId: bootEni.vpcId, gone });
  const here = found.filter((subnet) => subnet.zone === identity.zone);
  if (here.length === 0) {
    const { zone } = identity;
    const message = `no pod subnet of the configuration is in ${zone} of ${bootEni.vpcId}`;
    const others = found.map((subnet) => `${subnet.subnetId} in ${subnet.zone}`);
    throw new Failure('NO_POD_SUBNET', message, { zone, configured: wanted, found: others });
  }
  const usable = isDualStack(node) ? here.filter((subnet) => subnet.ipv6) : here;
  if (usable.length === 0)
    throw withoutIpv6(here, `no pod subnet in ${identity.zone} can give an IPv6 prefix`);
  return usable.sort((a, b) => b.freeAddresses - a.freeAddresses || a.subnetId.localeCompare(b.subnetId));
}

async function securityGroups(
  ec2: Ec2,
  attached: readonly Eni[],
  context: Context,
  node: NodeFacts,
): Promise<string[]> {
  const { bootEni } = node;
  const wanted = node.config.pods.securityGroups;
  if (wanted === undefined) {
    // From EC2, since IMDS may lag; every ENI has a security group. For a request without groups, EC2 would use the VPC's
    // default group.
    const groups = attached.find((eni) => eni.eniId === bootEni.eniId)?.securityGroupIds ?? [];
    if (groups.length > 0) return groups;
    throw new Failure('EC2_INCONSISTENT', `EC2 shows ${bootEni.eniId} without a security group`, {
      eniId: bootEni.eniId,
    });
  }
  if ('ids' in wanted) return [...wanted.ids].sort();
  const found = await context.waiting(ec2.describeSecurityGroupIds(bootEni.vpcId, wanted));
  if (found.length > 0) return found;
  throw new Failure('NO_SECURITY_GROUP', `no security group in ${bootEni.vpcId} has the configured tags`, {
    tags: wanted.tags,
  });
}
