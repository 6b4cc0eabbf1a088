// A sidecar: the real Envoy beside the program of a pod or of an instance. To find the mesh it needs only a DNS name.
import { APP_PORT } from './pod/server.ts';

export interface SidecarSpec {
  /** Name of the pod. */
  id: string;
  region: string;
  zone: string;
  /** DNS names of the control planes; the first is preferred. */
  managers: readonly string[];
  managerPort: number;
}

/** Port at which other sidecars reach it, on the pod's address. */
export const MESH_PORT = 9000;
/** Port on loopback. */
export const ADMIN_PORT = 9901;

const TYPE = 'type.googleapis.com/envoy';
const ads = { ads: {}, resource_api_version: 'V3' };
const at = (address: string, port: number) => ({
  endpoint: { address: { socket_address: { address, port_value: port } } },
});

/** Envoy's bootstrap configuration, as JSON. */
export function bootstrap({ id, region, zone, managers, managerPort }: SidecarSpec): string {
  return JSON.stringify({
    node: { id, cluster: 'mesh', locality: { region, zone } },
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: ADMIN_PORT } } },
    dynamic_resources: {
      ads_config: {
        api_type: 'GRPC',
        transport_api_version: 'V3',
        grpc_services: [{ envoy_grpc: { cluster_name: 'manager' } }],
      },
      cds_config: ads,
      lds_config: ads,
    },
    static_resources: {
      listeners: [ingress],
      clusters: [
        manager(managers, managerPort),
        {
          name: 'app',
          type: 'STATIC',
          connect_timeout: '0.25s',
          load_assignment: {
            cluster_name: 'app',
            endpoints: [{ lb_endpoints: [at('127.0.0.1', APP_PORT)] }],
          },
        },
      ],
    },
  });
}

/** The headless Services of the control planes, by their names: that of the own cluster first, then those of the others. */
function manager(names: readonly string[], port: number): object {
  return {
    name: 'manager',
    type: 'STRICT_DNS',
    dns_lookup_family: 'V4_ONLY',
    dns_refresh_rate: '2s',
    connect_timeout: '1s',
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': `${TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions`,
        explicit_http_config: {
          http2_protocol_options: {
            // Without keepalives, a stream that waits for news cannot be told from a stream whose other end is dead.
            connection_keepalive: { interval: '2s', timeout: '3s' },
          },
        },
      },
    },
    health_checks: [
      {
        ...{ timeout: '3s', interval: '1s', no_traffic_interval: '1s' },
        ...{ unhealthy_threshold: 2, healthy_threshold: 1 },
        tcp_health_check: {},
      },
    ],
    load_assignment: {
      cluster_name: 'manager',
      endpoints: names.map((name, priority) => ({ priority, lb_endpoints: [at(name, port)] })),
    },
  };
}

/** The sidecar adds the address that it saw to the request; the sidecar of the sender adds nothing. */
const ingress = {
  name: 'ingress',
  address: { socket_address: { address: '0.0.0.0', port_value: MESH_PORT } },
  filter_chains: [
    {
      filters: [
        {
          name: 'envoy.filters.network.http_connection_manager',
          typed_config: {
            '@type': `${TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`,
            stat_prefix: 'ingress',
            use_remote_address: true,
            route_config: {
              name: 'ingress',
              virtual_hosts: [
                {
                  name: 'app',
                  domains: ['*'],
                  routes: [{ match: { prefix: '/' }, route: { cluster: 'app' } }],
                },
              ],
            },
            http_filters: [
              {
                name: 'envoy.filters.http.router',
                typed_config: { '@type': `${TYPE}.extensions.filters.http.router.v3.Router` },
              },
            ],
          },
        },
      ],
    },
  ],
};
