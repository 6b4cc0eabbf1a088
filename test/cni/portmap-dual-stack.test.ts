// time limit: 240 s
// hostPort over IPv6 through the reference portmap after eniboot in the chain, called by the real libcni.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, type PodNode } from './rig.ts';
import { cnitool as callCnitool, withTools } from './with-tools.ts';

let cloud: Cloud;
let node: PodNode;
let other: PodNode;

test.before(async () => {
  cloud = await startCloud({ ipv6: true });
  const config = configText(cloud, '', { ipFamily: 'dual-stack' });
  node = await bootPodNode(cloud, { config });
  other = await bootPodNode(cloud, { config });
});
test.after(() => cloud.stop());

const PORT = `CAP_ARGS='{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}'`;

const cnitool = (command: string, network: string, pod: string) =>
  callCnitool(node, command, network, `/run/netns/${pod}`, PORT);

for (const backend of ['iptables', 'nftables']) {
  withTools(
    `portmap (${backend}): the pod sees the client's address, and no packet takes a wrong way`,
    async () => {
      const plugins = [
        { type: 'eniboot' },
        { type: 'portmap', capabilities: { portMappings: true }, backend },
      ];
      const list = { cniVersion: '1.0.0', name: 'ported', plugins };
      node.instance.write('/etc/cni/net.d/ported.conflist', JSON.stringify(list));
      await node.sh('ip netns add server; ip netns add client');
      await cnitool('add', 'ported', 'server');
      await node.serve('server');
      const client = JSON.parse(await cnitool('add', 'eniboot', 'client')) as { ips: { address: string }[] };
      const address = client.ips.map((ip) => ip.address.split('/')[0]).find((one) => one?.includes(':'));
      const [host = ''] = node.instance.bootEni.ipv6Addresses;
      const url = `http://[${host}]:8080/`;
      assert.is(await other.fetch('', url), other.instance.bootEni.ipv6Addresses[0], 'from another node');
      assert.is(await node.fetch('client', url), address, 'from a pod of the node');
      await cnitool('del', 'eniboot', 'client');
      await cnitool('del', 'ported', 'server');
      assert.equal(await node.leftovers(), []);
      await node.sh('kill $(ip netns pids server); ip netns del server; ip netns del client');
      await cloud.settled();
      assert.equal(await cloud.network.spoofed(), []);
      assert.equal(await cloud.network.undelivered(), []);
    },
  );
}

test.run();
