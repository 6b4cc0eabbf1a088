// Two simulated nodes with the policy service running: pods a and b on one ENI of node one, and pod far on node two.
import type { ChildProcess } from 'node:child_process';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText, ENIBOOT } from '../boot/node.ts';
import { bootPodNode, type Pod, type PodNode } from '../cni/rig.ts';
import { type ApiObject, type ApiStandIn, startApiServer, TOKEN } from './api-server.ts';
import { eventually } from './eventually.ts';

export type Family = 4 | 6;

export interface TwoNodes {
  cloud: Cloud;
  api: ApiStandIn;
  one: PodNode;
  two: PodNode;
  a: Pod;
  b: Pod;
  far: Pod;
  /** The service of node one. */
  service: ChildProcess;
  /** What the services have logged. */
  journal(): string;
  serve(node: PodNode): ChildProcess;
  addPod(node: PodNode, name: string): Promise<Pod>;
  /** A pod of the namespace x, as the API server shows it. */
  podObject(node: PodNode, pod: Pod): ApiObject;
  /** Replaces the only policy: it isolates the pods with this label. */
  isolate(app: string, spec: object): void;
  open(): void;
  stop(): Promise<void>;
}

const IDENTITY = '/var/lib/eniboot-policy';
const POLICY = { namespace: 'x', name: 'n' };

export const selected = (app: string) => ({ podSelector: { matchLabels: { app } } });
export const block = (cidr: string) => ({ ipBlock: { cidr } });

/** @param extra lines of the section `policy:` */
export async function startTwoNodes(family: Family = 4, extra = ''): Promise<TwoNodes> {
  const cloud = await startCloud({ ipv6: family === 6 });
  const api = await startApiServer(new URL(cloud.endpoints.ec2).hostname);
  api.put('namespaces', { metadata: { name: 'x' } });
  let journal = '';

  async function boot(name: string): Promise<PodNode> {
    const policy = `apiServer: { endpoint: "${api.url}" }
kubernetes: { serviceCidrs: [172.20.0.0/16${family === 6 ? ', "fd00:10:96::/108"' : ''}] }
policy: { nodeName: ${name}, identity: { ca: ${IDENTITY}/ca.crt, token: ${IDENTITY}/token }${extra} }
`;
    return bootPodNode(cloud, {
      config: configText(cloud, policy, family === 6 ? { ipFamily: 'dual-stack' } : {}),
      files: { [`${IDENTITY}/ca.crt`]: api.ca, [`${IDENTITY}/token`]: TOKEN },
    });
  }

  function serve(node: PodNode): ChildProcess {
    const child = node.instance.spawn(ENIBOOT, ['policy', 'serve'], { stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr?.on('data', (chunk: Buffer) => {
      journal += chunk;
    });
    return child;
  }

  function podObject(node: PodNode, { id: name, address, address6 }: Pod): ApiObject {
    const podIPs = [address, address6].flatMap((ip) => (ip === undefined ? [] : [{ ip }]));
    return {
      metadata: { namespace: 'x', name, labels: { app: name }, creationTimestamp: '2026-11-01T00:00:00Z' },
      spec: { nodeName: node === two ? 'two' : 'one', containers: [{}] },
      status: { phase: 'Running', podIPs },
    } as unknown as ApiObject;
  }

  async function addPod(node: PodNode, name: string): Promise<Pod> {
    const pod = await node.addPod(name, { CNI_ARGS: `K8S_POD_NAMESPACE=x;K8S_POD_NAME=${name}` });
    api.put('pods', podObject(node, pod));
    return pod;
  }

  const known = (node: PodNode) =>
    eventually('the service knows the cluster', async () =>
      (await node.sh('ls /run/eniboot-policy || :')).split('\n').includes('known'),
    );

  const one = await boot('one');
  const two = await boot('two');
  const services = [serve(one), serve(two)] as const;
  await Promise.all([one, two].map(known));
  const [a, b, far] = [await addPod(one, 'a'), await addPod(one, 'b'), await addPod(two, 'far')];
  await Promise.all([one.serve('a'), one.serve('b'), two.serve('far'), one.serve(''), two.serve('')]);
  await eventually('all is open', async () => (await one.fetch('a', `http://${b.address}/`)) === a.address);
  const rig: TwoNodes = {
    ...{ cloud, api, one, two, a, b, far, serve, addPod, podObject },
    service: services[0],
    journal: () => journal,
    isolate: (app, spec) =>
      api.put('networkpolicies', {
        metadata: POLICY,
        spec: { ...selected(app), ...spec },
      } as unknown as ApiObject),
    open: () => api.remove('networkpolicies', { metadata: POLICY }),
    async stop() {
      rig.service.kill();
      services[1].kill();
      await api.stop();
      await cloud.stop();
    },
  };
  return rig;
}
