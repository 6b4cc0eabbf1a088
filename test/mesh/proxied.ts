// First with kube-proxy, as in most clusters, and then without it: sidecars find DNS by a Service's address, or by the
// node's own resolver. Requests of the mesh are the same packets in both cases.
import assert from 'node:assert/strict';
import type { ControlPlane } from '../node/control.ts';
import { namespacedProxy, startProxy } from '../node/services.ts';
import { type Facts, known, noneFailed } from './answers.ts';
import { LOCAL_DNS } from './dns.ts';
import { flows, forgetFlows } from './flows.ts';
import type { Kubelet } from './kubelet.ts';
import type { World } from './world.ts';

/** Address of cluster DNS, in the Service CIDR of test/node/control.ts. */
const CLUSTER_DNS = '172.20.0.10';
const MODE = 'nftables';

export async function proxied({ a, b }: World): Promise<Facts> {
  const [kubelet] = a.nodes;
  assert.ok(kubelet !== undefined);
  await announceDns(a.control, kubelet);
  const { instance, sh } = kubelet.node;
  const proxy = { name: kubelet.name, sh, ...namespacedProxy(instance) };
  await startProxy(proxy, a.control, MODE);
  const client = await kubelet.run({ name: 'by-service', labels: {}, meshed: true, dns: CLUSTER_DNS });
  const server = await b.serve('proxied', 'proxied', 0);
  await known(client.place, 'proxied');
  const facts: Facts = {};
  const look = async (what: string) => {
    forgetFlows();
    const answers = await client.place.ask('proxied', 20);
    noneFailed(what, answers);
    assert.deepEqual([...new Set(answers.map(({ answer }) => answer?.from))], [client.address], what);
    const between = flows()
      .filter(({ to }) => to === server.address)
      .map(({ from }) => from);
    assert.ok(between.includes(client.address), `${what}: the VPC carried the client's own packets`);
    assert.ok(!between.includes(instance.bootEni.primaryIp), `${what}: and none of its node's`);
    facts[`${what}: seen`] = client.address;
  };
  await look(`kube-proxy (${MODE}), DNS by a Service`);
  await proxy.endProxy();
  const other = await kubelet.run({ name: 'by-node', labels: {}, meshed: true, dns: LOCAL_DNS });
  await known(other.place, 'proxied');
  await look('without kube-proxy, a sidecar that had DNS by a Service');
  const answers = await other.place.ask('proxied', 20);
  noneFailed('without kube-proxy', answers);
  assert.deepEqual([...new Set(answers.map(({ answer }) => answer?.from))], [other.address]);
  facts["without kube-proxy, DNS by the node's resolver: seen"] = other.address;
  await Promise.all([client.remove(), other.remove(), server.remove()]);
  return facts;
}

async function announceDns(control: ControlPlane, { node }: Kubelet): Promise<void> {
  const ports = [
    { name: 'dns', port: 53, protocol: 'UDP' },
    { name: 'dns-tcp', port: 53, protocol: 'TCP' },
  ];
  await control.call('POST', '/api/v1/namespaces/default/services', {
    metadata: { name: 'cluster-dns' },
    spec: { clusterIP: CLUSTER_DNS, ports },
  });
  await control.call('POST', '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices', {
    metadata: { name: 'cluster-dns', labels: { 'kubernetes.io/service-name': 'cluster-dns' } },
    addressType: 'IPv4',
    ports,
    endpoints: [{ addresses: [node.instance.bootEni.primaryIp], conditions: { ready: true } }],
  });
}
