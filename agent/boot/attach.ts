// attach: at least one pod ENI with its addresses, its device up and bare, its prefixes in the pool. EC2 is
// the only source for what is ours; IMDS and kernel must agree with it before anything is used.
import type { Eni } from '../aws/ec2.ts';
import { POD_ROLE, ROLE_TAG } from '../aws/tags.ts';
import { ipBatch, type Link, listLinks, listRoutes, type Route, waitForLinks } from '../host/links.ts';
import { earlierNodeFile, type NodePodEni } from '../host/node-file.ts';
import { writeSysctl } from '../host/sysctl.ts';
import { Failure } from '../messages/failure.ts';
import {
  addToPool,
  countStates,
  finishAdding,
  listOwned,
  mayEnter,
  NEVER_USED,
  type Owned,
} from '../pool/pool.ts';
import { applySteps, describeAttached, describeUnattached, lookUp, resumeAttempts } from './attach-apply.ts';
import { type AttachStep, foreignEnisOf, planAttach, podEnisOf } from './attach-plan.ts';
import { type Capacity, capacity } from './capacity.ts';
import { isSilence, refreshTables, silenceMs } from './egress.ts';
import { recallEnis, rememberEnis } from './known-enis.ts';
import {
  type Boot,
  type Change,
  type Check,
  fail,
  isDualStack,
  nodeOf,
  type Phase,
  type PodEni,
  pass,
  warn,
} from './phase.ts';

interface Observed {
  /** From EC2; undefined when EC2 stayed silent and the boot goes on without it. */
  attached: Eni[] | undefined;
  unattached: Eni[];
  links: Link[];
  routes: Route[];
}

type Planned = Change &
  (
    | { kind: 'step'; step: AttachStep }
    | { kind: 'device'; device: string; ipv6Auto: boolean; lines: string[]; lines6: string[] }
    | { kind: 'pool'; eniId: string; cidr: string }
  );

export const attach: Phase<Observed, Planned> = {
  name: 'attach',
  budgetSeconds: 180,

  async observe(boot) {
    const [links, routes] = await Promise.all([listLinks(), mainRoutes(boot)]);
    const attached = await attachedIfKnown(boot);
    if (attached === undefined) {
      boot.pods = boot.localOnly ? podsInUse(boot, links) : podsFromMemory(boot, links);
      boot.foreignEnis = foreignFromMemory(boot);
      return { attached, unattached: [], links, routes };
    }
    boot.pods = podEnisOf(attached).map((eni) => toPodEni(eni, boot));
    boot.foreignEnis = foreignEnisOf(attached).length;
    const target = targetOf(boot);
    const short = boot.pods.reduce((sum, pod) => sum + sizeOf(pod), 0) < target || boot.pods.length === 0;
    // Only a boot that would create something needs to know what an earlier, killed run left behind.
    const unattached = short ? await describeUnattached(await boot.ec2(), boot) : [];
    return { attached, unattached, links, routes };
  },

  plan(observed, boot) {
    const steps =
      observed.attached === undefined ? [] : planSteps(observed.attached, observed.unattached, boot);
    return [
      ...steps.map((step): Planned => ({ kind: 'step', step, summary: step.summary })),
      ...boot.pods.flatMap((pod) => devicePlan(pod, observed.links, observed.routes, boot)),
      ...newToPool(boot).map(
        ({ eniId, cidr }): Planned => ({
          kind: 'pool',
          eniId,
          cidr,
          summary: `add ${cidr} of ${eniId} to the pool`,
        }),
      ),
    ];
  },

  async apply(_changes, observed, boot) {
    const { attached } = observed;
    const found = new Set(boot.pods.flatMap((pod) => pod.cidrs));
    if (attached !== undefined) {
      const reached = await reachTarget(attached, observed.unattached, boot);
      boot.pods = podEnisOf(reached).map((eni) => toPodEni(eni, boot));
      boot.foreignEnis = foreignEnisOf(reached).length;
      rememberEnis(nodeOf(boot).identity.instanceId, {
        pods: boot.pods.map((pod) => pod.eniId),
        foreign: foreignEnisOf(reached).map((eni) => eni.eniId),
      });
    }
    await bringUpDevices(boot);
    await fillPool(boot, found);
  },

  async verify(boot) {
    const { free, leased, cooling } = countStates();
    const total = free + leased + cooling;
    const target = targetOf(boot);
    return [
      boot.pods.length > 0
        ? pass(
            'pod-enis',
            `${boot.pods.length} pod ENI${boot.pods.length > 1 ? 's' : ''}: ${boot.pods.map((pod) => pod.eniId).join(', ')}`,
            { pods: boot.pods },
          )
        : fail('pod-enis', 'NO_POD_ENI', 'no pod ENI is attached'),
      checkPool(total, target, { free, leased, cooling }),
      ...checkIpv6(boot),
      ...checkForeign(boot),
    ];
  },
};

/** Addresses wanted in the pool: configured, or one for each pod kubelet will be told of. */
export function targetOf(boot: Boot): number {
  const { config } = boot;
  return Math.min(config.pool.target ?? Number.POSITIVE_INFINITY, capacityOf(boot).maxPods);
}

/** What this very instance can address: ENIs that are not ours take their slots away. */
export function capacityOf(boot: Boot): Capacity {
  const { limits } = nodeOf(boot);
  const { addressing, max } = boot.config.pods;
  if (boot.foreignEnis === 0) return capacity(limits, addressing, max);
  // Without any slot left attach fails with ENI_LIMIT, which says more than a capacity of none.
  const defaultCardEnis = Math.max(2, limits.defaultCardEnis - boot.foreignEnis);
  const left = capacity({ ...limits, defaultCardEnis }, addressing, max);
  return { ...left, explain: `${left.explain}; ${boot.foreignEnis} more not eniboot's` };
}

/** What EC2 has attached; undefined when EC2 is silent but nothing needs it. */
async function attachedIfKnown(boot: Boot): Promise<Eni[] | undefined> {
  const node = nodeOf(boot);
  const canGoOn = node.otherEnis.length > 0;
  if (boot.localOnly) return undefined;
  try {
    if (canGoOn) boot.limitPatience(silenceMs(boot));
    const ec2 = await boot.ec2();
    const attached = await describeAttached(ec2, boot);
    return [...attached, ...(await overlooked(attached, boot))];
  } catch (error) {
    if (!canGoOn || !isSilence(error)) throw error;
    boot.ec2Silent = true;
    boot.degradations.push(`pod ENIs are those IMDS and kernel agree on: ${error.message}`);
    return undefined;
  } finally {
    boot.limitPatience(undefined);
  }
}

/**
 * Without EC2: ENIs that IMDS describes and whose device is here. What an earlier boot of this instance
 * learned from EC2 decides which are ours; on a first boot, a device that somebody has configured is not.
 */
function podsFromMemory(boot: Boot, links: Link[]): PodEni[] {
  const { identity, otherEnis } = nodeOf(boot);
  const memory = recallEnis(identity.instanceId);
  return otherEnis
    .filter((eni) => eni.deviceNumber > 0)
    .filter((eni) => {
      const link = links.find((one) => one.mac === eni.mac && !one.stacked);
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
      ipv6Prefix: ipv6PrefixOf(eni, boot),
    }));
}

/**
 * Without EC2 on a running node: what the plugin was told of stays as long as the kernel has it, in that order, however
 * incomplete one answer of IMDS may be; only boot and refill, which ask EC2, take an ENI away.
 */
function podsInUse(boot: Boot, links: Link[]): PodEni[] {
  const described = podsFromMemory(boot, links);
  const used = usedPodEnis().filter((eni) => links.some((link) => link.mac === eni.mac && !link.stacked));
  const owned = listOwned();
  const kept = used.map(
    ({ eniId, mac, subnetCidr, primaryAddress = '', ipv6Prefix }): PodEni =>
      described.find((pod) => pod.eniId === eniId) ?? {
        eniId,
        mac,
        subnetCidr,
        cidrs: owned.filter((one) => one.eniId === eniId).map((one) => one.cidr),
        ipv6Prefix: isDualStack(boot) ? ipv6Prefix : undefined,
        // Told by IMDS alone, and asked for by nothing that works without EC2.
        deviceIndex: -1,
        subnetId: '',
        primaryAddress,
      },
  );
  return [...kept, ...described.filter((pod) => !kept.includes(pod))];
}

/** Pod ENIs the plugin was last told of. */
function usedPodEnis(): NodePodEni[] {
  return earlierNodeFile()?.podEnis ?? [];
}

/** Without EC2: ENIs that are not ours, those IMDS shows and those EC2 has shown; each takes a slot away. */
function foreignFromMemory(boot: Boot): number {
  const { identity, otherEnis } = nodeOf(boot);
  const seen = [...otherEnis.map((eni) => eni.eniId), ...(recallEnis(identity.instanceId)?.foreign ?? [])];
  return new Set(seen.filter((eniId) => !boot.pods.some((pod) => pod.eniId === eniId))).size;
}

/**
 * ENIs that IMDS shows on this instance and the filtered describe does not: it is eventually consistent, and
 * an ENI it overlooks would be created a second time.
 */
async function overlooked(attached: Eni[], boot: Boot): Promise<Eni[]> {
  const { identity, otherEnis } = nodeOf(boot);
  const ec2 = await boot.ec2();
  const found: Eni[] = [];
  for (const { eniId } of otherEnis) {
    if (attached.some((eni) => eni.eniId === eniId)) continue;
    const eni = await lookUp(ec2, eniId, boot);
    if (eni?.attachment?.instanceId === identity.instanceId) found.push(eni);
  }
  return found;
}

/** More than one where EC2 gives less than was asked: single addresses instead of prefixes, or nothing more on one ENI. */
const ROUNDS = 4;

/** Brings the pod ENIs to their target, as far as EC2 gives; returns everything attached. */
async function reachTarget(before: Eni[], found: Eni[], boot: Boot): Promise<Eni[]> {
  const { instanceId } = nodeOf(boot).identity;
  const resumed = await resumeAttempts(boot);
  const isNew = (list: Eni[]) => (eni: Eni) => !list.some((one) => one.eniId === eni.eniId);
  const ours = resumed.filter((eni) => eni.attachment?.instanceId === instanceId);
  // What a look by ID shows is newer.
  let attached = [...ours, ...before.filter(isNew(ours))];
  let unattached = [...found, ...resumed.filter((eni) => eni.attachment === undefined).filter(isNew(found))];
  const full = new Set<string>();
  for (let round = 0; round < ROUNDS; round += 1) {
    const steps = planSteps(attached, unattached, boot, full);
    if (steps.length === 0) break;
    const applied = await applySteps(steps, attached, boot);
    attached = applied.attached;
    unattached = [];
    for (const eniId of applied.full) full.add(eniId);
    if (applied.exhausted) break;
  }
  return attached;
}

function planSteps(
  attached: Eni[],
  unattached: Eni[],
  boot: Boot,
  full: ReadonlySet<string> = new Set(),
): AttachStep[] {
  const { limits } = nodeOf(boot);
  return planAttach({
    attached,
    unattached,
    limits,
    addressing: capacityOf(boot).unit,
    target: targetOf(boot),
    ipv6: isDualStack(boot),
    full,
  });
}

function toPodEni(eni: Eni, boot: Boot): PodEni {
  const known = nodeOf(boot).otherEnis.find((one) => one.eniId === eni.eniId);
  return {
    eniId: eni.eniId,
    mac: eni.mac,
    deviceIndex: eni.attachment?.deviceIndex ?? 0,
    subnetId: eni.subnetId,
    subnetCidr: known?.subnetCidr ?? '',
    primaryAddress: eni.primaryAddress,
    cidrs: [...eni.prefixes, ...eni.secondaryAddresses.map((address) => `${address}/32`)],
    ipv6Prefix: ipv6PrefixOf(eni, boot),
  };
}

/** The prefix pods of this ENI have already, else the lowest: somebody may have given it a second one. */
function ipv6PrefixOf(eni: { eniId: string; ipv6Prefixes: string[] }, boot: Boot): string | undefined {
  if (!isDualStack(boot)) return undefined;
  const used = usedPodEnis().find((one) => one.eniId === eni.eniId)?.ipv6Prefix;
  return used !== undefined && eni.ipv6Prefixes.includes(used) ? used : [...eni.ipv6Prefixes].sort()[0];
}

/** What a pod ENI's device lacks: up, the boot ENI's MTU, no address and no route of either family. */
function devicePlan(pod: PodEni, links: Link[], routes: Route[], boot: Boot): Planned[] {
  const link = links.find((one) => one.mac === pod.mac && !one.stacked);
  if (link === undefined) return [];
  const { mtu } = nodeOf(boot).bootDevice;
  const lines: string[] = [];
  if (link.ipv6Auto) lines.push(`link set dev ${link.name} addrgenmode none`);
  if (link.addresses.length > 0) lines.push(`address flush dev ${link.name}`);
  const own = routes.filter((route) => route.device === link.name);
  const flush = `route flush dev ${link.name}`;
  if (own.some((route) => route.family === 4)) lines.push(flush);
  // One of an advertisement outlives the address that came with it.
  const lines6 = own.some((route) => route.family === 6) ? [flush] : [];
  if (link.mtu !== mtu) lines.push(`link set dev ${link.name} mtu ${mtu}`);
  if (!link.up) lines.push(`link set dev ${link.name} up`);
  if (lines.length + lines6.length === 0) return [];
  return [
    {
      kind: 'device',
      device: link.name,
      ipv6Auto: link.ipv6Auto,
      lines,
      lines6,
      summary: `prepare ${link.name}: ${[...lines, ...lines6.map((line) => `-6 ${line}`)].map((line) => line.replace(`link set dev ${link.name} `, '')).join(', ')}`,
    },
  ];
}

/** Puts back what something else has undone since apply, from what apply learned: asks nobody. */
export async function reassert(boot: Boot): Promise<void> {
  await bringUpDevices(boot);
  await fillPool(boot);
}

/** Waits for each pod ENI's device, woken by the kernel, and makes it bare and up. */
async function bringUpDevices(boot: Boot): Promise<void> {
  const macs = boot.pods.map((pod) => pod.mac);
  const present = (links: Link[]) =>
    macs.every((mac) => links.some((link) => link.mac === mac && !link.stacked));
  const remaining = Math.max(0, boot.until() - boot.clock.bootMs());
  const links = await boot.waiting(waitForLinks(present, remaining));
  if (links === undefined) throw await explainMissingDevice(boot, macs);
  const routes = await mainRoutes(boot);
  for (const pod of boot.pods) {
    const [change] = devicePlan(pod, links, routes, boot);
    if (change?.kind !== 'device') continue;
    // A router's advertisement would put an address on the device as soon as it is up.
    if (change.ipv6Auto) writeSysctl(`net/ipv6/conf/${change.device}/accept_ra`, '0');
    await ipBatch(change.lines);
    await ipBatch(change.lines6, 6);
  }
}

/** Of both families where pods have both. */
export async function mainRoutes(boot: Boot): Promise<Route[]> {
  const both = await Promise.all([listRoutes(), isDualStack(boot) ? listRoutes(6) : []]);
  return both.flat();
}

async function explainMissingDevice(boot: Boot, macs: string[]): Promise<Failure> {
  const links = await listLinks();
  const missing = boot.pods.filter((pod) => !links.some((link) => link.mac === pod.mac));
  const facts = {
    missing: missing.map((pod) => pod.eniId),
    macs,
    devices: links.map((link) => `${link.name} ${link.mac}`),
  };
  const ids = missing.map((pod) => pod.eniId).join(', ');
  const ec2 = await boot.ec2();
  const described = await ec2.describeEnis({ ids: missing.map((pod) => pod.eniId) }).catch(() => []);
  const stuck = described.filter((eni) => eni.attachment?.status !== 'attached');
  return stuck.length > 0
    ? new Failure('ATTACH_STUCK', `EC2 still attaches ${ids}`, {
        ...facts,
        status: stuck[0]?.attachment?.status,
      })
    : new Failure(
        'DEVICE_MISSING',
        `EC2 has attached ${ids}, but no device with that MAC has appeared`,
        facts,
      );
}

/**
 * The tables first, then the pool: an address that can be leased can always leave, and is guarded. Addresses `found` at
 * the start may have had a pod before this boot and rest; those this run asked for need not.
 */
async function fillPool(
  boot: Boot,
  found: ReadonlySet<string> = new Set(boot.pods.flatMap((pod) => pod.cidrs)),
): Promise<void> {
  const wanted = newToPool(boot);
  await refreshTables(boot, [...listOwned(), ...wanted]);
  finishAdding();
  for (const owned of wanted) addToPool(owned, found.has(owned.cidr) ? 0 : NEVER_USED);
}

/** What the pod ENIs have and the pool could take in. Nothing without EC2 on a running node: IMDS may show what has gone back. */
function newToPool(boot: Boot): Owned[] {
  if (boot.localOnly) return [];
  return boot.pods.flatMap(({ eniId, cidrs }) => cidrs.map((cidr) => ({ eniId, cidr }))).filter(mayEnter);
}

function checkPool(total: number, target: number, counts: Record<string, number>): Check {
  const evidence = { ...counts, target };
  if (total === 0) return fail('pool', 'POOL_EMPTY', 'the address pool is empty', evidence);
  return total < target
    ? warn('pool', `the pool has ${total} addresses, ${target} are wanted`, evidence)
    : pass('pool', `the pool has ${total} addresses, ${counts['free']} of them free`, evidence);
}

/** Without its prefix an ENI's pods would have IPv4 alone, and nobody would notice. */
function checkIpv6(boot: Boot): Check[] {
  if (!isDualStack(boot)) return [];
  return boot.pods.map(({ eniId, ipv6Prefix }) =>
    ipv6Prefix === undefined
      ? fail(`ipv6 ${eniId}`, 'NO_IPV6_PREFIX', `${eniId} has no IPv6 prefix`, { eniId })
      : pass(`ipv6 ${eniId}`, `${eniId} has the IPv6 prefix ${ipv6Prefix}`, { eniId, ipv6Prefix }),
  );
}

function checkForeign(boot: Boot): Check[] {
  const { otherEnis } = nodeOf(boot);
  const foreign = otherEnis.filter((eni) => !boot.pods.some((pod) => pod.eniId === eni.eniId));
  return foreign.length === 0
    ? []
    : [
        warn('foreign-enis', `${foreign.length} ENI not tagged ${ROLE_TAG}=${POD_ROLE} is left alone`, {
          enis: foreign.map((eni) => eni.eniId),
        }),
      ];
}

function sizeOf(pod: PodEni): number {
  return pod.cidrs.reduce((sum, cidr) => sum + (cidr.endsWith('/28') ? 16 : 1), 0);
}
