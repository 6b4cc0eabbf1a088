// Feeds a decision with what the API server says of the cluster: all namespaces and policies, the pods of this node, and the
// pods of the namespaces that policies for this node's pods let in or reach.
import type { Clock } from '../port/clock.ts';
import type { Decision } from './decide.ts';
import { type ApiServer, type Follower, follow, type Resource } from './follow.ts';
import {
  closedPolicy,
  keyOf,
  type Namespace,
  type Pod,
  type Policy,
  type Read,
  readNamespace,
  readPod,
  readPolicy,
} from './objects.ts';
import { matches } from './selector.ts';

/** With more namespaces than this to watch, one watch of all pods costs the API server less. */
const MOST_WATCHES = 16;

export interface Cluster {
  /** Whether every watched list has been read once. Until then no pod may be opened. */
  isKnown(): boolean;
  /** Objects that cannot be read, by kind and name, and why. The last readable form of each stays in force. */
  problems(): ReadonlyMap<string, string>;
  /** Namespaces that have a policy. */
  isolating(): ReadonlySet<string>;
  /** Resolves when `signal` has ended all watches. */
  ended: Promise<void>;
}

/** @param asked namespaces whose pods and policies matter though none of their pods is on this node. */
export function watchCluster(
  api: ApiServer,
  nodeName: string,
  decision: Decision,
  tools: { clock: Clock; signal: AbortSignal; random: () => number },
  { changed, silent }: { changed(): void; silent(path: string, problem: Error): void },
  asked: readonly string[] = [],
): Cluster {
  const namespaces = new Map<string, Namespace>();
  const policies = new Map<string, Policy>();
  /** Policies of which no form could be read. Each form of one closes what it selects. */
  const neverRead = new Set<string>();
  /** By key and by the watch that reports it: several watches see a pod of this node. */
  const pods = new Map<string, Map<string, { version: number; pod: Pod }>>();
  const own = new Set<string>();
  const problems = new Map<string, string>();
  const unlisted = new Set<string>();
  const watched = new Set<string>();
  const running: Promise<void>[] = [];

  function start(resource: Resource, follower: Follower): void {
    const id = JSON.stringify(resource);
    unlisted.add(id);
    const { end } = follower;
    const listed = () => {
      end();
      unlisted.delete(id);
      widen();
      changed();
    };
    running.push(follow(api, resource, { ...follower, end: listed }, tools));
  }

  function read<T>(kind: string, object: unknown, how: (object: unknown) => Read<T>): T | undefined {
    const name = `${kind} ${nameOf(object)}`;
    const found = readOr(how, object);
    if ('value' in found) {
      problems.delete(name);
      return found.value;
    }
    problems.set(name, found.problem);
    return undefined;
  }

  /** A list replaces the whole: an object that is not in it is gone once the list has ended. */
  function followerOf(
    kind: string,
    path: string,
    keys: () => Iterable<string>,
    put: (key: string, object: unknown) => void,
    forget: (key: string) => void,
  ): Follower {
    const remove = (key: string) => {
      problems.delete(`${kind} ${key}`);
      forget(key);
    };
    let listed: Set<string> | undefined;
    return {
      begin: () => {
        listed = new Set();
      },
      put: (object) => {
        const key = nameOf(object);
        listed?.add(key);
        put(key, object);
        if (listed === undefined) changed();
      },
      end: () => {
        for (const key of [...keys()]) if (!listed?.has(key)) remove(key);
        listed = undefined;
      },
      remove: (object) => {
        remove(nameOf(object));
        changed();
      },
      silent: (problem) => silent(path, problem),
    };
  }

  function putPolicy(key: string, object: unknown): void {
    const found = read('policy', object, readPolicy);
    if (found !== undefined) neverRead.delete(key);
    else if (!policies.has(key)) neverRead.add(key);
    const policy = found ?? (neverRead.has(key) ? closedPolicy(object) : undefined);
    if (policy === undefined) return;
    policies.set(key, policy);
    decision.putPolicy(policy);
    widenSoon();
  }

  function podSource(source: string): { put(key: string, object: unknown): void; remove(key: string): void } {
    const settle = (key: string) => {
      const said = [...(pods.get(key)?.values() ?? [])].sort((a, b) => b.version - a.version);
      if (said[0] === undefined) {
        pods.delete(key);
        decision.removePod(key);
      } else decision.putPod(said[0].pod);
    };
    return {
      put: (key, object) => {
        const pod = read('pod', object, readPod);
        if (pod === undefined) return;
        const version = versionOf(object);
        pods.set(key, (pods.get(key) ?? new Map()).set(source, { version, pod }));
        settle(key);
      },
      remove: (key) => {
        pods.get(key)?.delete(source);
        settle(key);
      },
    };
  }

  function watchPods(resource: Resource, onOwn?: (key: string, there: boolean) => void): void {
    const source = JSON.stringify(resource);
    const { put, remove } = podSource(source);
    const keys = () => [...pods].flatMap(([key, said]) => (said.has(source) ? [key] : []));
    start(
      resource,
      followerOf(
        'pod',
        resource.path,
        keys,
        (key, object) => {
          onOwn?.(key, true);
          put(key, object);
        },
        (key) => {
          onOwn?.(key, false);
          remove(key);
        },
      ),
    );
  }

  let isWidening = false;
  /** Once for a page of a list: it looks at every policy, and for some at every namespace. */
  function widenSoon(): void {
    if (isWidening) return;
    isWidening = true;
    queueMicrotask(() => {
      isWidening = false;
      widen();
    });
  }

  /** Watches more namespaces when a policy for this node's pods needs them. A namespace that is watched once stays so. */
  function widen(): void {
    const here = new Set([...asked, ...[...own].map((key) => key.slice(0, key.indexOf('/')))]);
    const wanted = new Set<string>(asked);
    for (const policy of policies.values())
      if (here.has(policy.namespace)) for (const one of peersOf(policy, namespaces)) wanted.add(one);
    for (const name of wanted.has(EVERYWHERE) ? [EVERYWHERE] : wanted) {
      if (watched.has(EVERYWHERE) || watched.has(name)) continue;
      const next = watched.size >= MOST_WATCHES ? EVERYWHERE : name;
      watched.add(next);
      watchPods({ path: next === EVERYWHERE ? '/api/v1/pods' : `/api/v1/namespaces/${next}/pods` });
    }
  }

  start(
    { path: '/api/v1/namespaces' },
    followerOf(
      'namespace',
      '/api/v1/namespaces',
      () => namespaces.keys(),
      (key, object) => {
        const namespace = read('namespace', object, readNamespace);
        if (namespace === undefined) return;
        namespaces.set(key, namespace);
        decision.putNamespace(namespace);
        widenSoon();
      },
      (key) => {
        namespaces.delete(key);
        decision.removeNamespace(key);
      },
    ),
  );
  start(
    { path: '/apis/networking.k8s.io/v1/networkpolicies' },
    followerOf(
      'policy',
      '/apis/networking.k8s.io/v1/networkpolicies',
      () => policies.keys(),
      putPolicy,
      (key) => {
        policies.delete(key);
        neverRead.delete(key);
        decision.removePolicy(key);
      },
    ),
  );
  watchPods({ path: '/api/v1/pods', query: { fieldSelector: `spec.nodeName=${nodeName}` } }, (key, there) => {
    if (there === own.has(key)) return;
    if (there) own.add(key);
    else own.delete(key);
    widenSoon();
  });

  return {
    isKnown: () => unlisted.size === 0,
    problems: () => problems,
    isolating: () => new Set([...policies.values()].map(({ namespace }) => namespace)),
    ended: (async () => {
      for (let at = 0; at < running.length; at += 1) await running[at];
    })(),
  };
}

/** One object must not keep the others from being heard: a defect in reading it is a problem of this object alone. */
function readOr<T>(how: (object: unknown) => Read<T>, object: unknown): Read<T> {
  try {
    return how(object);
  } catch (error) {
    return { problem: String(error) };
  }
}

const EVERYWHERE = '*';

/** The namespaces whose pods a policy lets in or reaches. */
function* peersOf(policy: Policy, namespaces: ReadonlyMap<string, Namespace>): Generator<string> {
  for (const direction of ['ingress', 'egress'] as const)
    for (const { peers, ports } of policy[direction] ?? []) {
      const named = direction === 'egress' && ports?.some(({ name }) => name !== undefined);
      // A named port is defined by the destination pod, which can be in any namespace.
      if (named && (peers === undefined || !peers.blocks.isEmpty)) yield EVERYWHERE;
      for (const { namespaces: chosen } of peers?.pods ?? []) {
        if (chosen === undefined) yield policy.namespace;
        else if (chosen.length === 0) yield EVERYWHERE;
        else for (const one of namespaces.values()) if (matches(chosen, one.labels)) yield one.name;
      }
    }
}

interface AnyObject {
  metadata?: { name?: unknown; namespace?: unknown; resourceVersion?: unknown };
}

/** `namespace/name`, or the name alone of an object without a namespace. */
function nameOf(object: unknown): string {
  const { name, namespace } = (object as AnyObject | null)?.metadata ?? {};
  return typeof namespace === 'string' ? keyOf({ namespace, name: String(name) }) : String(name);
}

/** Comparable within a kind since Kubernetes 1.35, and before that with etcd. Source: KEP-5504. */
function versionOf(object: unknown): number {
  return Number((object as AnyObject | null)?.metadata?.resourceVersion ?? 0);
}
