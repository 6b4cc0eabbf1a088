// Each path of docs/network-policy.md in one family: open without a policy, closed by one, and opened by the rule that is about
// it. The packet's way says which policy decides.
import type { Test } from 'uvu';
import { type Pod, type PodNode, proxy } from '../cni/rig.ts';
import { eventually } from './eventually.ts';
import { block, type Family, selected, type TwoNodes } from './two-nodes.ts';

interface Path {
  what: string;
  /** Whose policy decides, in which direction, and which peer it lets through. */
  decides: 'a' | 'b' | 'far';
  direction: 'ingress' | 'egress';
  peer: (rig: TwoNodes) => object;
  prepare?: (rig: TwoNodes) => Promise<void>;
  reach: (rig: TwoNodes) => Promise<string>;
}

export function testPaths(test: Test, family: Family, rigOf: () => TwoNodes): void {
  for (const { what, decides, direction, peer, prepare, reach } of pathsOf(family)) {
    test(`IPv${family}, ${what}: the ${direction} of ${decides} decides`, async () => {
      const rig = rigOf();
      const type = direction === 'ingress' ? 'Ingress' : 'Egress';
      const side = direction === 'ingress' ? 'from' : 'to';
      const letting = (port: number) =>
        rig.isolate(decides, {
          policyTypes: [type],
          [direction]: [{ [side]: [peer(rig)], ports: [{ port }] }],
        });
      await prepare?.(rig);
      rig.open();
      await eventually('open without a policy', async () => (await reach(rig)) !== '');
      rig.isolate(decides, { policyTypes: [type] });
      await eventually('shut by a policy without rules', async () => (await reach(rig)) === '');
      // The port of the packet at the place where it is decided: the backend's.
      letting(
        what.includes('Internet') || what.includes('outside')
          ? Number(internetOf(rig, family).port || 80)
          : 80,
      );
      await eventually('let through by its rule', async () => (await reach(rig)) !== '');
      letting(9);
      await eventually('shut for another port', async () => (await reach(rig)) === '');
    });
  }
}

function internetOf({ cloud: { internet } }: TwoNodes, family: Family): URL {
  return new URL(family === 6 ? internet.ipv6Target : internet.curlTarget);
}

function pathsOf(family: Family): Path[] {
  const six = family === 6;
  const nft = six ? 'ip6' : 'ip';
  const clusterIp = six ? 'fd00:10:96::a' : '172.20.0.10';
  const whole = six ? '/128' : '/32';
  const all = () => block(six ? '::/0' : '0.0.0.0/0');
  const host = (address: string) => (six ? `[${address}]` : address);
  const of = (pod: Pod) => (six ? (pod.address6 ?? '') : pod.address);
  const nodeOf = ({ instance: { bootEni } }: PodNode) =>
    six ? (bootEni.ipv6Addresses[0] ?? '') : bootEni.primaryIp;
  const dnat = (rig: TwoNodes, to: string) =>
    proxy(rig.one, nft, `${nft} daddr ${clusterIp} tcp dport 8080 dnat to ${to}`);
  const toPod = (pod: 'b' | 'far') => (rig: TwoNodes) => dnat(rig, `${host(of(rig[pod]))}:80`);
  const nodePort = (policy: 'Local' | 'Cluster') => (rig: TwoNodes) =>
    proxy(
      rig.one,
      nft,
      `${nft} daddr ${nodeOf(rig.one)} tcp dport 30080 ${policy === 'Cluster' ? 'meta mark set meta mark or 0x4000 ' : ''}dnat to ${host(of(rig.b))}:80`,
    );
  const fromA = (url: (rig: TwoNodes) => string) => (rig: TwoNodes) => rig.one.fetch('a', url(rig));
  const podUrl = (pod: 'b' | 'far') => (rig: TwoNodes) => `http://${host(of(rig[pod]))}/`;
  const service = () => `http://${host(clusterIp)}:8080/`;
  const nodeUrl = (rig: TwoNodes) => `http://${host(nodeOf(rig.one))}:30080/`;
  const twoAsBlock = ({ two }: TwoNodes) => block(`${nodeOf(two)}${whole}`);
  return [
    {
      what: 'pod to pod on one ENI',
      ...{ decides: 'a', direction: 'egress', peer: () => selected('b'), reach: fromA(podUrl('b')) },
    },
    {
      what: 'pod to pod on one ENI',
      ...{ decides: 'b', direction: 'ingress', peer: () => selected('a'), reach: fromA(podUrl('b')) },
    },
    {
      what: 'pod to pod on two nodes',
      ...{ decides: 'a', direction: 'egress', peer: () => selected('far'), reach: fromA(podUrl('far')) },
    },
    {
      what: 'pod to pod on two nodes',
      ...{ decides: 'far', direction: 'ingress', peer: () => selected('a'), reach: fromA(podUrl('far')) },
    },
    {
      what: 'Service, backend on this node',
      ...{ decides: 'a', direction: 'egress', peer: () => selected('b') },
      ...{ prepare: toPod('b'), reach: fromA(service) },
    },
    {
      what: 'Service, backend on this node',
      ...{ decides: 'b', direction: 'ingress', peer: () => selected('a') },
      ...{ prepare: toPod('b'), reach: fromA(service) },
    },
    {
      what: 'Service, backend on the other node',
      ...{ decides: 'a', direction: 'egress', peer: () => selected('far') },
      ...{ prepare: toPod('far'), reach: fromA(service) },
    },
    {
      what: 'Service, backend on the other node',
      ...{ decides: 'far', direction: 'ingress', peer: () => selected('a') },
      ...{ prepare: toPod('far'), reach: fromA(service) },
    },
    {
      what: 'Service, backend outside the VPC',
      ...{ decides: 'a', direction: 'egress', peer: all },
      prepare: (rig) =>
        dnat(rig, `${internetOf(rig, family).hostname}:${internetOf(rig, family).port || 80}`),
      reach: fromA(service),
    },
    {
      what: 'pod to the Internet',
      ...{ decides: 'a', direction: 'egress', peer: all },
      reach: fromA((rig) => internetOf(rig, family).href),
    },
    {
      what: 'pod to another node',
      ...{ decides: 'a', direction: 'egress', peer: twoAsBlock },
      reach: fromA(({ two }) => `http://${host(nodeOf(two))}/`),
    },
    {
      what: 'another node to a pod',
      ...{ decides: 'b', direction: 'ingress', peer: twoAsBlock },
      reach: (rig) => rig.two.fetch('', podUrl('b')(rig)),
    },
    {
      what: 'NodePort Local, from another node',
      ...{ decides: 'b', direction: 'ingress', peer: twoAsBlock },
      ...{ prepare: nodePort('Local'), reach: (rig) => rig.two.fetch('', nodeUrl(rig)) },
    },
    {
      what: 'NodePort Cluster, from a pod of another node',
      ...{ decides: 'b', direction: 'ingress', peer: () => selected('far') },
      ...{ prepare: nodePort('Cluster'), reach: (rig) => rig.two.fetch('far', nodeUrl(rig)) },
    },
    {
      what: 'NodePort Cluster, from a pod of the same node',
      ...{ decides: 'b', direction: 'ingress', peer: () => selected('a') },
      ...{ prepare: nodePort('Cluster'), reach: fromA(nodeUrl) },
    },
  ];
}
