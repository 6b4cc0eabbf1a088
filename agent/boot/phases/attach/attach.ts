// attach: at least one pod ENI with its addresses, its device up and bare, its prefixes in the pool. Only EC2 says which ENIs
// are pod ENIs; IMDS and the kernel must agree with EC2 before an ENI is used.
import type { Eni } from '../../../aws/ec2.ts';
import type { InstanceLimits } from '../../../aws/limits/limits.ts';
import { POD_ROLE, ROLE_TAG } from '../../../aws/tags.ts';
import { deviceName } from '../../../host/devices.ts';
import { type Link, listLinks, waitForLinks } from '../../../host/links.ts';
import type { Route } from '../../../host/routes.ts';
import {
  type FlushedAddresses,
  type FlushedRoutes,
  type KernelOperation,
  make,
} from '../../../kernel/operation.ts';
import { Failure } from '../../../messages/failure.ts';
import { NEVER_USED, type Owned } from '../../../pool/entry.ts';
import { countStates, isAdding, mayEnter } from '../../../pool/prefixes.ts';
import {
  type AttachStep,
  type Change,
  planFiles,
  type ResumptionStep,
  type WantedFile,
} from '../../change.ts';
import { type Cloud, forgetEnis } from '../../cloud.ts';
import type { Context } from '../../context.ts';
import { capacityOf, targetOf } from '../../facts/capacity.ts';
import { type Attached, isDualStack, type NodeFacts, type PodEni, type Vpc } from '../../facts/facts.ts';
import { linkOf, mainRoutes } from '../../facts/pod-devices.ts';
import { observeTables, planTables, type TablesSeen } from '../../node-rules/nft-tables.ts';
import { type Check, fail, type Phase, pass, warn } from '../../phase.ts';
import { limitsNote, limitsNow } from '../limits.ts';
import { enisFile } from './known-enis.ts';
import { planAttach, planResumption, podEnisOf, poolSizeOf } from './plan.ts';
import { observePodEnis, observeUnattached, type PodEnisSeen } from './pod-enis.ts';

export interface AttachOptions {
  /** Addresses wanted in the pool, in place of the configured number. */
  target?: number;
  /** Which ENIs of EC2's list count. */
  view?: (attached: readonly Eni[]) => readonly Eni[];
}

export interface AttachSeen extends Attached {
  seen: PodEnisSeen;
  /** This node's pod ENIs that are attached to nothing. */
  unattached: readonly Eni[];
  limits: InstanceLimits;
  /** EC2's refusals in this run. */
  refused: Pick<Cloud, 'full' | 'exhausted'>;
  /** CIDRs that may have had a pod before this run; undefined: all. */
  found: ReadonlySet<string> | undefined;
  /** Addresses wanted in the pool. */
  target: number;
  /** Name of the boot ENI's device. */
  device: string;
  links: Link[];
  routes: Route[];
  tables: TablesSeen;
  /** What the pod ENIs have and the pool could take in. */
  entering: Owned[];
  /** A killed run has left something half added to the pool. */
  isAdding: boolean;
  counts: ReturnType<typeof countStates>;
  /** Files that are kept for later runs. */
  notes: WantedFile[];
}

export function attach(
  context: Context,
  node: NodeFacts,
  vpc: Vpc,
  options: AttachOptions = {},
): Phase<AttachSeen> {
  return {
    name: 'attach',

    async observe() {
      const { cloud } = context;
      const seen = await observePodEnis(context, node, options.view ?? ((attached) => attached));
      const { pods } = seen;
      const limits = limitsNow(node, cloud.eniLimit);
      const capacity = capacityOf(limits, node.config.pods, seen.foreign.length);
      const target = options.target ?? targetOf(node.config.pool, capacity);
      const isShort =
        seen.attached !== undefined && (sizeInPool(seen.attached) < target || pods.length === 0);
      const unattached = await observeUnattached(context, node, seen.attempts, isShort);
      const [links, routes, tables] = await Promise.all([
        observeDevices(context, pods),
        mainRoutes(node),
        observeTables(context, node, pods),
      ]);
      return {
        ...{ pods, capacity, limits, seen, unattached, target, links, routes, tables },
        refused: { full: cloud.full, exhausted: cloud.exhausted },
        found: seen.attached === undefined ? undefined : cloud.found,
        device: deviceName(node.bootDevice),
        entering: newToPool(context, pods),
        isAdding: isAdding(),
        counts: countStates(),
        notes: [...limitsNote(node, limits), ...enisNote(node, seen)],
      };
    },

    plan(observed) {
      const { device, pods, links, tables, entering, notes } = observed;
      const steps = planSteps(observed, node).map(
        (step): Change => ({ do: 'ec2', step, node, summary: step.summary }),
      );
      // A run that only looks does not wait for devices; every other run waits before it goes on.
      if (pods.some((pod) => linkOf(pod, links) === undefined)) return steps;
      // The tables before the pool: an address that can be leased can always leave the node, and is guarded.
      return [
        ...steps,
        ...planFiles(notes),
        ...pods.flatMap((pod) => planDevice(pod, observed, node)),
        ...planTables(tables, node, { device, vpcCidrs: vpc.cidrs, pods, entering }),
        ...planPool(observed),
      ];
    },

    judge: ({ pods, counts, target }) => [
      checkPods(pods),
      checkPool(counts, target),
      ...(isDualStack(node) ? pods.map(checkIpv6) : []),
      ...checkForeign(node, pods),
    ],

    degradations({ seen, refused, pods }) {
      const { exhausted } = refused;
      return [
        ...(seen.silence === undefined
          ? []
          : [`pod ENIs are those IMDS and kernel agree on: ${seen.silence.message}`]),
        // A node with fewer addresses than asked for is degraded.
        ...(exhausted === undefined
          ? []
          : [
              `only ${pods.length} pod ENIs, fewer than pods.max and pool.target ask for: ${exhausted.code}: ${exhausted.message} (${exhausted.remedy})`,
            ]),
      ];
    },

    forget: () => forgetEnis(context.cloud),
  };
}

function planSteps(observed: AttachSeen, node: NodeFacts): (AttachStep | ResumptionStep)[] {
  const { seen, unattached, limits, refused, target, capacity } = observed;
  const { attached, attempts } = seen;
  if (attached === undefined) return [];
  const resumption = planResumption(attempts);
  if (resumption.length > 0) return resumption;
  return planAttach({
    attached,
    unattached,
    limits,
    addressing: capacity.unit,
    target,
    ipv6: isDualStack(node),
    full: refused.full,
    exhausted: refused.exhausted !== undefined,
  });
}

/** Addresses that the pod ENIs among these have for the pool. */
export function sizeInPool(attached: readonly Eni[]): number {
  return podEnisOf(attached).reduce((sum, eni) => sum + poolSizeOf(eni), 0);
}

/** All devices. A run that sets devices up waits until each pod ENI has one; the kernel wakes it. */
async function observeDevices(context: Context, pods: readonly PodEni[]): Promise<Link[]> {
  const { kind } = context.mode;
  const present = (links: Link[]) => pods.every((pod) => linkOf(pod, links) !== undefined);
  const now = await listLinks();
  if (present(now) || kind === 'look' || kind === 'repair') return now;
  const remaining = Math.max(0, context.until() - context.clock.bootMs());
  const links = await context.waiting(waitForLinks(present, remaining));
  if (links === undefined) throw await explainMissingDevice(context, pods);
  return links;
}

/** What is missing on a pod ENI's device: up, the boot ENI's MTU, no address and no route of either family. */
function planDevice(pod: PodEni, { links, routes }: AttachSeen, { bootDevice }: NodeFacts): Change[] {
  const link = linkOf(pod, links);
  if (link === undefined) return [];
  const { name } = link;
  const { mtu } = bootDevice;
  const hasRoute = (family: 4 | 6) =>
    routes.some((route) => route.device === name && route.family === family);
  const set = { on: 'node', do: 'set', device: name } as const;
  const flush = (what: FlushedRoutes | FlushedAddresses) => ({ on: 'node', do: 'flush', what }) as const;
  const advertisements = { kind: 'setting', path: `net/ipv6/conf/${name}/accept_ra`, value: '0' } as const;
  const steps: [isNeeded: boolean, words: string, ...operations: KernelOperation[]][] = [
    [
      link.ipv6Auto,
      'no IPv6 address by itself',
      // A router's advertisement would put an address on the device as soon as it is up.
      make('node', advertisements),
      { ...set, generatesAddress: false },
    ],
    [link.addresses.length > 0, 'no address', flush({ kind: 'addresses', device: name, scope: 'any' })],
    [hasRoute(4), 'no route', flush({ kind: 'routes', family: 4, device: name })],
    // A route from an advertisement outlives the address that came with it.
    [hasRoute(6), 'no IPv6 route', flush({ kind: 'routes', family: 6, device: name })],
    [link.mtu !== mtu, `MTU ${mtu}`, { ...set, mtu }],
    [!link.up, 'up', { ...set, up: true }],
  ];
  const needed = steps.filter(([isNeeded]) => isNeeded);
  if (needed.length === 0) return [];
  const words = needed.map((step) => step[1]).join(', ');
  const operations = needed.flatMap(([, , ...ofStep]) => ofStep);
  return [{ do: 'kernel', operations, summary: `prepare ${name}: ${words}` }];
}

async function explainMissingDevice(context: Context, pods: readonly PodEni[]): Promise<Failure> {
  const links = await listLinks();
  const missing = pods.filter((pod) => !links.some((link) => link.mac === pod.mac)).map((pod) => pod.eniId);
  const devices = links.map((link) => `${link.name} ${link.mac}`);
  const facts = { missing, macs: pods.map((pod) => pod.mac), devices };
  const ids = missing.join(', ');
  const ec2 = await context.ec2();
  const described = await ec2.describeEnis({ ids: missing }).catch(() => []);
  const stuck = described.find((eni) => eni.attachment?.status !== 'attached');
  if (stuck === undefined)
    return new Failure(
      'DEVICE_MISSING',
      `EC2 has attached ${ids}, but no device with that MAC has appeared`,
      facts,
    );
  const { status } = stuck.attachment ?? {};
  return new Failure('ATTACH_STUCK', `EC2 still attaches ${ids}`, { ...facts, status });
}

/** Without EC2, nothing is added on a running node: IMDS may show what was given back. */
function newToPool({ mode }: Context, pods: readonly PodEni[]): Owned[] {
  if (mode.kind === 'repair') return [];
  return pods.flatMap(({ eniId, cidrs }) => cidrs.map((cidr) => ({ eniId, cidr }))).filter(mayEnter);
}

/**
 * Addresses that were found may have had a pod before this boot, so they rest. Addresses that this run asked for need no rest.
 */
function planPool({ entering, found, isAdding: half }: AttachSeen): Change[] {
  return [
    ...(half
      ? [{ do: 'finish-adding', summary: 'finish what an earlier run began to add to the pool' } as const]
      : []),
    ...entering.map(
      (owned): Change => ({
        do: 'pool',
        owned,
        releasedAt: found === undefined || found.has(owned.cidr) ? 0 : NEVER_USED,
        summary: `add ${owned.cidr} of ${owned.eniId} to the pool`,
      }),
    ),
  ];
}

function enisNote({ identity }: NodeFacts, { attached, pods, foreign }: PodEnisSeen): WantedFile[] {
  if (attached === undefined || pods.length === 0) return [];
  return [enisFile(identity.instanceId, { pods: pods.map((pod) => pod.eniId), foreign })];
}

function checkPods(pods: readonly PodEni[]): Check {
  const ids = pods.map((pod) => pod.eniId).join(', ');
  return pods.length > 0
    ? pass('pod-enis', `${pods.length} pod ENI${pods.length > 1 ? 's' : ''}: ${ids}`, { pods })
    : fail('pod-enis', 'NO_POD_ENI', 'no pod ENI is attached');
}

function checkPool({ free, leased, cooling }: AttachSeen['counts'], target: number): Check {
  const total = free + leased + cooling;
  const evidence = { free, leased, cooling, target };
  if (total === 0) return fail('pool', 'POOL_EMPTY', 'the address pool is empty', evidence);
  return total < target
    ? warn('pool', `the pool has ${total} addresses, ${target} are wanted`, evidence)
    : pass('pool', `the pool has ${total} addresses, ${free} of them free`, evidence);
}

/** Without its prefix, the ENI's pods would have only IPv4, and no error would show it. */
function checkIpv6({ eniId, ipv6Prefix }: PodEni): Check {
  return ipv6Prefix === undefined
    ? fail(`ipv6 ${eniId}`, 'NO_IPV6_PREFIX', `${eniId} has no IPv6 prefix`, { eniId })
    : pass(`ipv6 ${eniId}`, `${eniId} has the IPv6 prefix ${ipv6Prefix}`, { eniId, ipv6Prefix });
}

function checkForeign({ otherEnis }: NodeFacts, pods: readonly PodEni[]): Check[] {
  const foreign = otherEnis.filter((eni) => !pods.some((pod) => pod.eniId === eni.eniId));
  return foreign.length === 0
    ? []
    : [
        warn('foreign-enis', `${foreign.length} ENI not tagged ${ROLE_TAG}=${POD_ROLE} is left alone`, {
          enis: foreign.map((eni) => eni.eniId),
        }),
      ];
}
