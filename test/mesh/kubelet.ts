// A stand-in for kubelet and the container runtime on a simulated node. Its pods are network namespaces with processes.
// It does what other programs see of a kubelet, in kubelet's order and with a node's rights. A pod begins with CNI ADD,
// then the programs start, then the pod is ready. When the API says that the pod is terminating, there follow preStop,
// SIGTERM and CNI DEL, and only then the object is deleted (kubernetes.io, "Pod Lifecycle", Termination of Pods).
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type PodNode, variablesOf } from '../cni/rig.ts';
import { type KubeApi, type KubeObject } from './kube.ts';
import { ended, type Place, placeOf, startSidecar, until } from './place.ts';
import type { SidecarSpec } from './sidecar.ts';

/** Milliseconds that a pod goes on serving after its termination has begun: the sleep of its preStop hook. */
export const DRAIN_MS = 3000;
const GRACE_S = 30;

/** A program that runs in a pod, and the address that answers 200 when the program is ready. */
export interface Program {
  command: readonly string[];
  /** Port and path on the pod's loopback. */
  ready: string;
}

export interface PodSpec {
  name: string;
  labels: Record<string, string>;
  program?: Program;
  /** The pod has a sidecar. */
  meshed?: boolean;
  hostNetwork?: boolean;
  /** The pod's DNS server, when it is not the node's. */
  dns?: string;
}

export interface RunningPod {
  name: string;
  address: string;
  zone: string;
  place: Place;
  /** Like `kubectl delete pod`; resolves when nothing of the pod is left. */
  remove(): Promise<Removal>;
  /** Like `kubectl delete pod --force --grace-period=0`: the object is deleted first, and the programs are killed. */
  removeByForce(): Promise<Removal>;
  /** Reports the result of a readiness probe. */
  setReady(ready: boolean): Promise<void>;
}

/** Times in milliseconds since 1970. */
export interface Removal {
  /** The API said that the pod terminates. */
  at: number;
  /** CNI DEL has given the pod's address back. */
  released: number;
}

export interface Kubelet {
  name: string;
  zone: string;
  node: PodNode;
  run(spec: PodSpec): Promise<RunningPod>;
}

export interface KubeletOptions {
  name: string;
  node: PodNode;
  /** Clients with the node's rights, and with the rights of an operator who makes pods. */
  apis: { node: KubeApi; operator: Pick<KubeApi, 'call'> };
  region: string;
  work: string;
  envoy: string;
  sidecar: Pick<SidecarSpec, 'managers' | 'managerPort'>;
  /** Address of the node's DNS server, which its pods have in /etc/resolv.conf. */
  dns: string;
}

const PODS = '/api/v1/namespaces/default/pods';

/** Registers the node, and then runs its pods. */
export async function startKubelet(options: KubeletOptions): Promise<Kubelet> {
  const { name, node, apis, region } = options;
  const { zone, id, bootEni } = node.instance;
  const registered = await apis.node.call<object>('POST', '/api/v1/nodes', {
    metadata: {
      name,
      labels: { 'topology.kubernetes.io/region': region, 'topology.kubernetes.io/zone': zone },
    },
    spec: { providerID: `aws:///${zone}/${id}` },
  });
  await apis.node.call('PUT', `/api/v1/nodes/${name}/status`, {
    ...registered,
    status: {
      addresses: [{ type: 'InternalIP', address: bootEni.primaryIp }],
      conditions: [{ type: 'Ready', status: 'True', reason: 'StandIn', message: '' }],
    },
  });
  return { name, zone, node, run: (spec) => run(options, spec) };
}

async function run(options: KubeletOptions, spec: PodSpec): Promise<RunningPod> {
  const { node, apis } = options;
  const { name } = spec;
  await create(options, spec);
  const { address, place, release } = await attach(options, spec);
  const programs = await startPrograms(options, spec, place);
  const deleted = (api: Pick<KubeApi, 'call'>, seconds: number) =>
    api.call('DELETE', `${PODS}/${name}`, { gracePeriodSeconds: seconds });
  const setReady = (ready: boolean) => report(options, { name, address, ready });
  await setReady(true);
  return {
    ...{ name, address, zone: node.instance.zone, place, setReady },
    remove: async () => {
      await deleted(apis.operator, GRACE_S);
      const at = Date.now();
      await delay(DRAIN_MS);
      await Promise.all(programs.map((one) => ended(one, 'SIGTERM')));
      const released = await release();
      await deleted(apis.node, 0);
      return { at, released };
    },
    removeByForce: async () => {
      await deleted(apis.operator, 0);
      const at = Date.now();
      await Promise.all(programs.map((one) => ended(one, 'SIGKILL')));
      return { at, released: await release() };
    },
  };
}

/** Makes a pod as an operator does, and binds it to the node as the scheduler does. */
async function create({ name: nodeName, apis }: KubeletOptions, spec: PodSpec): Promise<void> {
  const { name, labels, hostNetwork = false } = spec;
  await apis.operator.call('POST', PODS, {
    metadata: { name, labels },
    spec: {
      ...{ nodeName, hostNetwork, terminationGracePeriodSeconds: GRACE_S },
      automountServiceAccountToken: false,
      containers: [{ name: 'program', image: 'none' }],
    },
  });
}

interface Attached {
  address: string;
  place: Place;
  /** Runs CNI DEL; resolves to the time when that has succeeded. */
  release(): Promise<number>;
}

async function attach({ node, work, dns }: KubeletOptions, spec: PodSpec): Promise<Attached> {
  const { name, hostNetwork = false } = spec;
  // `ip netns exec` mounts this file over /etc/resolv.conf.
  const resolvConf = `/etc/netns/${name}/resolv.conf`;
  node.instance.write(resolvConf, `nameserver ${spec.dns ?? dns}\noptions ndots:1\n`);
  const place = placeOf(name, node.instance, work, hostNetwork ? { resolvConf } : { netns: name });
  if (hostNetwork)
    return { address: node.instance.bootEni.primaryIp, place, release: async () => Date.now() };
  const { address } = await node.addPod(name);
  return {
    address,
    place,
    release: async () => {
      const { exit, stdout } = await node.cni('DEL', variablesOf(name, `/run/netns/${name}`));
      if (exit !== 0) throw new Error(`DEL of ${name}: ${stdout}`);
      const released = Date.now();
      await node.sh(`ip netns delete ${name}`);
      return released;
    },
  };
}

/** Writes a pod's status. */
async function report(
  { apis, node }: KubeletOptions,
  { name, address, ready }: { name: string; address: string; ready: boolean },
): Promise<void> {
  const pod = await apis.node.call<KubeObject>('GET', `${PODS}/${name}`);
  const status = ready ? 'True' : 'False';
  const hostIP = node.instance.bootEni.primaryIp;
  await apis.node.call('PUT', `${PODS}/${name}/status`, {
    ...pod,
    status: {
      ...{ phase: 'Running', podIP: address, podIPs: [{ ip: address }], hostIP },
      conditions: ['Ready', 'ContainersReady'].map((type) => ({ type, status })),
    },
  });
}

async function startPrograms(
  { envoy, work, region, node, sidecar }: KubeletOptions,
  { name, program, meshed }: PodSpec,
  place: Place,
): Promise<ChildProcess[]> {
  const programs: ChildProcess[] = [];
  if (program !== undefined) programs.push(place.start('program', program.command));
  if (meshed === true)
    programs.push(
      await startSidecar(place, envoy, work, { id: name, region, zone: node.instance.zone, ...sidecar }),
    );
  if (program !== undefined)
    await until(`${name} is ready`, 30_000, async () => {
      const url = `http://127.0.0.1${program.ready}`;
      return (await place.output('curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', url)) === '200';
    });
  return programs;
}

/** The program of a pod that serves requests; its readiness is asked through its own sidecar. */
export function server(name: string, zone: string, port: number): Program {
  return {
    command: [process.execPath, join(import.meta.dirname, 'pod/server.ts'), name, zone],
    ready: `:${port}/healthz`,
  };
}
