// Computes the mesh from the objects of the clusters. Pure.
import { isIPv4 } from 'node:net';
import type { KubeObject } from '../kube.ts';

/** The fields of an EndpointSlice (discovery.k8s.io/v1) that this program uses. */
interface Slice extends KubeObject {
  ports?: { port?: number }[];
  endpoints?: {
    addresses: string[];
    conditions?: { ready?: boolean; terminating?: boolean };
    targetRef?: { kind: string; namespace: string; name: string };
    zone?: string;
  }[];
}

interface Pod extends KubeObject {
  status?: { podIP?: string };
}

/** The objects of one cluster's API. */
export interface ClusterView {
  slices: ReadonlyMap<string, Slice>;
  pods: ReadonlyMap<string, Pod>;
}

export interface Endpoint {
  address: string;
  port: number;
  zone: string;
}

/** Endpoints by name of the Service. */
export type Mesh = Record<string, Endpoint[]>;

/**
 * Services of the same name are one service of the mesh, whichever clusters have them. An endpoint without a pod is an
 * instance outside Kubernetes; more than one cluster may name it. A pod that is being deleted is no endpoint as soon as
 * its object says so, before its slice does.
 */
export function meshOf(clusters: readonly ClusterView[]): Mesh {
  const mesh: Mesh = {};
  for (const { slices, pods } of clusters)
    for (const slice of slices.values()) {
      const service = slice.metadata.labels?.['kubernetes.io/service-name'];
      const port = slice.ports?.[0]?.port;
      if (service === undefined || port === undefined) continue;
      const known = (mesh[service] ??= []);
      for (const endpoint of slice.endpoints ?? [])
        for (const address of serving(endpoint, pods) ? endpoint.addresses : [])
          if (!known.some((one) => one.address === address))
            known.push({ address, port, zone: endpoint.zone ?? '' });
    }
  for (const endpoints of Object.values(mesh)) endpoints.sort((a, b) => (a.address < b.address ? -1 : 1));
  return mesh;
}

function serving(endpoint: NonNullable<Slice['endpoints']>[number], pods: ClusterView['pods']): boolean {
  const { conditions, targetRef, addresses } = endpoint;
  // By the API's definition of the field, an endpoint without a value is ready.
  if (conditions?.ready === false || conditions?.terminating === true) return false;
  if (targetRef?.kind !== 'Pod') return addresses.every((one) => isIPv4(one));
  const pod = pods.get(`${targetRef.namespace}/${targetRef.name}`);
  return (
    pod !== undefined &&
    pod.metadata.deletionTimestamp === undefined &&
    addresses.includes(pod.status?.podIP ?? '')
  );
}
