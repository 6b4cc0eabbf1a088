// The rows of `eniboot check`, grouped by subject, and what a failure in each group means for pods. A test checks that every
// possible row is in a group.
import type { Check } from '../phase.ts';

interface Group {
  title: string;
  /** What pods notice when a row of the group fails. */
  means: string;
  /** Rows by the first word of their id; the rest of the id names an ENI. A word that ends in `*` is a prefix. */
  rows: readonly string[];
}

/** In the order of the output. */
export const checkGroups = {
  'boot-eni': {
    title: 'boot ENI',
    means: 'the node may lose the API server, and pods the Internet',
    rows: ['identify', 'boot-eni*', 'reserve', 'unmanaged', 'api-server'],
  },
  'pod-enis': {
    title: 'pod ENIs',
    means: 'pods of that ENI do not reach the VPC, nor does it reach them',
    rows: ['attach', 'pod-enis', 'imds', 'device', 'bare', 'router', 'ipv6', 'foreign-enis'],
  },
  egress: {
    title: 'egress',
    means:
      'pods do not reach the Internet, or are not reached by NodePort and hostPort; pods in the VPC still are',
    rows: ['egress*', 'sysctl*', 'public-address'],
  },
  services: {
    title: 'Services',
    means: 'pods do not reach Services, cluster DNS among them',
    rows: ['service-cidrs'],
  },
  guards: {
    title: 'guards',
    means: 'a pod could send as another pod, or has lost a setting that its packets need',
    rows: ['pods', 'addresses'],
  },
  policies: {
    title: 'network policies',
    means: 'changed policies are not in force, and new pods in namespaces with a policy stay closed',
    rows: ['policies'],
  },
  pool: {
    title: 'pool',
    means: 'running pods notice nothing; new pods may wait for an address',
    rows: ['pool*', 'leases'],
  },
  runtime: {
    title: 'runtime and kubelet',
    means: 'running pods notice nothing; no new pod starts, or none has its limits',
    rows: [
      ...[
        'install',
        'bundle',
        'bundle-keys',
        'digest',
        'plugins',
        'kubelet*',
        'max-pods',
        'bandwidth',
        'verify',
        'netlink',
        'ready',
      ],
      ...['conflist*', 'node-file', 'units', 'runtime*', 'booted-config'],
    ],
  },
  neighbours: {
    title: 'neighbours',
    means: 'another program on this node drops pods’ packets or sends them elsewhere; each row says which',
    rows: ['neighbours*'],
  },
  probe: {
    title: 'probe',
    means: 'packets of a pod did not arrive just now, on the path that the row names',
    rows: ['probe*'],
  },
} as const satisfies Record<string, Group>;

export type CheckGroup = keyof typeof checkGroups;

/** Undefined for a row that is in no group. */
export function groupOf({ id }: Pick<Check, 'id'>): CheckGroup | undefined {
  const [word = ''] = id.split(' ');
  const holds = (row: string) => (row.endsWith('*') ? word.startsWith(row.slice(0, -1)) : word === row);
  return (Object.keys(checkGroups) as CheckGroup[]).find((name) => checkGroups[name].rows.some(holds));
}
