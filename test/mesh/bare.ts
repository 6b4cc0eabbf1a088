// A cluster before any program runs on it: its control plane on an instance, and nodes that eniboot boots.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Cloud, Instance } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, type PodNode } from '../cni/rig.ts';
import { type ControlPlane, startControlPlane } from '../node/control.ts';

/** The mesh's control plane: its user, its Service and its pods have this name. */
export const MANAGER = 'envoy-manager';
const RBAC = '/apis/rbac.authorization.k8s.io/v1';

/** The only objects that the mesh's control plane and DNS may read. */
const READERS = {
  [MANAGER]: [
    { apiGroups: [''], resources: ['pods'], verbs: ['list', 'watch'] },
    { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] },
  ],
  coredns: [
    { apiGroups: [''], resources: ['services', 'namespaces'], verbs: ['list', 'watch'] },
    { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] },
  ],
};

/** A cluster with its control plane and nodes, and no programs on the nodes. */
export interface Bare {
  /** Letter of the cluster's zone. */
  name: 'a' | 'b';
  zone: string;
  host: Instance;
  control: ControlPlane;
  nodes: PodNode[];
  /** Paths by user. */
  kubeconfigs: Record<string, string>;
}

/** @param work folder for data and logs. */
export async function startBare(cloud: Cloud, work: string, name: Bare['name']): Promise<Bare> {
  const zone = `${cloud.region}${name}`;
  const subnet = nodeSubnetIn(cloud, zone);
  const host = await cloud.launch({ subnet, tags: { Name: `control-${name}` } });
  const folder = join(work, name);
  mkdirSync(folder);
  const names = [`${name}1`, `${name}2`];
  const control = await startControlPlane(cloud, folder, names, {
    controllers: ['endpointslice-controller'],
    users: Object.keys(READERS),
    host: { address: host.bootEni.primaryIp, spawn: (...call) => host.spawn(...call) },
  });
  await grant(control);
  const kubeconfigs = Object.fromEntries(
    [...names, ...Object.keys(READERS)].map((user) => {
      const file = join(folder, `${user}.kubeconfig`);
      writeFileSync(file, control.kubeconfig(user), { mode: 0o600 });
      return [user, file];
    }),
  );
  const config = configText(cloud, `apiServer: { endpoint: "${control.url}", required: true }\n`);
  const nodes = await Promise.all(
    names.map((node) =>
      bootPodNode(cloud, {
        ...{ subnet, tags: { Name: node } },
        config: config.replace('cluster: demo', `cluster: ${name}`),
      }),
    ),
  );
  return { name, zone, host, control, nodes, kubeconfigs };
}

async function grant(control: ControlPlane): Promise<void> {
  for (const [user, rules] of Object.entries(READERS)) {
    await control.call('POST', `${RBAC}/clusterroles`, { metadata: { name: user }, rules });
    await control.call('POST', `${RBAC}/clusterrolebindings`, {
      metadata: { name: user },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: user },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: user }],
    });
  }
}

export function nodeSubnetIn(cloud: Cloud, zone: string): string {
  return [...cloud.subnets.values()].find((one) => one.zone === zone && one.mapPublicIp)?.id ?? '';
}
