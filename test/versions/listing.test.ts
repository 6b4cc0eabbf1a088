// time limit: 240 s
// Other programs list eniboot's objects in the kernel: kube-proxy with the nft of its image, an operator with the nft of a debug
// container. Whichever nft has written them, and whichever lists them: no tool ends by a signal, and each has output.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, type PodNode } from '../cni/rig.ts';
import { commandOf, releases } from './tools.ts';

let cloud: Cloud;
let node: PodNode;

/**
 * Each call runs in the node's namespace and in a pod's. The first ones are those of kube-proxy in nftables mode
 * (sigs.k8s.io/knftables, List and ListElements in nftables.go).
 */
const nftCalls = [
  ...['ip', 'ip6', 'inet', 'netdev'].flatMap((family) =>
    ['chains', 'sets', 'maps'].map((what) => `--json list ${what} ${family}`),
  ),
  ...['', '-j ', '-a ', '-s '].map((form) => `${form}list ruleset`),
  'list counters',
  'list meters',
  'list flowtables',
];
const ipCalls = ['', '-j '].flatMap((form) =>
  [
    'rule show',
    '-6 rule show',
    'route show table all',
    '-6 route show table all',
    '-d link show',
    'neigh show',
  ].map((call) => `${form}${call}`),
);

test.before(async () => {
  cloud = await startCloud({ ipv6: true });
  const extra = `pool: { target: 32, restSeconds: 0 }
kubernetes: { serviceCidrs: [172.20.0.0/16, "fd00:10:96::/108", "fd00:10:97::/108"] }
egress: { table: [{ cidr: 10.0.7.0/24, action: snat }, { cidr: 10.0.8.0/24, action: snat-keep-port }] }
`;
  node = await bootPodNode(cloud, { config: configText(cloud, extra, { ipFamily: 'dual-stack' }) });
  await node.addPod(
    'p',
    {},
    {
      cniVersion: '1.1.0',
      name: 'eniboot',
      type: 'eniboot',
      runtimeConfig: { bandwidth: { ingressRate: 40e6 } },
    },
  );
});
test.after(() => cloud.stop());

/** Runs all calls with each release's tools; returns a line for each failure. */
async function problems(): Promise<string[]> {
  const found: string[] = [];
  for (const release of releases)
    for (const where of ['', 'ip netns exec p '])
      for (const [tool, calls] of [
        ['nft', nftCalls],
        ['ip', ipCalls],
      ] as const) {
        const command = `${where}${commandOf(release, tool).join(' ')}`;
        const script = calls
          .map(
            (call) =>
              `said=$(${command} ${call} 2>&1) || echo "${release} ${where}${tool} ${call}: exit $?: $(echo "$said" | head -c 300)"`,
          )
          .join('\n');
        // A release may not know a call and reports that; it must be able to read the objects.
        const lines = (await node.sh(script))
          .split('\n')
          .filter((line) => line !== '' && !/syntax error/.test(line));
        found.push(...lines);
      }
  return found;
}

for (const writer of releases)
  test(`tables written by nft of ${writer}: every available nft and ip lists them`, async () => {
    await node.sh(`mkdir -p /run/writer; cat >/run/writer/nft <<'EOF'
#!/bin/sh
exec ${commandOf(writer, 'nft').join(' ')} "$@"
EOF
      chmod +x /run/writer/nft
      /run/writer/nft delete table inet eniboot; /run/writer/nft delete table netdev eniboot`);
    const repaired = await node.eniboot(['repair'], {
      env: { PATH: '/run/writer:/usr/sbin:/usr/bin:/sbin:/bin' },
    });
    assert.is(repaired.exitCode, 0, repaired.stdout + repaired.stderr);
    const listed = await node.sh(`${commandOf(writer, 'nft').join(' ')} list ruleset`);
    for (const name of ['pool4', 'pool6', 'routed4', 'actions4', 'imds6', 'out_eni-', 'no_service'])
      assert.ok(listed.includes(name), name);
    assert.equal(await problems(), []);
  });

test.run();
