// time limit: 300 s
// A pod with NET_ADMIN cannot keep its guard off by what it does in its own namespace: repair recognises the pod whatever it has
// made of its links, asks for eniboot's tables alone, and makes the guard again where a look is interrupted each time.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, kernelHasIpvlan, type PodNode, variablesOf } from './rig.ts';

let cloud: Cloud;
let node: PodNode;

test.before(async () => {
  cloud = await startCloud();
  node = await bootPodNode(cloud, { config: configText(cloud, 'pool: { target: 16 }\n') });
  await node.addPod('evil', { CNI_ARGS: 'K8S_POD_NAMESPACE=default;K8S_POD_NAME=evil' });
  await node.sh('touch -d "1 minute ago" /run/eniboot/pool/leased/*');
});
test.after(() => cloud.stop());

async function repaired(): Promise<string> {
  await node.sh(
    'ip netns exec evil nft "flush chain netdev eniboot own_source; add rule netdev eniboot own_source accept"',
  );
  const { exitCode, stdout, stderr } = await node.tool(['repair']);
  assert.is(exitCode, 0, stdout + stderr);
  assert.match(stdout, 'pod default/evil: it lacks the guard of eth0: put back');
  return stdout;
}

test('a veth that is in another group, has another MAC, is down or has another name', async () => {
  for (const change of ['group 7', 'address 02:00:00:00:00:07', 'down', 'name other']) {
    await node.sh(`ip -n evil link set veth0 ${change}`);
    await repaired();
  }
  await node.sh('ip -n evil link set other name veth0; ip -n evil link set veth0 up');
});

test('a device with so many alternative names that its message has 64 KiB', async () => {
  await node.sh(`i=0; while [ $i -lt 490 ]; do printf 'link property add dev veth0 altname a%0126d\\n' $i; i=$((i+1)); done |
    ip -n evil -batch -`);
  await repaired();
});

test('tables of the pod that change all the time', async () => {
  await node.sh(`awk 'BEGIN { print "table netdev own {\\n chain c {"; for (i = 0; i < 20000; i++) print "accept"; print "}\\n}" }' |
      ip netns exec evil nft -f -
    printf '%s\\n' 'while :; do echo "add table netdev x"; echo "delete table netdev x"; done | exec nft -i' >/run/churn
    for n in 1 2; do setsid ip netns exec evil sh /run/churn </dev/null >/dev/null 2>&1 & done; sleep 1`);
  try {
    await repaired();
  } finally {
    await node.sh('ip netns pids evil | xargs -r kill -9');
  }
});

test('a device that the pod has made on the boot ENI is named and removed', async () => {
  const boot = node.instance.deviceOf(node.instance.bootEni.id);
  const type = kernelHasIpvlan() ? 'ipvlan mode l2' : 'macvlan mode bridge';
  await node.sh(
    `ip -n evil link add link if$(cat /sys/class/net/${boot}/ifindex) name own0 link-netnsid 0 type ${type}`,
  );
  assert.match(
    (await node.tool(['repair'])).stdout,
    /pod default\/evil: its own0 is an? \w+ on the boot ENI: put back/,
  );
  assert.is((await node.inPod('evil', 'ip', ['link', 'show', 'own0'])).exitCode, 1);
});

test('DEL removes more routes than a sequence number of 16 bits counts', async () => {
  await node.sh(`awk 'BEGIN { for (i = 0; i < 70000; i++) printf "route add unreachable 30.%d.%d.%d/32 proto 140\\n", i / 65536, (i / 256) % 256, i % 256 }' |
    ip -n evil -batch -`);
  const { exit, stdout } = await node.cni('DEL', variablesOf('evil', '/run/netns/evil'));
  assert.is(exit, 0, stdout);
});

test.run();
