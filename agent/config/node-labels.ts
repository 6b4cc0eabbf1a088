// Which labels a kubelet may give its own node. With a label outside of these sets, kubelet refuses to start (validation of
// --node-labels), and the NodeRestriction admission plugin refuses the node. Both use
// k8s.io/kubelet/pkg/apis/well_known_labels.go, unchanged from Kubernetes 1.30 to 1.37.

const allowedKeys = [
  'kubernetes.io/hostname',
  'kubernetes.io/os',
  'kubernetes.io/arch',
  'topology.kubernetes.io/zone',
  'topology.kubernetes.io/region',
  'node.kubernetes.io/instance-type',
  'failure-domain.beta.kubernetes.io/zone',
  'failure-domain.beta.kubernetes.io/region',
  'beta.kubernetes.io/instance-type',
  'beta.kubernetes.io/os',
  'beta.kubernetes.io/arch',
];
const allowedNamespaces = ['kubelet.kubernetes.io', 'node.kubernetes.io'];
const reservedNamespaces = ['kubernetes.io', 'k8s.io'];

/** Set by eniboot from the instance's own data, or by kubelet. */
const ownKeys = [
  'topology.kubernetes.io/zone',
  'topology.kubernetes.io/region',
  'topology.k8s.aws/zone-id',
  'node.kubernetes.io/instance-type',
  'kubernetes.io/hostname',
  'kubernetes.io/os',
  'kubernetes.io/arch',
];

const namePattern = /^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
const domainPattern = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;

/**
 * What is wrong with a configured node label, as the end of a sentence that begins with its key; undefined when the label is
 * right.
 */
export function nodeLabelProblem(key: string, value: string): string | undefined {
  const slash = key.indexOf('/');
  const namespace = slash < 0 ? '' : key.slice(0, slash);
  if (!namePattern.test(key.slice(slash + 1)) || (slash >= 0 && !domainPattern.test(namespace)))
    return 'is not a label key: a name of at most 63 letters, digits, dots, dashes and underscores, with a DNS domain and a slash before it if any';
  if (value !== '' && !namePattern.test(value))
    return 'has a value that is not a label value: at most 63 letters, digits, dots, dashes and underscores, none of these three at its ends';
  if (ownKeys.includes(key)) return 'is set from what the instance says about itself';
  if (allowedKeys.includes(key) || allowedNamespaces.some((allowed) => within(namespace, allowed)))
    return undefined;
  if (reservedNamespaces.some((reserved) => within(namespace, reserved)))
    return 'is one a kubelet may not give its own node (NodeRestriction): use a domain of your own or node.kubernetes.io/';
  return undefined;
}

function within(namespace: string, domain: string): boolean {
  return namespace === domain || namespace.endsWith(`.${domain}`);
}
