// Pods with IPv6 beside IPv4 on real ipvlans: two on one ENI, one on another node. The boot ENIs have no IPv6 address,
// since nothing in the simulated VPC gives a VM one (EC2 does so by DHCPv6), so nodes are asked over IPv4 alone.
import assert from 'node:assert/strict';
import { startCloud } from '../aws/index.ts';
import { conf, type Pod, variablesOf } from '../cni/rig.ts';
import type { Bench } from '../vm/bench.ts';
import { bootPodNode, type PodNode } from './node.ts';

interface Asked {
  from: string;
  to: string;
  seen: string;
}

export async function dualStack(bench: Bench): Promise<{ asked: Asked[] }> {
  const region = 'eu-west-1';
  const cloud = await startCloud({
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
    if (one === undefined || two === undefined) throw new Error('two nodes were asked for');
    const before = await one.leftovers();
    const [a, b, far] = [await one.addPod('a'), await one.addPod('b'), await two.addPod('far')];
    await serve(one, ['a', 'b']);
    await serve(two, ['far']);
    const [a6, b6, far6] = [ipv6Of(a), ipv6Of(b), ipv6Of(far)];
    const asked: Asked[] = [];
    for (const [node, from, to, sees] of [
      [one, 'a', `http://[${b6}]/`, a6],
      [one, 'a', `http://[${far6}]/`, a6],
      [two, 'far', `http://[${a6}]/`, far6],
      [one, 'b', cloud.internet.ipv6Target, b6],
    ] as const) {
      const seen = await fetch6(node, from, to);
      assert.equal(seen, sees, `${from} to ${to}`);
      asked.push({ from, to, seen });
    }
    // A Service: what kube-proxy would write.
    await one.sh(
      `nft 'table ip6 proxy { chain prerouting { type nat hook prerouting priority dstnat; ip6 daddr fd00:10:96::a tcp dport 80 dnat to ${far6}; }; }'`,
    );
    for (const [to, sees] of [
      ['http://[fd00:10:96::a]/', a6],
      ['http://[fd00:10:96::bad]/', ''],
      ['http://[fd00:ec2::254]/', ''],
    ] as const) {
      const seen = await fetch6(one, 'a', to);
      assert.equal(seen, sees, `a to ${to}`);
      asked.push({ from: 'a', to, seen });
    }
    const variables = variablesOf('a', a.netns);
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
    return { asked };
  } finally {
    await Promise.all(nodes.map((node) => node.node.end()));
    await cloud.stop();
  }
}

function ipv6Of(pod: Pod): string {
  const ips = pod.result.ips as { address: string }[];
  const found = ips.map((ip) => ip.address.split('/')[0] ?? '').find((address) => address.includes(':'));
  assert.ok(found !== undefined, `${pod.id} has no IPv6 address: ${JSON.stringify(ips)}`);
  return found;
}

/** A server in each pod that answers over HTTP with the address it sees. */
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

/** Empty where nothing answers. */
async function fetch6(node: PodNode, pod: string, url: string): Promise<string> {
  return (await node.sh(`ip netns exec ${pod} curl -sg --max-time 30 '${url}' || :`)).trim();
}
