// Which ENIs are pod ENIs: from EC2; or, without EC2, from what IMDS, the kernel and earlier runs agree on.
import type { Eni } from '../../../aws/ec2.ts';
import { type Link, listLinks } from '../../../host/links.ts';
import { earlierNodeFile, type NodePodEni } from '../../../host/node-file.ts';
import { type Failure, isFailure } from '../../../messages/failure.ts';
import { listOwned } from '../../../pool/entry.ts';
import { type Context, orSilence } from '../../context.ts';
import { isDualStack, type NodeFacts, type PodEni } from '../../facts/facts.ts';
import { linkOf } from '../../facts/pod-devices.ts';
import { type OpenAttempt, openAttempts } from './attempts.ts';
import { describeAttached, describeUnattached, lookUp, lookUpMade } from './describe.ts';
import { recallEnis } from './known-enis.ts';
import { foreignEnisOf, podEnisOf } from './plan.ts';

export interface PodEnisSeen {
  /** From EC2; undefined when EC2 was not asked, or did not answer and the run goes on without it. */
  attached: readonly Eni[] | undefined;
  /** Why the run goes on without EC2. */
  silence: Failure | undefined;
  pods: PodEni[];
  /** ENIs on this instance that are neither the boot ENI nor pod ENIs; each takes a slot away. */
  foreign: string[];
  /** What earlier runs of this boot asked for and no run has seen attached. */
  attempts: OpenAttempt[];
}

/** @param view which ENIs of EC2's list count */
export async function observePodEnis(
  context: Context,
  node: NodeFacts,
  view: (attached: readonly Eni[]) => readonly Eni[],
): Promise<PodEnisSeen> {
  if (context.mode.kind === 'repair') return withoutEc2(node, podsInUse(node, await listLinks()), undefined);
  const canGoOn = node.otherEnis.length > 0;
  context.cloud.attached ??= await orSilence(context, canGoOn, () => askForAttached(context, node));
  const said = context.cloud.attached;
  if (isFailure(said)) return withoutEc2(node, podsFromMemory(node, await listLinks()), said);
  const attempts = await observeAttempts(context, said);
  const resumed = attempts.flatMap(({ eni }) => (eni !== undefined && isOn(node, eni) ? eni : []));
  context.cloud.attached = [...said, ...resumed.filter((eni) => !isIn(said, eni.eniId))];
  const attached = view(context.cloud.attached);
  return {
    attempts,
    attached,
    silence: undefined,
    pods: podEnisOf(attached).map((eni) => toPodEni(eni, node)),
    foreign: foreignEnisOf(attached).map((eni) => eni.eniId),
  };
}

/**
 * This node's pod ENIs that are attached to nothing: those that this boot asked for; and, when something is missing, those that
 * a run before this boot has left.
 * @param isShort something is missing: only a run that would create an ENI needs to know of earlier boots' ENIs
 */
export async function observeUnattached(
  context: Context,
  node: NodeFacts,
  attempts: readonly OpenAttempt[],
  isShort: boolean,
): Promise<readonly Eni[]> {
  if (isShort) context.cloud.unattached ??= await describeUnattached(await context.ec2(), context, node);
  const described = context.cloud.unattached ?? [];
  const asked = attempts.flatMap(({ eni }) => (eni !== undefined && eni.attachment === undefined ? eni : []));
  return [...described, ...asked.filter((eni) => !isIn(described, eni.eniId))];
}

/** An ENI that the list does not show is looked up by its ID, which lags less than a filter. */
async function observeAttempts(context: Context, attached: readonly Eni[]): Promise<OpenAttempt[]> {
  const found: OpenAttempt[] = [];
  for (const attempt of openAttempts()) {
    const { eniId } = attempt;
    const listed = attached.find((eni) => eni.eniId === eniId);
    const eni =
      eniId === undefined
        ? undefined
        : (listed ?? (await lookUpMade(await context.ec2(), eniId, attempt, context)));
    found.push({ attempt, eni });
  }
  return found;
}

function isIn(enis: readonly Eni[], eniId: string): boolean {
  return enis.some((eni) => eni.eniId === eniId);
}

function isOn({ identity }: NodeFacts, { attachment }: Eni): boolean {
  return attachment?.instanceId === identity.instanceId;
}

async function askForAttached(context: Context, node: NodeFacts): Promise<readonly Eni[]> {
  const described = await describeAttached(await context.ec2(), context, node);
  const attached = [...described, ...(await missedByDescribe(described, context, node))];
  context.cloud.found = new Set(podEnisOf(attached).flatMap((eni) => toPodEni(eni, node).cidrs));
  return attached;
}

/**
 * ENIs that IMDS shows on this instance and the filtered describe does not. The describe is eventually consistent, and an ENI
 * that it does not show would be created a second time.
 */
async function missedByDescribe(attached: Eni[], context: Context, node: NodeFacts): Promise<Eni[]> {
  const ec2 = await context.ec2();
  const found: Eni[] = [];
  for (const { eniId } of node.otherEnis) {
    if (isIn(attached, eniId)) continue;
    const eni = await lookUp(ec2, eniId, context);
    if (eni !== undefined && isOn(node, eni)) found.push(eni);
  }
  return found;
}

function withoutEc2(node: NodeFacts, pods: PodEni[], silence: Failure | undefined): PodEnisSeen {
  const { identity, otherEnis } = node;
  const seen = [...otherEnis.map((eni) => eni.eniId), ...(recallEnis(identity.instanceId)?.foreign ?? [])];
  const foreign = [...new Set(seen)].filter((eniId) => !pods.some((pod) => pod.eniId === eniId));
  return { attached: undefined, silence, pods, foreign, attempts: [] };
}

/**
 * ENIs that IMDS describes and whose device is here. What an earlier boot of this instance learned from EC2 decides which of
 * them are pod ENIs. On a first boot, an ENI whose device another program has configured is none.
 */
function podsFromMemory(node: NodeFacts, links: Link[]): PodEni[] {
  const { identity, otherEnis } = node;
  const memory = recallEnis(identity.instanceId);
  return otherEnis
    .filter((eni) => eni.deviceNumber > 0)
    .filter((eni) => {
      const link = linkOf(eni, links);
      if (link === undefined) return false;
      if (memory !== undefined) return memory.pods.includes(eni.eniId);
      return link.addresses.every((address) => address.family === 6);
    })
    .map((eni) => ({
      eniId: eni.eniId,
      mac: eni.mac,
      deviceIndex: eni.deviceNumber,
      subnetId: eni.subnetId,
      subnetCidr: eni.subnetCidr,
      primaryAddress: eni.addresses[0] ?? '',
      cidrs: [...eni.prefixes, ...eni.addresses.slice(1).map((address) => `${address}/32`)],
      ipv6Prefix: ipv6PrefixOf(eni, node),
    }));
}

/**
 * On a running node: an ENI of which the plugin was told stays as long as the kernel has it, in the same order, even when one
 * answer of IMDS is incomplete. Only boot and refill, which ask EC2, take an ENI away.
 */
function podsInUse(node: NodeFacts, links: Link[]): PodEni[] {
  const described = podsFromMemory(node, links);
  const used = usedPodEnis().filter((eni) => linkOf(eni, links) !== undefined);
  const owned = listOwned();
  const kept = used.map(
    ({ eniId, mac, subnetCidr, primaryAddress = '', ipv6Prefix }): PodEni =>
      described.find((pod) => pod.eniId === eniId) ?? {
        eniId,
        mac,
        subnetCidr,
        cidrs: owned.filter((one) => one.eniId === eniId).map((one) => one.cidr),
        ipv6Prefix: isDualStack(node) ? ipv6Prefix : undefined,
        // Known from IMDS alone. Code that works without EC2 does not use these fields.
        deviceIndex: -1,
        subnetId: '',
        primaryAddress,
      },
  );
  return [...kept, ...described.filter((pod) => !kept.includes(pod))];
}

function toPodEni(eni: Eni, node: NodeFacts): PodEni {
  const isIt = (one: { eniId: string }) => one.eniId === eni.eniId;
  const known = node.otherEnis.find(isIt) ?? usedPodEnis().find(isIt);
  return {
    eniId: eni.eniId,
    mac: eni.mac,
    deviceIndex: eni.attachment?.deviceIndex ?? 0,
    subnetId: eni.subnetId,
    subnetCidr: known?.subnetCidr ?? '',
    primaryAddress: eni.primaryAddress,
    cidrs: [...eni.prefixes, ...eni.secondaryAddresses.map((address) => `${address}/32`)],
    ipv6Prefix: ipv6PrefixOf(eni, node),
  };
}

/** The prefix that pods of this ENI have already, else the lowest: the ENI may have been given a second prefix from outside. */
function ipv6PrefixOf(
  eni: { eniId: string; ipv6Prefixes: readonly string[] },
  node: NodeFacts,
): string | undefined {
  if (!isDualStack(node)) return undefined;
  const used = usedPodEnis().find((one) => one.eniId === eni.eniId)?.ipv6Prefix;
  return used !== undefined && eni.ipv6Prefixes.includes(used) ? used : [...eni.ipv6Prefixes].sort()[0];
}

/** The pod ENIs of which the plugin was last told. */
function usedPodEnis(): NodePodEni[] {
  return earlierNodeFile()?.podEnis ?? [];
}
