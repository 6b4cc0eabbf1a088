import { startCloud } from './index.ts';

const t0 = performance.now();
const cloud = await startCloud();
console.log('cloud', Math.round(performance.now() - t0));
const t1 = performance.now();
const i = await cloud.launch({ files: { '/etc/eniboot/config.yaml': 'x: 1\n' } });
console.log('launch', Math.round(performance.now() - t1), i.id, i.pid);
const show = async (cmd: string) => {
  const r = await i.run('sh', ['-c', cmd], { timeoutMs: 4000 });
  console.log('$', cmd, '\n', r.stdout, r.stderr, r.exitCode, Math.round(r.ms));
};
await show(
  'ip -br a; ip r; cat /etc/resolv.conf /etc/eniboot/config.yaml; hostname; cat /proc/sys/kernel/random/boot_id; ls /sys/class/net /usr/libexec/eniboot /run; ls -la /var; ps ax | head; echo hello > /dev/console',
);
await show('arping -c1 -w1 -I ens5 10.0.0.1; arping -D -c1 -w1 -I ens5 10.0.0.1');
await show(
  'curl -sS -m2 http://203.0.113.80/seen; T=$(curl -sS -m2 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" http://169.254.169.254/latest/api/token); echo $T; curl -sS -H "X-aws-ec2-metadata-token: $T" http://169.254.169.254/latest/meta-data/network/interfaces/macs/',
);
console.log(cloud.endpoints, i.consoleLog());
const {
  EC2Client,
  CreateNetworkInterfaceCommand,
  AttachNetworkInterfaceCommand,
  DescribeNetworkInterfacesCommand,
} = await import('@aws-sdk/client-ec2');
const c = new EC2Client({ region: 'eu-west-1', endpoint: cloud.endpoints.ec2, credentials: cloud.operator });
const s = [...cloud.subnets.values()][2]!;
const e = await c.send(
  new CreateNetworkInterfaceCommand({
    SubnetId: s.id,
    Ipv4PrefixCount: 2,
    TagSpecifications: [{ ResourceType: 'network-interface', Tags: [{ Key: 'a', Value: 'b & <c>' }] }],
  }),
);
console.log(e.NetworkInterface);
console.log(
  await c.send(
    new AttachNetworkInterfaceCommand({
      NetworkInterfaceId: e.NetworkInterface!.NetworkInterfaceId!,
      InstanceId: i.id,
      DeviceIndex: 1,
    }),
  ),
);
await new Promise((d) => setTimeout(d, 200));
await cloud.settled();
console.log(
  (
    await c.send(
      new DescribeNetworkInterfacesCommand({ Filters: [{ Name: 'attachment.instance-id', Values: [i.id] }] }),
    )
  ).NetworkInterfaces!.map((x) => [
    x.NetworkInterfaceId,
    x.Attachment?.Status,
    x.Attachment?.AttachTime,
    x.TagSet,
    x.Association?.PublicIp,
  ]),
);
await show(
  'ip -br l; ip a; ip link set ens6 up; arping -c1 -w1 -I ens6 -S 0.0.0.0 10.0.64.1 || arping -D -c1 -w1 -I ens6 10.0.64.1;',
);
await show('ip addr add 10.0.0.99/32 dev lo; curl -sS -m1 --interface 10.0.0.99 http://203.0.113.80/');
console.log(await cloud.network.spoofed(), await cloud.network.withoutPublic());
const t2 = performance.now();
await i.reboot();
console.log('reboot', performance.now() - t2);
await show('ip -br l; ls /run; cat /etc/eniboot/config.yaml; curl -sS -m2 http://203.0.113.80/');
console.log(
  cloud.calls.map((x) => [x.action, x.accepted, x.error]),
  cloud.leakReport(),
);
const t3 = performance.now();
await cloud.stop();
console.log('stop', performance.now() - t3);
