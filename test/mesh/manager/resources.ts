// The mesh in the form of Envoy's API (v3): clusters, their endpoints by locality, and the listener to which a pod's own
// program sends its requests. Field names are those of the protocol files.
import type { Mesh } from './mesh.ts';

type Resource = Record<string, unknown> & { '@type': string };

/** Region and zone of the sidecar that asks. */
export interface Locality {
  region: string;
  zone: string;
}

const TYPE = 'type.googleapis.com/envoy';
export const types = {
  cluster: `${TYPE}.config.cluster.v3.Cluster`,
  endpoints: `${TYPE}.config.endpoint.v3.ClusterLoadAssignment`,
  listener: `${TYPE}.config.listener.v3.Listener`,
} as const;

/** Port on loopback at which a pod's own program reaches the mesh; the host of a request is the service. */
export const EGRESS_PORT = 9001;
/** A service's name with this ending has the same endpoints, and its requests are never retried. */
export const ONCE = '.once';

const ms = (value: number) => ({ seconds: Math.floor(value / 1000), nanos: (value % 1000) * 1_000_000 });
const wrapped = <T>(value: T) => ({ value });

export function clustersOf(mesh: Mesh): Resource[] {
  return Object.keys(mesh).map((name) => ({
    '@type': types.cluster,
    name,
    type: 'EDS',
    eds_cluster_config: { eds_config: { ads: {}, resource_api_version: 'V3' }, service_name: name },
    // A connection inside a region is made within 2 ms; when it takes longer, the endpoint does not exist.
    connect_timeout: ms(250),
    health_checks: [
      {
        ...{ timeout: ms(500), interval: ms(1000), no_traffic_interval: ms(1000) },
        ...{ unhealthy_threshold: wrapped(2), healthy_threshold: wrapped(1) },
        http_health_check: { path: '/healthz' },
      },
    ],
    // By default an endpoint that is gone from the list stays while its health check succeeds, and a pod that drains
    // answers health checks to its end (Envoy's documentation, Cluster.ignore_health_on_host_removal).
    ignore_health_on_host_removal: true,
    // By default Envoy applies the results of health checks up to a second later.
    common_lb_config: { update_merge_window: ms(0) },
    // Requests that wait for a dead machine fail with the second health check, and Envoy retries them elsewhere.
    close_connections_on_host_health_failure: true,
    // By default three retries may run at once; when a zone is lost, every request to it is a retry.
    circuit_breakers: { thresholds: [{ max_retries: wrapped(1024) }] },
    outlier_detection: {
      ...{ consecutive_gateway_failure: wrapped(3), enforcing_consecutive_gateway_failure: wrapped(100) },
      ...{ interval: ms(1000), base_ejection_time: ms(5000), max_ejection_percent: wrapped(100) },
    },
  }));
}

/** The endpoints of the asker's own zone first; all other zones are used alike when that one has none. */
export function endpointsOf(mesh: Mesh, asker: Locality): Resource[] {
  return Object.entries(mesh).map(([name, endpoints]) => ({
    '@type': types.endpoints,
    cluster_name: name,
    endpoints: localities(endpoints, asker),
  }));
}

function localities(endpoints: Mesh[string], asker: Locality): object[] {
  const zones = [...new Set(endpoints.map(({ zone }) => zone))].sort();
  const own = zones.includes(asker.zone);
  return zones.map((zone) => ({
    locality: { region: asker.region, zone },
    // Priorities must begin at 0 and have no gap, otherwise Envoy refuses the list.
    priority: own && zone !== asker.zone ? 1 : 0,
    load_balancing_weight: wrapped(endpoints.filter((one) => one.zone === zone).length),
    lb_endpoints: endpoints
      .filter((one) => one.zone === zone)
      .map(({ address, port }) => ({
        endpoint: { address: { socket_address: { address, port_value: port } } },
      })),
  }));
}

const RETRIES = {
  retry_on: 'connect-failure,refused-stream,reset,gateway-error',
  num_retries: wrapped(4),
  per_try_timeout: ms(500),
  retry_host_predicate: [
    {
      name: 'envoy.retry_host_predicates.previous_hosts',
      typed_config: { '@type': `${TYPE}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate` },
    },
  ],
  retry_priority: {
    name: 'envoy.retry_priorities.previous_priorities',
    typed_config: {
      '@type': `${TYPE}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig`,
      update_frequency: 1,
    },
  },
  host_selection_retry_max_attempts: 5,
};

export function listenersOf(mesh: Mesh): Resource[] {
  const virtualHost = (domain: string, cluster: string, route: object) => ({
    name: domain,
    domains: [domain],
    routes: [{ match: { prefix: '/' }, route: { cluster, timeout: ms(5000), ...route } }],
    include_request_attempt_count: true,
  });
  const manager = {
    '@type': `${TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: 'egress',
    route_config: {
      name: 'egress',
      virtual_hosts: Object.keys(mesh).flatMap((name) => [
        // All requests here are GET, so they may be sent twice.
        virtualHost(name, name, { retry_policy: RETRIES }),
        virtualHost(`${name}${ONCE}`, name, {}),
      ]),
    },
    http_filters: [
      {
        name: 'envoy.filters.http.router',
        typed_config: { '@type': `${TYPE}.extensions.filters.http.router.v3.Router` },
      },
    ],
  };
  return [
    {
      '@type': types.listener,
      name: 'egress',
      address: { socket_address: { address: '127.0.0.1', port_value: EGRESS_PORT } },
      filter_chains: [
        { filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: manager }] },
      ],
    },
  ];
}
