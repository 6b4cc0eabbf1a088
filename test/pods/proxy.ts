// A stand-in for kube-proxy: it writes the rules that kube-proxy writes for a few Services, in kube-proxy's own form
// (chains, sets, marks, sysctls), for each of its three modes. Facts from kubernetes/kubernetes, pkg/proxy/{iptables,
// ipvs,nftables}/proxier.go, as configured where pods have VPC addresses: no cluster CIDR, so no detection of local
// traffic; masqueradeBit 14; strict ARP. Every Service has one endpoint, so that every answer is certain.

export const proxyModes = ['iptables', 'ipvs', 'nftables'] as const;
export type ProxyMode = (typeof proxyModes)[number];

export interface Service {
  name: string;
  protocol: 'tcp' | 'udp';
  clusterIp: string;
  port: number;
  nodePort?: number;
  /** externalTrafficPolicy Local; its endpoint is then on this node. */
  local?: true;
  endpoint: { address: string; port: number; here: boolean };
}

const MASQUERADE = '0x4000';

/** Shell script that sets the node up. @param address the node's own, for NodePorts. */
export function proxyOn(mode: ProxyMode, address: string, services: Service[]): string {
  if (mode === 'nftables') return `nft -f - <<'EOF'\n${nftables(services)}EOF`;
  const rules = mode === 'iptables' ? iptables(services) : ipvsRules();
  const before =
    mode === 'iptables' ? 'sysctl -qw net.ipv4.conf.all.route_localnet=1' : ipvs(address, services);
  return `${before}\niptables-restore --noflush <<'EOF'\n${rules}EOF`;
}

/** Shell script that removes all of it again, connections too. */
export function proxyOff(mode: ProxyMode): string {
  const tables = 'nft delete table ip nat; nft delete table ip filter';
  const script = {
    iptables: `${tables}; sysctl -qw net.ipv4.conf.all.route_localnet=0`,
    ipvs: `${tables}; ipvsadm -C; ip link del kube-ipvs0; ipset destroy
      sysctl -qw net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.all.arp_announce=0`,
    nftables: 'nft delete table ip kube-proxy',
  }[mode];
  return `${script}; conntrack -F >/dev/null 2>&1`;
}

function chainsOf(service: Service) {
  // kube-proxy uses hashes of the name; 16 characters.
  const hash = Buffer.from(service.name).toString('hex').toUpperCase().padEnd(16, 'X').slice(0, 16);
  return {
    svc: `KUBE-SVC-${hash}`,
    svl: `KUBE-SVL-${hash}`,
    ext: `KUBE-EXT-${hash}`,
    sep: `KUBE-SEP-${hash}`,
  };
}

function iptables(services: Service[]): string {
  const exposed = services.filter((service) => service.nodePort !== undefined);
  const chains = [
    ...['KUBE-SERVICES', 'KUBE-NODEPORTS', 'KUBE-POSTROUTING', 'KUBE-MARK-MASQ'],
    ...services.flatMap((service) => [chainsOf(service).svc, chainsOf(service).sep]),
    ...exposed.map((service) => chainsOf(service).ext),
    ...exposed.filter((service) => service.local).map((service) => chainsOf(service).svl),
  ];
  const toEndpoint = (chain: string, service: Service) =>
    `-A ${chain} -m comment --comment "default/${service.name} -> ${endpointOf(service)}" -j ${chainsOf(service).sep}`;
  return `*nat
${chains.map((chain) => `:${chain} - [0:0]\n`).join('')}-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
${postrouting}${services
  .map((service) => {
    const { svc, sep } = chainsOf(service);
    const { protocol, clusterIp, port, endpoint } = service;
    return `-A KUBE-SERVICES -d ${clusterIp}/32 -p ${protocol} -m comment --comment "default/${service.name} cluster IP" -m ${protocol} --dport ${port} -j ${svc}
${toEndpoint(svc, service)}
-A ${sep} -s ${endpoint.address}/32 -m comment --comment "default/${service.name}" -j KUBE-MARK-MASQ
-A ${sep} -p ${protocol} -m comment --comment "default/${service.name}" -m ${protocol} -j DNAT --to-destination ${endpointOf(service)}
`;
  })
  .join('')}${exposed
  .map((service) => {
    const { svc, svl, ext } = chainsOf(service);
    const policy = service.local
      ? `-A ${ext} -m comment --comment "masquerade LOCAL traffic" -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ
-A ${ext} -m comment --comment "route LOCAL traffic" -m addrtype --src-type LOCAL -j ${svc}
-A ${ext} -j ${svl}
${toEndpoint(svl, service)}
`
      : `-A ${ext} -m comment --comment "masquerade traffic for external destinations" -j KUBE-MARK-MASQ
-A ${ext} -j ${svc}
`;
    const { protocol, nodePort } = service;
    return `-A KUBE-NODEPORTS -p ${protocol} -m comment --comment "default/${service.name}" -m ${protocol} --dport ${nodePort} -j ${ext}
${policy}`;
  })
  .join(
    '',
  )}-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
${filter}`;
}

const postrouting = `-A KUBE-MARK-MASQ -j MARK --set-xmark ${MASQUERADE}/${MASQUERADE}
-A KUBE-POSTROUTING -m mark ! --mark ${MASQUERADE}/${MASQUERADE} -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark ${MASQUERADE}
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
`;

/** With kubelet's own KUBE-FIREWALL. INVALID packets are dropped, such as those of a connection whose two directions differ. */
const filter = `*filter
:KUBE-FORWARD - [0:0]
:KUBE-FIREWALL - [0:0]
-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-I INPUT -j KUBE-FIREWALL
-I OUTPUT -j KUBE-FIREWALL
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark ${MASQUERADE}/${MASQUERADE} -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
COMMIT
`;

function ipvs(address: string, services: Service[]): string {
  const server = (virtual: string, { protocol, endpoint }: Service) => {
    const option = protocol === 'tcp' ? '-t' : '-u';
    return [
      `ipvsadm -A ${option} ${virtual} -s rr`,
      `ipvsadm -a ${option} ${virtual} -r ${endpoint.address}:${endpoint.port} -m -w 1`,
    ];
  };
  return [
    'modprobe -a ip_vs ip_vs_rr dummy',
    'sysctl -qw net.ipv4.vs.conntrack=1 net.ipv4.vs.conn_reuse_mode=0 net.ipv4.vs.expire_nodest_conn=1',
    'sysctl -qw net.ipv4.vs.expire_quiescent_template=1 net.ipv4.ip_forward=1',
    // --ipvs-strict-arp
    'sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2',
    'ip link add kube-ipvs0 type dummy',
    'ipset create KUBE-LOOP-BACK hash:ip,port,ip',
    'ipset create KUBE-CLUSTER-IP hash:ip,port',
    'ipset create KUBE-NODE-PORT-TCP bitmap:port range 0-65535',
    'ipset create KUBE-NODE-PORT-LOCAL-TCP bitmap:port range 0-65535',
    ...services.flatMap((service) => {
      const { protocol, clusterIp, port, nodePort, local, endpoint } = service;
      const looped = `${endpoint.address},${protocol}:${endpoint.port},${endpoint.address}`;
      return [
        `ip address replace ${clusterIp}/32 dev kube-ipvs0`,
        `ipset add KUBE-CLUSTER-IP ${clusterIp},${protocol}:${port}`,
        ...(endpoint.here ? [`ipset -exist add KUBE-LOOP-BACK ${looped}`] : []),
        ...server(`${clusterIp}:${port}`, service),
        ...(nodePort === undefined
          ? []
          : [
              `ipset add KUBE-NODE-PORT-TCP ${nodePort}`,
              ...(local ? [`ipset add KUBE-NODE-PORT-LOCAL-TCP ${nodePort}`] : []),
              ...server(`${address}:${nodePort}`, service),
            ]),
      ];
    }),
  ].join('\n');
}

function ipvsRules(): string {
  return `*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m comment --comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
${postrouting}-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN
-A KUBE-SERVICES -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set KUBE-CLUSTER-IP src,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port with externalTrafficPolicy=local" -m set --match-set KUBE-NODE-PORT-LOCAL-TCP dst -j RETURN
-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port for masquerade purpose" -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ
COMMIT
${filter}`;
}

function nftables(services: Service[]): string {
  const exposed = services.filter((service) => service.nodePort !== undefined);
  const base = (service: Service) =>
    `${service.name.toUpperCase()}-default/${service.name}/${service.protocol}/`;
  const endpointChain = (service: Service) =>
    `endpoint-${base(service)}__${service.endpoint.address}/${service.endpoint.port}`;
  const choose = (service: Service) => `numgen random mod 1 vmap { 0 : goto ${endpointChain(service)} }`;
  return `table ip kube-proxy {
  comment "rules for kube-proxy"
${services
  .map(
    (service) => `  chain ${endpointChain(service)} {
    ip saddr ${service.endpoint.address} jump mark-for-masquerade
    meta l4proto ${service.protocol} dnat to ${endpointOf(service)}
  }
  chain service-${base(service)} { ${choose(service)}; }
`,
  )
  .join('')}${exposed
  .map((service) =>
    service.local
      ? `  chain local-${base(service)} { ${choose(service)}; }
  chain external-${base(service)} {
    fib saddr type local jump mark-for-masquerade
    fib saddr type local goto service-${base(service)}
    goto local-${base(service)}
  }
`
      : `  chain external-${base(service)} {
    jump mark-for-masquerade
    goto service-${base(service)}
  }
`,
  )
  .join('')}  map service-ips {
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = { ${services.map((service) => `${service.clusterIp} . ${service.protocol} . ${service.port} : goto service-${base(service)}`).join(', ')} }
  }
  map service-nodeports {
    type inet_proto . inet_service : verdict
    elements = { ${exposed.map((service) => `${service.protocol} . ${service.nodePort} : goto external-${base(service)}`).join(', ')} }
  }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
  map no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
  map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  chain mark-for-masquerade { meta mark set meta mark or ${MASQUERADE}; }
  chain masquerading {
    meta mark and ${MASQUERADE} == 0 return
    meta mark set meta mark xor ${MASQUERADE}
    masquerade fully-random
  }
  chain endpoints-check {
    ip daddr . meta l4proto . th dport vmap @no-endpoint-services
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @no-endpoint-nodeports
  }
  chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
  chain services {
    ip daddr . meta l4proto . th dport vmap @service-ips
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports
  }
  chain filter-prerouting { type filter hook prerouting priority dstnat - 10; ct state new jump firewall-check; }
  chain filter-input { type filter hook input priority -110; ct state new jump endpoints-check; }
  chain filter-forward { type filter hook forward priority -110; ct state new jump endpoints-check; }
  chain filter-output {
    type filter hook output priority -110
    ct state new jump endpoints-check
    ct state new jump firewall-check
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
}
`;
}

function endpointOf({ endpoint }: Service): string {
  return `${endpoint.address}:${endpoint.port}`;
}
