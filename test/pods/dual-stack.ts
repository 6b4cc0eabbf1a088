// Pods with IPv6 beside IPv4 on real ipvlans: two on one ENI, one on another node. The boot ENIs have no IPv6 address, because
// the simulated VPC gives a VM none (EC2 uses DHCPv6). So nodes are asked over IPv4 only.
import assert from 'node:assert/strict';
import { type Cloud, startCloud } from '../aws/index.ts';
import { conf, type Pod, variablesOf } from '../cni/rig.ts';
import type { Bench } from '../vm/bench.ts';
import { bootPodNode, type PodNode } from './node.ts';

/** One question, and the address that the server saw. */
export interface Answer {
  what: string;
  from: string;
  to: string;
  seen: string;
}

export async function dualStack(bench: Bench): Promise<{ answers: Answer[] }> {
  const cloud = await dualStackCloud();
  const [here, there] = [...cloud.subnets.values()].filter((subnet) => subnet.mapPublicIp);
  const config = {
    pods: { max: 16, ipFamily: 'dual-stack' },
    pool: { lowWater: 0, restSeconds: 1 },
    kubernetes: { serviceCidrs: ['172.20.0.0/16', 'fd00:10:96::/108'] },
  };
  const nodes: PodNode[] = [];
  try {
    nodes.push(
      ...(await Promise.all([
        bootPodNode(bench, cloud, 'one', { subnet: here?.id ?? '', config }),
        bootPodNode(bench, cloud, 'two', { subnet: there?.id ?? '', config }),
      ])),
    );
    const [one, two] = nodes;
    if (one === undefined || two === undefined) throw new Error('a node is missing');
    const before = await one.leftovers();
    const [a, b, far] = [await one.addPod('a'), await one.addPod('b'), await two.addPod('far')];
    await serve(one, ['a', 'b']);
    await serve(two, ['far']);
    const [a6, b6, far6] = [ipv6Of(a), ipv6Of(b), ipv6Of(far)];
    const answers: Answer[] = [];
    const ask = async (what: string, node: PodNode, from: string, to: string, sees: string) => {
      const seen = await fetch6(node, from, to);
      assert.equal(seen, sees, what);
      answers.push({ what, from, to, seen });
    };
    await ask('pod to pod on its ENI', one, 'a', `http://[${b6}]/`, a6);
    await ask('pod to pod on another node', one, 'a', `http://[${far6}]/`, a6);
    await ask('pod on another node to pod', two, 'far', `http://[${a6}]/`, far6);
    await ask('pod to the Internet, by its ENI', one, 'b', cloud.internet.ipv6Target, b6);
    // A Service, with the rule that kube-proxy would write.
    await one.sh(
      `nft 'table ip6 proxy { chain prerouting { type nat hook prerouting priority dstnat; ip6 daddr fd00:10:96::a tcp dport 80 dnat to ${far6}; }; }'`,
    );
    await ask('Service, backend on another node', one, 'a', 'http://[fd00:10:96::a]/', a6);
    await ask('an address that no Service has', one, 'a', 'http://[fd00:10:96::bad]/', '');
    await ask('the metadata service', one, 'a', 'http://[fd00:ec2::254]/', '');
    await one.sh(`nft delete table ip6 proxy; ${ipvs6({ 'fd00:10:96::b': far6, 'fd00:10:96::c': b6 })}`);
    await ask('IPVS: Service, backend on another node', one, 'a', 'http://[fd00:10:96::b]/', a6);
    await ask('IPVS: Service, backend on the same ENI', one, 'a', 'http://[fd00:10:96::c]/', a6);
    await one.sh(IPVS6_OFF);
    const variables = { ...variablesOf('a', a.netns), PATH: '/nowhere' };
    const check = await one.cni('CHECK', variables, { ...conf, prevResult: a.result });
    assert.equal(check.exit, 0, check.stdout);
    await one.sh(
      '/usr/libexec/eniboot/current/eniboot trace a >/run/e2e/trace || { cat /run/e2e/trace; exit 1; }',
    );
    await one.deletePod('a');
    await one.deletePod('b');
    assert.deepEqual(await one.leftovers(), before);
    await cloud.settled();
    assert.deepEqual(await cloud.network.spoofed(), []);
    return { answers };
  } finally {
    await Promise.all(nodes.map((node) => node.node.end()));
    await cloud.stop();
  }
}

/**
 * Services with one endpoint each, as kube-proxy sets them up in IPVS mode (pkg/proxy/ipvs/proxier.go), without its rules for
 * NodePorts. IPVS needs a route before it knows a packet's mark: the default route stands for the route that a router of EC2
 * advertises on a boot ENI with IPv6.
 */
function ipvs6(services: Record<string, string>): string {
  return [
    'modprobe -a ip_vs ip_vs_rr dummy',
    'sysctl -qw net.ipv4.vs.conntrack=1 net.ipv4.vs.conn_reuse_mode=0 net.ipv4.vs.expire_nodest_conn=1',
    'ip link add kube-ipvs0 type dummy',
    'ip link set kube-ipvs0 up',
    `ip -6 route add default via fe80::1 dev "$(ip -o route show default | sed 's/.* dev \\([^ ]*\\).*/\\1/')"`,
    ...Object.entries(services).flatMap(([virtual, endpoint]) => [
      `ip -6 address add ${virtual}/128 dev kube-ipvs0 nodad`,
      `ipvsadm -A -t [${virtual}]:80 -s rr`,
      `ipvsadm -a -t [${virtual}]:80 -r [${endpoint}]:80 -m -w 1`,
    ]),
  ].join('\n');
}

const IPVS6_OFF =
  'ipvsadm -C; ip link del kube-ipvs0; ip -6 route del default via fe80::1; conntrack -F >/dev/null 2>&1';

function ipv6Of(pod: Pod): string {
  const ips = pod.result.ips as { address: string }[];
  const found = ips.map((ip) => ip.address.split('/')[0] ?? '').find((address) => address.includes(':'));
  assert.ok(found !== undefined, `${pod.id} has no IPv6 address: ${JSON.stringify(ips)}`);
  return found;
}

/** Starts a server in each pod that answers over HTTP with the client's address. */
async function serve(node: PodNode, pods: string[]): Promise<void> {
  await node.sh(
    pods
      .map(
        (pod) =>
          `ip netns exec ${pod} setsid python3 -c 'import http.server as h, socket
class A(h.BaseHTTPRequestHandler):
  def do_GET(self):
    self.send_response(200); self.end_headers(); self.wfile.write(self.client_address[0].encode())
class S(h.ThreadingHTTPServer):
  address_family = socket.AF_INET6
S(("::", 80), A).serve_forever()' >/dev/null 2>&1 &`,
      )
      .join('\n'),
  );
  for (const pod of pods)
    await node.sh(`until ip netns exec ${pod} ss -Hltn 'sport = :80' | grep -q .; do sleep 0.5; done`);
}

/** The answer; empty when there is none. */
async function fetch6(node: PodNode, pod: string, url: string): Promise<string> {
  return (await node.sh(`ip netns exec ${pod} curl -sg --max-time 30 '${url}' || :`)).trim();
}

/** A cloud where pods have IPv6 and the boot ENIs do not. */
export function dualStackCloud(): Promise<Cloud> {
  const region = 'eu-west-1';
  return startCloud({
    region,
    ipv6: true,
    subnets: ['a', 'b'].flatMap((zone, at) => [
      { cidr: `10.0.${at}.0/24`, zone: `${region}${zone}`, mapPublicIp: true },
      {
        cidr: `10.0.${64 + 16 * at}.0/20`,
        ipv6Cidr: `2001:db8:1234:1a0${at}::/64`,
        zone: `${region}${zone}`,
        tags: { eniboot: 'pods' },
      },
    ]),
  });
}
