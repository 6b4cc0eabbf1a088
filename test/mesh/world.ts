// Two clusters in two zones of one VPC, and an instance outside Kubernetes, in one mesh. Each cluster has a control
// plane on an instance of its own, two nodes that eniboot boots, CoreDNS on each node, and the mesh's control plane in
// a pod.
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Cloud, type Instance, startCloud } from '../aws/index.ts';
import type { ControlPlane } from '../node/control.ts';
import { ensureBuilt, modules } from '../node/fetch.ts';
import { type Bare, MANAGER, nodeSubnetIn, startBare } from './bare.ts';
import { LOCAL_DNS, startDns } from './dns.ts';
import { ensureEnvoy, ensureProtocol } from './fetch.ts';
import { watchFlows } from './flows.ts';
import { kubeApi } from './kube.ts';
import { type Kubelet, type Program, type RunningPod, server, startKubelet } from './kubelet.ts';
import { IN_MESH, type ManagerState, STATE_PORT, XDS_PORT } from './manager/main.ts';
import { ended, type Place, patient, placeOf, startSidecar } from './place.ts';
import { MESH_PORT, type SidecarSpec } from './sidecar.ts';

export interface Cluster {
  /** Letter of the cluster's zone. */
  name: 'a' | 'b';
  zone: string;
  control: ControlPlane;
  /** The instance on which the control plane runs. */
  host: Instance;
  nodes: Kubelet[];
  manager: RunningPod;
  /** The present state of the cluster's control plane of the mesh. */
  state(): Promise<ManagerState>;
  /** Runs a server of the mesh, selected by a Service, on the node with this number. */
  serve(service: string, name: string, node?: number, hostNetwork?: boolean): Promise<RunningPod>;
  /** When a Service's slices first said that this address is ready, in milliseconds since 1970. */
  saidReady(service: string, address: string): Promise<number>;
}

export interface World {
  cloud: Cloud;
  a: Cluster;
  b: Cluster;
  /** The instance outside Kubernetes, in the zone of cluster a, with a sidecar and a server. */
  legacy: {
    instance: Instance;
    address: string;
    zone: string;
    place: Place;
    /** Ends its sidecar and starts it again. */
    restart(): Promise<void>;
  };
  /** Two pods of each cluster behind the Service `echo`, one on each node. */
  echo: { a: RunningPod[]; b: RunningPod[] };
  /** A pod of each cluster with a sidecar and no server. */
  clients: { a: RunningPod; b: RunningPod };
  /** Writes into both clusters that the instance serves this service, or that only pods serve it. */
  announceLegacy(service: string, serves: boolean): Promise<void>;
  end(): Promise<void>;
}

const domainOf = (name: string) => `${name}.clusters.internal`;
const SLICES = '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices';

/** @param say reports the progress. */
export async function startWorld(parent: string, say: (line: string) => void): Promise<World> {
  const work = mkdtempSync(join(parent, 'mesh-'));
  const cloud = await startCloud();
  const ends: (() => Promise<void>)[] = [() => cloud.stop()];
  try {
    watchFlows();
    // One after the other: on an emulated processor each times out while the other starts.
    const first = await startBare(cloud, work, 'a');
    const second = await startBare(cloud, work, 'b');
    ends.unshift(
      () => first.control.stop(),
      () => second.control.stop(),
    );
    say('two API servers answer; four nodes are READY');
    const context: Context = { cloud, work, envoy: ensureEnvoy(), bare: [first, second] };
    await Promise.all(context.bare.map((bare) => startNodeDns(context, bare)));
    const [a, b] = await Promise.all(context.bare.map((bare) => startCluster(context, bare)));
    assert.ok(a !== undefined && b !== undefined);
    say('the mesh has its control planes');
    const members = await startMembers(context, a, b);
    say('sidecars on the instance and in three pods of each cluster');
    return {
      ...{ cloud, a, b, ...members },
      announceLegacy: async (service, serves) => {
        for (const { control } of [a, b])
          await announce(control, service, serves ? members.legacy : undefined);
      },
      end: async () => {
        for (const end of ends) await end();
      },
    };
  } catch (error) {
    for (const end of ends) await end();
    throw error;
  }
}

async function startMembers(
  context: Context,
  a: Cluster,
  b: Cluster,
): Promise<Pick<World, 'legacy' | 'echo' | 'clients'>> {
  const legacy = await startLegacy(context);
  const [inA, inB] = await Promise.all(
    [a, b].map(async ({ name, nodes, serve }) => ({
      client: await at(nodes, 0).run({ name: `client-${name}`, labels: {}, meshed: true }),
      echo: [await serve('echo', `echo-${name}1`, 0), await serve('echo', `echo-${name}2`, 1)],
    })),
  );
  assert.ok(inA !== undefined && inB !== undefined);
  return {
    legacy,
    echo: { a: inA.echo, b: inB.echo },
    clients: { a: inA.client, b: inB.client },
  };
}

interface Context {
  cloud: Cloud;
  work: string;
  envoy: string;
  bare: Bare[];
}

/** Addresses, inside the VPC, of the resolvers for a cluster's names. */
const resolversOf = ({ nodes }: Bare) => nodes.map(({ instance }) => instance.bootEni.primaryIp);

const coredns = () =>
  join(
    ensureBuilt(modules.coredns, () => {}),
    'coredns',
  );

async function startNodeDns({ bare, work }: Context, one: Bare): Promise<void> {
  const others = bare.filter(({ name }) => name !== one.name);
  await Promise.all(
    one.nodes.map(async ({ instance, sh }, index) => {
      const rest = (await sh("sed -n 's/^nameserver //p' /etc/resolv.conf")).trim();
      await sh(`ip address add ${LOCAL_DNS}/32 dev lo`);
      const place = placeOf(`${one.name}${index + 1}`, instance, work);
      await startDns(place, coredns(), work, [LOCAL_DNS, instance.bootEni.primaryIp], {
        own: [{ domain: domainOf(one.name), kubeconfig: one.kubeconfigs['coredns'] ?? '' }],
        others: others.map((other) => ({ domain: domainOf(other.name), resolvers: resolversOf(other) })),
        rest,
      });
    }),
  );
}

/** Names of the mesh's control planes for a sidecar in this zone: that of its own cluster first. */
function sidecarOf({ bare }: Context, zone: string): Pick<SidecarSpec, 'managers' | 'managerPort'> {
  const own = bare.filter((one) => one.zone === zone);
  const order = [...own, ...bare.filter((one) => one.zone !== zone)];
  return {
    managers: order.map(({ name }) => `${MANAGER}.default.svc.${domainOf(name)}`),
    managerPort: XDS_PORT,
  };
}

async function startCluster(context: Context, bare: Bare): Promise<Cluster> {
  const { cloud, work, envoy } = context;
  const { name, zone, host, control, kubeconfigs } = bare;
  const nodes = await Promise.all(
    bare.nodes.map((node, index) =>
      startKubelet({
        ...{ name: `${name}${index + 1}`, node, region: cloud.region, work, envoy, dns: LOCAL_DNS },
        apis: { node: kubeApi(kubeconfigs[`${name}${index + 1}`] ?? ''), operator: control },
        sidecar: sidecarOf(context, zone),
      }),
    ),
  );
  await headless(control, MANAGER, XDS_PORT, {});
  const program: Program = {
    command: [
      ...[process.execPath, join(import.meta.dirname, 'manager/main.ts'), ensureProtocol()],
      ...context.bare.map((one) => one.kubeconfigs[MANAGER] ?? ''),
    ],
    ready: `:${STATE_PORT}/`,
  };
  const manager = await at(nodes, 1).run({ name: MANAGER, labels: { app: MANAGER }, program });
  const services = new Set<string>();
  return {
    ...{ name, zone, control, host, nodes, manager },
    state: async () =>
      (await (await fetch(`http://${manager.address}:${STATE_PORT}/`)).json()) as ManagerState,
    serve: async (service, pod, node = 0, hostNetwork = false) => {
      if (!services.has(service)) await headless(control, service, MESH_PORT, { [IN_MESH]: 'yes' });
      services.add(service);
      return await at(nodes, node).run({
        ...{ name: pod, hostNetwork, meshed: true, program: server(pod, zone, MESH_PORT) },
        labels: { app: service, [IN_MESH]: 'yes' },
      });
    },
    saidReady: async (service, address) => {
      interface Slices {
        items: { endpoints?: { addresses: string[]; conditions: { ready?: boolean } }[] }[];
      }
      const path = `${SLICES}?labelSelector=kubernetes.io/service-name=${service}`;
      for (const giveUpAt = Date.now() + patient(30_000); ; await delay(10)) {
        const { items } = await control.call<Slices>('GET', path);
        const endpoints = items.flatMap((slice) => slice.endpoints ?? []);
        const ready = endpoints.some(
          (one) => one.addresses.includes(address) && one.conditions.ready === true,
        );
        if (ready) return Date.now();
        assert.ok(Date.now() < giveUpAt, `no slice of ${service} has ${address} ready`);
      }
    },
  };
}

function at<T>(list: readonly T[], index: number): T {
  const one = list[index];
  assert.ok(one !== undefined);
  return one;
}

async function headless(
  control: ControlPlane,
  name: string,
  port: number,
  labels: Record<string, string>,
): Promise<void> {
  await control.call('POST', '/api/v1/namespaces/default/services', {
    metadata: { name, labels },
    spec: { clusterIP: 'None', selector: { app: name }, ports: [{ port, targetPort: port }] },
  });
}

async function startLegacy(context: Context): Promise<World['legacy']> {
  const { cloud, work, envoy, bare } = context;
  const zone = bare[0]?.zone ?? '';
  const instance = await cloud.launch({ tags: { Name: 'legacy' }, subnet: nodeSubnetIn(cloud, zone) });
  const place = placeOf('legacy', instance, work);
  const rest = /^nameserver (.+)$/m.exec(instance.read('/etc/resolv.conf') ?? '')?.[1] ?? '';
  await startDns(place, coredns(), work, ['127.0.0.1'], {
    own: [],
    others: bare.map((one) => ({ domain: domainOf(one.name), resolvers: resolversOf(one) })),
    rest,
  });
  instance.write('/etc/resolv.conf', 'nameserver 127.0.0.1\noptions ndots:1\n');
  place.start('program', server('legacy', zone, MESH_PORT).command);
  const spec = { id: 'legacy', region: cloud.region, zone, ...sidecarOf(context, zone) };
  let sidecar = await startSidecar(place, envoy, work, spec);
  return {
    ...{ instance, address: instance.bootEni.primaryIp, zone, place },
    restart: async () => {
      await ended(sidecar, 'SIGTERM');
      sidecar = await startSidecar(place, envoy, work, spec);
    },
  };
}

/** Writes a slice that no controller manages, as the API's documentation says for endpoints outside the cluster. */
async function announce(control: ControlPlane, service: string, legacy?: World['legacy']): Promise<void> {
  const name = `${service}-instances`;
  if (legacy === undefined) {
    await control.call('DELETE', `${SLICES}/${name}`);
    return;
  }
  await control.call('POST', SLICES, {
    metadata: { name, labels: { 'kubernetes.io/service-name': service, [IN_MESH]: 'yes' } },
    addressType: 'IPv4',
    ports: [{ port: MESH_PORT, protocol: 'TCP', name: '' }],
    endpoints: [{ addresses: [legacy.address], conditions: { ready: true }, zone: legacy.zone }],
  });
}
