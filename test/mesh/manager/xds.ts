// Envoy's aggregated discovery service, state of the world: on its stream, each sidecar asks for kinds of resources,
// and acknowledges or refuses each answer.
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { Mesh } from './mesh.ts';
import { clustersOf, endpointsOf, type Locality, listenersOf, types } from './resources.ts';

/** Empty fields are absent. */
interface DiscoveryRequest {
  node?: { id: string; locality?: Locality };
  type_url: string;
  response_nonce?: string;
  error_detail?: { message: string };
}

interface DiscoveryResponse {
  type_url: string;
  version_info: string;
  nonce: string;
  resources: object[];
}

/** A sidecar, as far as its stream has shown it. */
interface Sidecar {
  id: string;
  locality: Locality;
  /** The last version that was sent, by kind. */
  sent: Map<string, string>;
  send(answer: DiscoveryResponse): void;
}

export interface Xds {
  /** Sends each sidecar the resources that have changed for it. */
  update(mesh: Mesh): void;
  /** Refusals of sidecars, with their reasons. */
  refused: string[];
  /** Names of the connected sidecars. */
  connected(): string[];
}

const PROTOCOL_FILES = [
  'envoy/service/discovery/v3/ads.proto',
  'envoy/config/cluster/v3/cluster.proto',
  'envoy/config/endpoint/v3/endpoint.proto',
  'envoy/config/listener/v3/listener.proto',
  'envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto',
  'envoy/extensions/filters/http/router/v3/router.proto',
  'envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto',
  'envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.proto',
];

/**
 * The order of sending: a cluster before its endpoints, and endpoints before the listener that leads to them. A cluster
 * that is new or changed waits until endpoints are sent after it (xDS protocol, "Resource warming"). Here each change
 * of clusters is a change of services, and so also of endpoints.
 */
const ORDER = [types.cluster, types.endpoints, types.listener];

/** @param protocol folder of the protocol files, by project. */
export async function serveXds(protocol: string, port: number): Promise<Xds> {
  const sidecars = new Set<Sidecar>();
  const refused: string[] = [];
  let mesh: Mesh | undefined;

  function push(sidecar: Sidecar, kind: string): void {
    if (mesh === undefined || !sidecar.sent.has(kind)) return;
    const resources = resourcesOf(kind, mesh, sidecar.locality);
    const version = createHash('sha256').update(JSON.stringify(resources)).digest('hex').slice(0, 16);
    if (sidecar.sent.get(kind) === version) return;
    sidecar.sent.set(kind, version);
    sidecar.send({ type_url: kind, version_info: version, nonce: version, resources });
  }

  function heard(sidecar: Sidecar, request: DiscoveryRequest): void {
    const { type_url: kind, node, response_nonce: nonce, error_detail: error } = request;
    if (node !== undefined)
      Object.assign(sidecar, { id: node.id, locality: node.locality ?? sidecar.locality });
    if (error !== undefined) {
      refused.push(`${sidecar.id}: ${kind}: ${error.message}`);
      return;
    }
    // The first request of its kind on this stream has no nonce; an acknowledgement has the nonce of the answer.
    if (nonce === undefined) sidecar.sent.set(kind, '');
    push(sidecar, kind);
  }

  const definitions = loadSync(PROTOCOL_FILES, {
    includeDirs: ['envoy-api', 'xds', 'protoc-gen-validate', 'googleapis'].map((name) =>
      join(protocol, name),
    ),
    ...{ keepCase: true, longs: Number, enums: String, defaults: false },
  });
  const server = new Server();
  const name = 'envoy.service.discovery.v3.AggregatedDiscoveryService';
  server.addService(definitions[name] as Parameters<Server['addService']>[0], {
    StreamAggregatedResources: (stream: ServerDuplexStream<DiscoveryRequest, DiscoveryResponse>) => {
      const sidecar: Sidecar = {
        id: '',
        locality: { region: '', zone: '' },
        sent: new Map(),
        send: (answer) => void stream.write(answer),
      };
      sidecars.add(sidecar);
      stream.on('data', (request: DiscoveryRequest) => heard(sidecar, request));
      for (const end of ['end', 'close', 'error', 'cancelled'])
        stream.on(end, () => {
          sidecars.delete(sidecar);
          if (end === 'end') stream.end();
        });
    },
  });
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`0.0.0.0:${port}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    ),
  );
  return {
    update: (next) => {
      mesh = next;
      for (const sidecar of sidecars) for (const kind of ORDER) push(sidecar, kind);
    },
    refused,
    connected: () => [...sidecars].map(({ id }) => id).sort(),
  };
}

function resourcesOf(kind: string, mesh: Mesh, asker: Locality): object[] {
  if (kind === types.cluster) return clustersOf(mesh);
  if (kind === types.endpoints) return endpointsOf(mesh, asker);
  return kind === types.listener ? listenersOf(mesh) : [];
}
