// eniboot-policy.service: enforces the API server's policies for this node's pods. When something fails, the rules in the pods'
// namespaces stay, and are corrected as soon as that is possible.
import { readNodeFile } from '../host/node-file.ts';
import { POOL } from '../pool/entry.ts';
import type { Clock } from '../port/clock.ts';
import { watchFolder } from '../port/fs.ts';
import type { Log } from '../port/log.ts';
import { watchCluster } from './cluster.ts';
import { createCounts } from './counts.ts';
import { createDecision } from './decide.ts';
import { createDenials, type Denials } from './denials.ts';
import { createEnforcer, type Event } from './enforce.ts';
import type { ApiServer } from './follow.ts';
import { nodeAddresses } from './local.ts';
import { localPods } from './local-pods.ts';
import { forgetMarks, isClosedAtFirst, markNamespaces, unmarkNamespaces, wasKnown } from './marks.ts';
import { openPolicyNamespace } from './namespace.ts';

/** Changes are gathered for this long: a Deployment's pods come within milliseconds of one another. */
const GATHER_MS = 50;
/** Pods are looked for at least this often, since a watch of a folder may be late or gone. */
const LOOK_MS = 800;
const OWN_NAMESPACE = '/proc/self/ns/net';
/** A table that another program has changed is noticed at the first look after this time. */
const INSPECT_MS = 1000;
const COUNT_MS = 5000;
/** Longer than an ADD tries addresses (PATIENCE_MS in cni/add.ts). */
const OFF_MS = 15_000;
/**
 * The first start after a boot waits for a random part of this time, since thousands of nodes may boot at once. A restart does
 * not wait.
 */
const SPREAD_MS = 5000;

/** What boots and updates make of the service while it runs. */
export type Wanted = 'as-started' | 'other-settings' | 'other-version' | 'off';

export interface Service {
  nodeName: string;
  strict: boolean;
  api: ApiServer;
  /** Asked at each look. */
  wanted(): Wanted;
}

/**
 * Runs until `signal` is aborted, or until version or settings are no longer those of the start; systemd then starts it anew. All
 * rules stay, unless policies are off: then the service removes its rules from all pods before it ends. Resolves to the form at
 * the end.
 */
export async function serve(
  { nodeName, strict, api, wanted }: Service,
  {
    clock,
    log,
    signal: stopped,
    random,
  }: { clock: Clock; log: Log; signal: AbortSignal; random: () => number },
): Promise<Wanted> {
  const over = new AbortController();
  const signal = AbortSignal.any([stopped, over.signal]);
  if (!wasKnown()) await clock.sleep(random() * SPREAD_MS, signal).catch(() => undefined);
  if (signal.aborted) return 'as-started';
  const decision = createDecision();
  let wake: () => void = () => undefined;
  const changed = () => wake();
  const cluster = watchCluster(
    api,
    nodeName,
    decision,
    { clock, signal, random },
    {
      changed,
      silent: (path, problem) =>
        log.warn('the API server does not answer', { path, problem: problem.message }),
    },
  );
  const counts = createCounts();
  const enforcer = createEnforcer(
    decision,
    openPolicyNamespace,
    { netns: OWN_NAMESPACE, addresses: nodeAddresses(readNodeFile()) },
    (key) => isClosedAtFirst(key.slice(0, key.indexOf('/')), strict),
    (event) => {
      if (event.kind === 'put-back') counts.putBack(event.where, clock.bootMs());
      tell(log, event);
    },
    counts,
    () => clock.bootMs(),
  );
  const denials = readNodeFile().policy?.logDenied
    ? createDenials((pod, error) =>
        log.warn('denied packets of a pod cannot be logged', { pod, problem: String(error) }),
      )
    : undefined;
  const unwatch = watchFolder(POOL.leased, changed);
  let known = false;
  const unreadable = new Map<string, string>();
  let inspectedMs = clock.bootMs();
  let countedMs = inspectedMs;
  let form: Wanted = 'as-started';
  while (!signal.aborted) {
    form = wanted();
    if (form !== 'as-started') {
      log.info('the service ends: its version or settings have changed, or policies are off', {
        wanted: form,
      });
      over.abort();
      break;
    }
    known ||= cluster.isKnown();
    tellUnreadable(log, cluster.problems(), unreadable);
    if (known) {
      const isolating = cluster.isolating();
      markNamespaces(isolating);
      const pods = localPods(readNodeFile());
      decision.setLocal(new Set(pods.map(({ key }) => key)));
      enforcer.setPods(pods);
      denials?.setPods(pods);
      tellDenials(log, denials);
      if (clock.bootMs() - inspectedMs >= INSPECT_MS) {
        enforcer.inspect();
        inspectedMs = clock.bootMs();
      } else enforcer.apply();
      unmarkNamespaces(isolating);
      if (clock.bootMs() - countedMs >= COUNT_MS) {
        enforcer.count();
        const { pods: all, isolated, pending } = enforcer.counts();
        counts.save({ isolated, open: all - isolated, pending });
        countedMs = clock.bootMs();
      }
    }
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    await Promise.race([woken, clock.sleep(LOOK_MS, signal)]).catch(() => undefined);
    await clock.sleep(GATHER_MS, signal).catch(() => undefined);
  }
  unwatch();
  denials?.close();
  enforcer.close();
  await cluster.ended;
  if (form === 'off') await endPolicies({ clock, signal: stopped });
  return form;
}

/**
 * Takes the rules out of all pods and off the node, again and again for OFF_MS: an ADD that read the node file before still closes
 * its pod. Stops early when `signal` is aborted.
 */
export async function endPolicies({ clock, signal }: { clock: Clock; signal: AbortSignal }): Promise<void> {
  const untilMs = clock.bootMs() + OFF_MS;
  for (;;) {
    const enforcer = createEnforcer(
      createDecision(),
      openPolicyNamespace,
      { netns: OWN_NAMESPACE, addresses: [] },
      () => false,
      () => undefined,
      { denied: () => undefined, forget: () => undefined },
      () => clock.bootMs(),
    );
    enforcer.setPods(localPods(readNodeFile()));
    // An empty decision isolates no pod, so this removes all tables.
    enforcer.apply();
    enforcer.close();
    if (signal.aborted || clock.bootMs() >= untilMs) break;
    await clock.sleep(LOOK_MS, signal).catch(() => undefined);
  }
  forgetMarks();
}

/** Logs each problem once, and again when its reason changes. */
function tellUnreadable(log: Log, problems: ReadonlyMap<string, string>, told: Map<string, string>): void {
  for (const [object, problem] of problems)
    if (told.get(object) !== problem)
      log.warn('an object of the API server cannot be read; its last readable form stays in force', {
        object,
        problem,
      });
  told.clear();
  for (const [object, problem] of problems) told.set(object, problem);
}

/** The most in one look: a pod that is denied everything must not fill the journal of its node. */
const MOST_DENIALS = 50;

function tellDenials(log: Log, denials: Denials | undefined): void {
  const all = denials?.take() ?? [];
  for (const one of all.slice(0, MOST_DENIALS)) log.info('a packet was denied', one);
  if (all.length > MOST_DENIALS) log.info('more packets were denied', { count: all.length - MOST_DENIALS });
}

function tell(log: Log, event: Event): void {
  const { where, netns } = event;
  if (event.kind === 'put-back')
    log.warn('another program has changed the rules; they are written again', { where, netns });
  else log.error('rules were refused; the earlier rules stay', { where, netns, why: event.why });
}
