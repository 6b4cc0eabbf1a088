// "May a talk to b by port p?", straight from the API server's objects, in the words of NetworkPolicy's documentation. Slow and
// simple, and written without agent/policy, whose decisions are compared with it.
import ipaddr from 'ipaddr.js';

export interface Labelled {
  metadata: { name: string; labels?: Record<string, string> };
}
export interface PodObject {
  metadata: { name: string; namespace: string; labels?: Record<string, string>; creationTimestamp: string };
  spec: {
    hostNetwork?: boolean;
    containers: { ports?: { name?: string; protocol?: string; containerPort: number }[] }[];
  };
  status: { phase: string; podIPs?: { ip: string }[] };
}
interface Selector {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
}
export interface PeerObject {
  podSelector?: Selector;
  namespaceSelector?: Selector;
  ipBlock?: { cidr: string; except?: string[] };
}
export interface PortObject {
  protocol?: string;
  port?: number | string;
  endPort?: number;
}
export interface PolicyObject {
  metadata: { name: string; namespace: string };
  spec: {
    podSelector?: Selector;
    policyTypes?: string[];
    ingress?: { from?: PeerObject[]; ports?: PortObject[] }[];
    egress?: { to?: PeerObject[]; ports?: PortObject[] }[];
  };
}
export interface World {
  namespaces: Labelled[];
  pods: PodObject[];
  policies: PolicyObject[];
}

/** An end of a connection: an address, and its pod if it has one. */
export interface End {
  address: string;
  pod: PodObject | undefined;
}

export function endAt(world: World, address: string): End {
  const living = world.pods.filter(
    (pod) =>
      pod.spec.hostNetwork !== true &&
      !['Succeeded', 'Failed'].includes(pod.status.phase) &&
      pod.status.podIPs?.some(({ ip }) => ip === address),
  );
  // Two pods may claim one address for a while: the younger pod has it.
  living.sort((a, b) => rank(b).localeCompare(rank(a)));
  return { address, pod: living[0] };
}

const rank = ({ metadata }: PodObject) =>
  `${metadata.creationTimestamp} ${metadata.namespace}/${metadata.name}`;

/** What the policies of one end say: of `of`'s egress to `other`, or of its ingress from `other`. */
export function lets(
  world: World,
  direction: 'ingress' | 'egress',
  of: End,
  other: End,
  protocol: string,
  port: number,
): boolean {
  const pod = of.pod;
  if (pod === undefined) return true;
  const about = world.policies.filter(
    ({ metadata, spec }) =>
      metadata.namespace === pod.metadata.namespace &&
      chosen(spec.podSelector ?? {}, pod.metadata.labels ?? {}) &&
      isAbout(spec, direction),
  );
  if (about.length === 0) return true;
  const named = direction === 'ingress' ? of.pod : other.pod;
  return about.some((policy) => {
    const rules =
      direction === 'ingress'
        ? (policy.spec.ingress ?? []).map(({ from, ports }) => ({ peers: from, ports }))
        : (policy.spec.egress ?? []).map(({ to, ports }) => ({ peers: to, ports }));
    return rules.some(
      ({ peers, ports }) =>
        (!peers?.length || peers.some((peer) => isPeer(world, policy, peer, other))) &&
        (!ports?.length || ports.some((one) => isPort(one, named, protocol, port))),
    );
  });
}

function isAbout(spec: PolicyObject['spec'], direction: 'ingress' | 'egress'): boolean {
  if (spec.policyTypes?.length)
    return spec.policyTypes.includes(direction === 'ingress' ? 'Ingress' : 'Egress');
  return direction === 'ingress' || (spec.egress?.length ?? 0) > 0;
}

function isPeer(world: World, policy: PolicyObject, peer: PeerObject, end: End): boolean {
  if (peer.ipBlock !== undefined) {
    const { cidr, except = [] } = peer.ipBlock;
    return inCidr(end.address, cidr) && !except.some((one) => inCidr(end.address, one));
  }
  const pod = end.pod;
  if (pod === undefined) return false;
  if (peer.podSelector !== undefined && !chosen(peer.podSelector, pod.metadata.labels ?? {})) return false;
  if (peer.namespaceSelector === undefined) return pod.metadata.namespace === policy.metadata.namespace;
  const namespace = world.namespaces.find(({ metadata }) => metadata.name === pod.metadata.namespace);
  return namespace !== undefined && chosen(peer.namespaceSelector, namespace.metadata.labels ?? {});
}

function isPort(one: PortObject, named: PodObject | undefined, protocol: string, port: number): boolean {
  if ((one.protocol ?? 'TCP') !== protocol) return false;
  if (one.port === undefined) return true;
  if (typeof one.port === 'number') return one.port <= port && port <= (one.endPort ?? one.port);
  return (named?.spec.containers ?? []).some(({ ports }) =>
    ports?.some(
      (own) => own.name === one.port && (own.protocol ?? 'TCP') === protocol && own.containerPort === port,
    ),
  );
}

function chosen(
  { matchLabels = {}, matchExpressions = [] }: Selector,
  labels: Record<string, string>,
): boolean {
  for (const [key, value] of Object.entries(matchLabels)) if (labels[key] !== value) return false;
  for (const { key, operator, values = [] } of matchExpressions) {
    const has = Object.hasOwn(labels, key);
    const listed = has && values.includes(labels[key] ?? '');
    if (operator === 'In' && !listed) return false;
    if (operator === 'NotIn' && listed) return false;
    if (operator === 'Exists' && !has) return false;
    if (operator === 'DoesNotExist' && has) return false;
  }
  return true;
}

function inCidr(address: string, cidr: string): boolean {
  const one = ipaddr.parse(address);
  const [network, length] = ipaddr.parseCIDR(cidr);
  return one.kind() === network.kind() && one.match(network, length);
}
