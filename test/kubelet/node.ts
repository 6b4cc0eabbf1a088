import type { KubeletNode } from '../../agent/boot/phases/kubelet/files.ts';

/** A node as the kubelet phase describes it; tests change single values. */
export const node: KubeletNode = {
  kubeletVersion: 'Kubernetes v1.36.6',
  instanceId: 'i-0123456789abcdef0',
  instanceType: 'm5.large',
  region: 'eu-west-1',
  zone: 'eu-west-1a',
  zoneId: 'euw1-az1',
  nodeIps: ['10.0.0.5'],
  dualStack: false,
  maxPods: 110,
  memoryBytes: 7_900_000_000,
  vcpus: 2,
  runtime: 'crio',
  resolvConf: '# stub\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch eu-west-1.compute.internal\n',
  clusterDns: ['10.96.0.10'],
  clusterDomain: 'cluster.local',
  bootstrapKubeconfig: undefined,
  labels: { 'example.com/team': 'search', 'node.kubernetes.io/pool': 'general' },
};
