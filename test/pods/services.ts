// Services, asked from pods, nodes and the Internet, with each of kube-proxy's modes on the nodes.
import type { Flow } from './flow.ts';
import type { Pair } from './pair.ts';
import type { ProxyMode, Service } from './proxy.ts';

/** The Services of node one's kube-proxy. */
export function servicesOf({ one, a, b, c, far }: Pair): Service[] {
  const service = (at: number, name: string, address: string, more: Partial<Service> = {}): Service => ({
    name,
    protocol: 'tcp',
    clusterIp: `172.20.0.${at}`,
    port: 80,
    endpoint: { address, port: 80, here: address !== far.address },
    ...more,
  });
  return [
    service(10, 'elsewhere', far.address, { nodePort: 30010 }),
    service(11, 'same-eni', b.address),
    service(12, 'other-eni', c.address, { nodePort: 30012 }),
    service(13, 'itself', a.address, { nodePort: 30013, local: true }),
    service(14, 'the-node', one.address),
    service(53, 'dns', far.address, { protocol: 'udp', port: 53 }),
  ];
}

export function serviceFlows(mode: ProxyMode, { one, two, a, b, far }: Pair): Flow[] {
  const publicIp = one.node.instance.bootEni.publicIp ?? 'none';
  const flow = (what: string, client: Flow['client'], to: string, sees: string): Flow => ({
    what: `${mode}: ${what}`,
    client,
    to,
    sees,
  });
  const cluster = [30010, 30012] as const;
  return [
    flow('Service, backend on another node', [one, 'a'], '172.20.0.10:80', a.address),
    flow('Service, backend on the same ENI', [one, 'a'], '172.20.0.11:80', a.address),
    flow('Service, backend on another ENI of the node', [one, 'a'], '172.20.0.12:80', a.address),
    // kube-proxy masquerades packets that come back to their sender, in any network.
    flow('Service, backend is the client itself', [one, 'a'], '172.20.0.13:80', one.address),
    flow('Service, backend is the node', [one, 'a'], '172.20.0.14:80', a.address),
    flow('Service from the node, backend on another node', [one, ''], '172.20.0.10:80', one.address),
    flow('Service from the node, backend on this node', [one, ''], '172.20.0.11:80', one.address),
    ...cluster.flatMap((port) => {
      const where = port === 30010 ? 'elsewhere' : 'here';
      return [
        flow(
          `NodePort, Cluster, pod ${where}, from a node of the VPC`,
          [two, ''],
          `${one.address}:${port}`,
          one.address,
        ),
        flow(
          `NodePort, Cluster, pod ${where}, from the Internet`,
          'internet',
          `${publicIp}:${port}`,
          one.address,
        ),
      ];
    }),
    flow(
      'NodePort, Cluster, pod here, from a pod of the VPC',
      [two, 'far'],
      `${one.address}:30012`,
      one.address,
    ),
    flow('NodePort, Local, from a node of the VPC', [two, ''], `${one.address}:30013`, two.address),
    flow('NodePort, Local, from a pod of the VPC', [two, 'far'], `${one.address}:30013`, far.address),
    flow('NodePort, Local, from a pod of the node', [one, 'b'], `${one.address}:30013`, b.address),
    flow('NodePort, Local, from the Internet', 'internet', `${publicIp}:30013`, '203.0.113.80'),
  ];
}
