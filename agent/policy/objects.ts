// Kubernetes' objects, cut down to what decides about packets. Sources: networking.k8s.io/v1 (types.go of k8s.io/api) and
// kubernetes.io/docs/concepts/services-networking/network-policies.
import ipaddr from 'ipaddr.js';
import * as v from 'valibot';
import { type Block, type Blocks, blocksOf } from './blocks.ts';
import { all, type Labels, labelsSchema, readSelector, type Selector, selectorSchema } from './selector.ts';

export type Protocol = 'TCP' | 'UDP' | 'SCTP';
export type Direction = 'ingress' | 'egress';

export interface Namespace {
  name: string;
  labels: Labels;
}

export interface Pod {
  namespace: string;
  name: string;
  /** As runtimes tell it: a static pod has the UID that kubelet gave it, and its object in the API server has another. */
  uids: readonly string[];
  labels: Labels;
  /** In the form that the kernel prints. Empty for pods of the host's network, and for pods that have ended. */
  addresses: readonly string[];
  ports: readonly { name: string; protocol: Protocol; port: number }[];
  /** Milliseconds since 1970 at which the API server created the pod. */
  createdAt: number;
}

export interface Policy {
  namespace: string;
  name: string;
  selector: Selector;
  /** Present when the policy isolates pods in this direction. An empty list lets nothing through. */
  ingress?: readonly Rule[];
  egress?: readonly Rule[];
}

/** What goes through: from or to any of `peers`, on any of `ports`. Absent: all. */
export interface Rule {
  peers?: { pods: readonly PodPeer[]; blocks: Blocks };
  ports?: readonly Port[];
}

export interface PodPeer {
  /** Absent: the policy's own namespace. */
  namespaces?: Selector;
  pods: Selector;
}

/** Without number and name: all ports of the protocol. */
export interface Port {
  protocol: Protocol;
  first?: number;
  last?: number;
  name?: string;
}

/** The object; or what cannot be read in it, where and why, for people. */
export type Read<T> = { value: T } | { problem: string };

export const keyOf = ({ namespace, name }: { namespace: string; name: string }) => `${namespace}/${name}`;

const protocol = v.optional(v.picklist(['TCP', 'UDP', 'SCTP']), 'TCP');
/**
 * The most entries of one policy. A list of this length costs each pod some megabytes of kernel memory, for all pods of the
 * node.
 */
const MOST_ENTRIES = 10_000;
/** A list that is too long is refused before its entries are read, which takes much more memory than their JSON. */
const listOf = <T extends v.GenericSchema>(entry: T) =>
  v.optional(
    v.pipe(
      v.array(v.unknown()),
      v.maxLength(
        MOST_ENTRIES,
        ({ received }) => `a list of ${received}; at most ${MOST_ENTRIES} entries are taken`,
      ),
      v.array(entry),
    ),
    [],
  );
const portNumber = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535));
const cidr = v.pipe(v.string(), v.transform(decimal), v.check(isCidr, 'no CIDR'), v.transform(networkOf));

// Strict: a field that this version does not know may narrow what a rule lets through, so it must not be ignored.
const portSchema = v.pipe(
  v.strictObject({
    protocol,
    port: v.optional(v.union([portNumber, v.pipe(v.string(), v.minLength(1))])),
    endPort: v.optional(portNumber),
  }),
  v.check(
    ({ port, endPort }) => endPort === undefined || (typeof port === 'number' && endPort >= port),
    'endPort needs a number as port that is not above it',
  ),
);
const peerSchema = v.pipe(
  v.strictObject({
    podSelector: v.optional(selectorSchema),
    namespaceSelector: v.optional(selectorSchema),
    ipBlock: v.optional(v.strictObject({ cidr, except: listOf(cidr) })),
  }),
  v.check(
    ({ podSelector, namespaceSelector, ipBlock }) =>
      (ipBlock === undefined) !== (podSelector === undefined && namespaceSelector === undefined),
    'a peer is an ipBlock, or has a podSelector, a namespaceSelector or both',
  ),
);
const ports = listOf(portSchema);
const peers = listOf(peerSchema);
const metadata = v.object({ namespace: v.string(), name: v.string() });
const policySchema = v.object({
  metadata,
  spec: v.strictObject({
    podSelector: v.optional(selectorSchema, {}),
    policyTypes: v.optional(v.array(v.picklist(['Ingress', 'Egress']))),
    ingress: listOf(v.strictObject({ ports, from: peers })),
    egress: listOf(v.strictObject({ ports, to: peers })),
  }),
});

export function readPolicy(object: unknown): Read<Policy> {
  const read = v.safeParse(policySchema, object);
  if (!read.success) return { problem: problemOf(read.issues[0]) };
  const { metadata, spec } = read.output;
  const entries = entriesOf(spec);
  if (entries > MOST_ENTRIES)
    return {
      problem: `spec: ${entries} peers, ports, exceptions and selectors' values; at most ${MOST_ENTRIES} are taken`,
    };
  // Without policyTypes: always ingress, and egress when there are egress rules.
  const types = spec.policyTypes?.length
    ? spec.policyTypes
    : ['Ingress', ...(spec.egress.length ? ['Egress'] : [])];
  return {
    value: {
      ...metadata,
      selector: readSelector(spec.podSelector),
      ...(types.includes('Ingress') && {
        ingress: spec.ingress.map((rule) => readRule(rule.from, rule.ports)),
      }),
      ...(types.includes('Egress') && { egress: spec.egress.map((rule) => readRule(rule.to, rule.ports)) }),
    },
  };
}

/**
 * Replaces a policy that cannot be read and never could be. It isolates the pods that the policy selects, or all pods of its
 * namespace when not even the selector can be read, and lets nothing through. Undefined for an object without a name.
 */
export function closedPolicy(object: unknown): Policy | undefined {
  const named = v.safeParse(v.object({ metadata }), object);
  if (!named.success) return undefined;
  const selected = v.safeParse(v.object({ spec: v.object({ podSelector: selectorSchema }) }), object);
  const selector = selected.success ? readSelector(selected.output.spec.podSelector) : all;
  return { ...named.output.metadata, selector, ingress: [], egress: [] };
}

const containers = v.optional(
  v.array(
    v.object({
      restartPolicy: v.optional(v.string()),
      ports: v.optional(
        v.array(v.object({ name: v.optional(v.string()), protocol, containerPort: portNumber })),
        [],
      ),
    }),
  ),
  [],
);
/** The UID that kubelet gave a static pod, on its object in the API server. */
const MIRROR = 'kubernetes.io/config.mirror';
const podSchema = v.object({
  metadata: v.object({
    ...metadata.entries,
    uid: v.optional(v.string()),
    annotations: v.optional(v.object({ [MIRROR]: v.optional(v.string()) }), {}),
    labels: labelsSchema,
    creationTimestamp: v.string(),
  }),
  spec: v.object({ hostNetwork: v.optional(v.boolean(), false), containers, initContainers: containers }),
  status: v.optional(
    v.object({
      phase: v.optional(v.string()),
      podIPs: v.optional(v.array(v.object({ ip: v.string() })), []),
    }),
    {},
  ),
});

export function readPod(object: unknown): Read<Pod> {
  const read = v.safeParse(podSchema, object);
  if (!read.success) return { problem: problemOf(read.issues[0]) };
  const { metadata, spec, status } = read.output;
  // The packets of a pod in the host's network cannot be told from its node's. A pod that has ended has given its addresses
  // back.
  const counts = !spec.hostNetwork && status.phase !== 'Succeeded' && status.phase !== 'Failed';
  const sidecars = spec.initContainers.filter(({ restartPolicy }) => restartPolicy === 'Always');
  return {
    value: {
      namespace: metadata.namespace,
      name: metadata.name,
      uids: [metadata.uid, metadata.annotations[MIRROR]].filter((one) => one !== undefined),
      labels: metadata.labels,
      addresses: counts
        ? status.podIPs
            .map(({ ip }) => decimal(ip))
            .filter(isAddress)
            .map(addressOf)
        : [],
      ports: [...spec.containers, ...sidecars].flatMap(({ ports }) =>
        ports.flatMap(({ name, protocol, containerPort: port }) =>
          name === undefined ? [] : [{ name, protocol, port }],
        ),
      ),
      createdAt: Date.parse(metadata.creationTimestamp) || 0,
    },
  };
}

export function readNamespace(object: unknown): Read<Namespace> {
  const read = v.safeParse(
    v.object({ metadata: v.object({ name: v.string(), labels: labelsSchema }) }),
    object,
  );
  if (!read.success) return { problem: problemOf(read.issues[0]) };
  return { value: read.output.metadata };
}

type ReadSpec = v.InferOutput<typeof policySchema>['spec'];
type ReadPeers = v.InferOutput<typeof peers>;
type ReadPorts = v.InferOutput<typeof ports>;

/** The number of entries in all lists of a policy: each may become a rule, an element of a set, or a look at each pod. */
function entriesOf({ podSelector, ingress, egress }: ReadSpec): number {
  const rules = [
    ...ingress.map(({ from, ports }) => ({ peers: from, ports })),
    ...egress.map(({ to, ports }) => ({ peers: to, ports })),
  ];
  return rules.reduce(
    (sum, { peers, ports }) =>
      sum + Math.max(1, peers.length + ports.length) + peers.reduce((all, peer) => all + insideOf(peer), 0),
    selectorEntries(podSelector),
  );
}

function insideOf({ podSelector, namespaceSelector, ipBlock }: ReadPeers[number]): number {
  const selectors = [podSelector, namespaceSelector].filter((one) => one !== undefined);
  return (ipBlock?.except.length ?? 0) + selectors.reduce((sum, one) => sum + selectorEntries(one), 0);
}

function selectorEntries({ matchLabels, matchExpressions }: NonNullable<ReadSpec['podSelector']>): number {
  return matchLabels.size + matchExpressions.reduce((sum, { values }) => sum + 1 + values.length, 0);
}

function readRule(from: ReadPeers, through: ReadPorts): Rule {
  return {
    ...(from.length > 0 && {
      peers: { pods: from.flatMap(readPodPeer), blocks: blocksOf(from.flatMap(readBlock)) },
    }),
    ...(through.length > 0 && { ports: through.map(readPort) }),
  };
}

function readBlock({ ipBlock }: ReadPeers[number]): Block[] {
  return ipBlock === undefined ? [] : [ipBlock];
}

function readPodPeer({ podSelector, namespaceSelector, ipBlock }: ReadPeers[number]): PodPeer[] {
  if (ipBlock !== undefined) return [];
  const pods = podSelector === undefined ? all : readSelector(podSelector);
  return [namespaceSelector === undefined ? { pods } : { pods, namespaces: readSelector(namespaceSelector) }];
}

function readPort({ protocol, port, endPort }: ReadPorts[number]): Port {
  if (port === undefined) return { protocol };
  return typeof port === 'string'
    ? { protocol, name: port }
    : { protocol, first: port, last: endPort ?? port };
}

/**
 * Without leading zeros. The API server gives them no meaning (ParseCIDRSloppy, KEP-4858), and ipaddr.js reads a number after
 * one as octal.
 */
function decimal(text: string): string {
  return text.replaceAll(/(?<=^|[.:])0+(?=\d)/g, '');
}

function isCidr(text: string): boolean {
  return ipaddr.IPv4.isValidCIDRFourPartDecimal(text) || (!hasZone(text) && ipaddr.IPv6.isValidCIDR(text));
}

function isAddress(text: string): boolean {
  return ipaddr.IPv4.isValidFourPartDecimal(text) || (!hasZone(text) && ipaddr.IPv6.isValid(text));
}

/** An address of one interface (`fe80::1%eth0`) is no address for the API server. */
function hasZone(text: string): boolean {
  return text.includes('%');
}

/**
 * The API server takes an IPv4-mapped block as one of IPv4, unless it is wider than all such addresses (Contains of Go's IPNet).
 */
function networkOf(text: string): string {
  const [address, length] = ipaddr.parseCIDR(text);
  if (address instanceof ipaddr.IPv4) return `${ipaddr.IPv4.networkAddressFromCIDR(text)}/${length}`;
  if (address.isIPv4MappedAddress() && length >= 96)
    return networkOf(`${address.toIPv4Address()}/${length - 96}`);
  return `${ipaddr.IPv6.networkAddressFromCIDR(text).toRFC5952String()}/${length}`;
}

function addressOf(text: string): string {
  const address = ipaddr.process(text);
  return address instanceof ipaddr.IPv6 ? address.toRFC5952String() : address.toString();
}

function problemOf(issue: v.BaseIssue<unknown>): string {
  return `${v.getDotPath(issue) ?? 'the object'}: ${issue.message}`;
}
