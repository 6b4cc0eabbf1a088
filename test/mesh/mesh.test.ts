// The mesh that its control plane computes from the objects of the clusters.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type ClusterView, meshOf } from './manager/mesh.ts';
import { endpointsOf } from './manager/resources.ts';

interface Wanted {
  name?: string;
  address: string;
  zone?: string;
  ready?: boolean;
  terminating?: boolean;
}

/** A cluster with one slice of the Service `echo`. An endpoint with a name is that of a pod, which exists. */
function cluster(
  endpoints: Wanted[],
  change: { gone?: string; deleted?: string; moved?: string } = {},
): ClusterView {
  const slice = {
    metadata: { name: 'echo-1', namespace: 'default', labels: { 'kubernetes.io/service-name': 'echo' } },
    ports: [{ port: 9000 }],
    endpoints: endpoints.map(({ name, address, zone = 'a', ...conditions }) => ({
      ...{ addresses: [address], conditions, zone },
      ...(name === undefined ? {} : { targetRef: { kind: 'Pod', namespace: 'default', name } }),
    })),
  };
  const named = endpoints.flatMap(({ name, address }) => (name === undefined ? [] : [{ name, address }]));
  const pods = named
    .filter(({ name }) => name !== change.gone)
    .map(({ name, address }) => ({
      metadata: {
        name,
        namespace: 'default',
        ...(name === change.deleted ? { deletionTimestamp: 'now' } : {}),
      },
      status: { podIP: name === change.moved ? '10.9.9.9' : address },
    }));
  return {
    slices: new Map([['default/echo-1', slice]]),
    pods: new Map(pods.map((pod) => [`default/${pod.metadata.name}`, pod])),
  };
}

const addressesOf = (...clusters: ClusterView[]) => meshOf(clusters)['echo']?.map(({ address }) => address);
const one = { name: 'one', address: '10.0.0.1' };
const two = { name: 'two', address: '10.0.0.2' };

test('a Service of the same name in two clusters is one service', () => {
  assert.equal(addressesOf(cluster([one]), cluster([two])), ['10.0.0.1', '10.0.0.2']);
});

test('an instance that both clusters name is one endpoint', () => {
  const instance = { address: '10.0.0.9', ready: true };
  assert.equal(addressesOf(cluster([instance]), cluster([instance])), ['10.0.0.9']);
});

test('what is not ready, or terminates, is no endpoint; what does not say is ready', () => {
  const slice = cluster([
    { ...one, ready: false },
    { ...two, ready: true, terminating: true },
    { name: 'three', address: '10.0.0.3' },
  ]);
  assert.equal(addressesOf(slice), ['10.0.0.3']);
});

test('a slice that lags behind its pods: a pod that is being deleted, is gone, or has another address by now', () => {
  assert.equal(addressesOf(cluster([one, two], { deleted: 'one' })), ['10.0.0.2']);
  assert.equal(addressesOf(cluster([one, two], { gone: 'one' })), ['10.0.0.2']);
  assert.equal(addressesOf(cluster([one, two], { moved: 'one' })), ['10.0.0.2']);
});

test('a service that has lost its endpoints is still a service: its clients get an error, not a surprise', () => {
  assert.equal(meshOf([cluster([])]), { echo: [] });
});

test('the own zone has priority 0 and the others 1; without the own zone all have 0, since Envoy refuses a gap', () => {
  const mesh = meshOf([
    cluster([
      { ...one, zone: 'a' },
      { ...two, zone: 'b' },
    ]),
  ]);
  const priorities = (zone: string) => {
    const [{ endpoints } = { endpoints: [] }] = endpointsOf(mesh, { region: 'r', zone }) as unknown as {
      endpoints: { locality: { zone: string }; priority: number }[];
    }[];
    return Object.fromEntries(endpoints.map(({ locality, priority }) => [locality.zone, priority]));
  };
  assert.equal(priorities('a'), { a: 0, b: 1 });
  assert.equal(priorities('b'), { a: 1, b: 0 });
  assert.equal(priorities('c'), { a: 0, b: 0 });
});

test.run();
