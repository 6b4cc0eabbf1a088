// Faults of IPv6 beside IPv4: of subnets, of the ENIs' prefixes, of IMDS and of the machine.
import { is, ok } from 'uvu/assert';
import { POD_ROLE, ROLE_TAG } from '../../../agent/aws/tags.ts';
import type { ImdsFault } from '../../aws/faults.ts';
import type { Cloud, CloudOptions } from '../../aws/index.ts';
import type { Bench, Fault } from './fault.ts';
import { HINDERED, kernelThat } from './stand-in.ts';

const zone = 'eu-west-1a';

export const dualStackCloudOptions: CloudOptions = {
  ipv6: true,
  subnets: [
    {
      cidr: '10.0.0.0/24',
      ipv6Cidr: '2001:db8:1234:1a00::/64',
      assignIpv6: true,
      zone,
      tags: { Name: 'nodes' },
      mapPublicIp: true,
    },
    { cidr: '10.0.64.0/20', ipv6Cidr: '2001:db8:1234:1a02::/64', zone, tags: { eniboot: 'pods' } },
    { cidr: '10.0.80.0/20', zone, tags: { eniboot: 'ipv4', mixed: 'yes' } },
    { cidr: '10.0.112.0/24', ipv6Cidr: '2001:db8:1234:1a03::/64', zone, tags: { mixed: 'yes' } },
  ],
};

const DUAL_STACK = { pods: { ipFamily: 'dual-stack' } };
const withoutPrefix = { podEnis: [{ prefixes: 7, tags: { [ROLE_TAG]: POD_ROLE } }] };
const withPrefix = { podEnis: [{ prefixes: 7, ipv6Prefixes: 1, tags: { [ROLE_TAG]: POD_ROLE } }] };

function accepted({ cloud, instance }: Bench, action: string): number {
  return cloud.calls.filter(
    (call) => call.instanceId === instance.id && call.accepted && call.action === action,
  ).length;
}

/** Asserts one pod ENI with one prefix, after no more calls than needed. */
function provesOnePrefix(assigned: number): (bench: Bench) => void {
  return (bench) => {
    is(bench.instance.enis.length, 2, 'one pod ENI');
    is(bench.instance.enis[1]?.ipv6Prefixes.length, 1, 'one prefix');
    is(accepted(bench, 'AssignIpv6Addresses'), assigned);
  };
}

function onEc2(rule: Parameters<Cloud['faults']['ec2']['add']>[0]): (bench: Bench) => void {
  return ({ cloud, instance }) => {
    cloud.faults.ec2.add({ ...rule, instanceId: instance.id });
  };
}

function prefixInImds(rule: Partial<ImdsFault> & { times?: number }): (bench: Bench) => void {
  return ({ cloud, instance }) => {
    cloud.faults.imds.add({ ...rule, instanceId: instance.id, path: /ipv6-prefix$/ });
  };
}

export const dualStackFaults: Fault[] = [
  {
    name: 'dual stack from nothing: the prefix is asked for in the create call',
    config: DUAL_STACK,
    expect: { verdict: 'ready' },
    prove: (bench) => {
      provesOnePrefix(0)(bench);
      const mutating = bench.cloud.calls.filter(
        (call) => call.instanceId === bench.instance.id && call.accepted && call.mutating,
      );
      // Create, attach, delete-on-termination, and the tag with the verdict.
      is(mutating.length, 4, mutating.map((call) => call.action).join());
    },
  },
  {
    name: 'a pod ENI in place without a prefix gets one',
    config: DUAL_STACK,
    launch: withoutPrefix,
    expect: { verdict: 'ready' },
    prove: provesOnePrefix(1),
  },
  {
    name: 'a pod ENI in place with a prefix keeps it',
    config: DUAL_STACK,
    launch: withPrefix,
    expect: { verdict: 'ready' },
    prove: provesOnePrefix(0),
  },
  {
    name: 'AssignIpv6Addresses is carried out and its answer lost',
    config: DUAL_STACK,
    launch: withoutPrefix,
    arrange: onEc2({ action: 'AssignIpv6Addresses', lost: 'close', times: 1 }),
    expect: { verdict: 'ready' },
    prove: provesOnePrefix(1),
  },
  {
    name: 'AssignIpv6Addresses is denied',
    config: DUAL_STACK,
    launch: withoutPrefix,
    arrange: onEc2({ action: 'AssignIpv6Addresses', error: 'UnauthorizedOperation' }),
    expect: { verdict: 'failed', code: 'EC2_DENIED', phase: 'attach', atOnce: true },
  },
  {
    name: 'no pod subnet has an IPv6 CIDR',
    config: { pods: { ipFamily: 'dual-stack', subnets: { tags: { eniboot: 'ipv4' } } } },
    expect: { verdict: 'failed', code: 'SUBNET_NO_IPV6', phase: 'attach', atOnce: true },
    prove: (bench) => is(accepted(bench, 'CreateNetworkInterface'), 0),
  },
  {
    name: 'the emptier of two pod subnets has no IPv6 CIDR',
    config: { pods: { ipFamily: 'dual-stack', subnets: { tags: { mixed: 'yes' } } } },
    expect: { verdict: 'ready' },
    prove: provesOnePrefix(0),
  },
  {
    name: 'a pod ENI is in a subnet without an IPv6 CIDR',
    config: DUAL_STACK,
    arrange: async ({ cloud, instance }) => {
      const subnet = [...cloud.subnets.values()].find((one) => one.tags.get('eniboot') === 'ipv4');
      const made = cloud.ec2.send('CreateNetworkInterface', {
        SubnetId: subnet?.id,
        Ipv4PrefixCount: 7,
        TagSpecifications: [
          { ResourceType: 'network-interface', Tags: [{ Key: ROLE_TAG, Value: POD_ROLE }] },
        ],
      }) as { NetworkInterface: { NetworkInterfaceId: string } };
      cloud.ec2.send('AttachNetworkInterface', {
        NetworkInterfaceId: made.NetworkInterface.NetworkInterfaceId,
        InstanceId: instance.id,
        DeviceIndex: 1,
      });
      await cloud.settled();
    },
    expect: { verdict: 'failed', code: 'SUBNET_NO_IPV6', phase: 'attach', atOnce: true },
  },
  {
    name: 'IMDS shows the prefix later than EC2',
    config: DUAL_STACK,
    arrange: prefixInImds({ status: 404, times: 5 }),
    expect: { verdict: 'ready' },
    prove: provesOnePrefix(0),
  },
  {
    name: 'IMDS writes prefix and address with all their zeros, in capitals',
    config: DUAL_STACK,
    arrange: (bench) => {
      const long = (text: string) =>
        text.replace(/[0-9a-f:]*::[0-9a-f:]*/g, (short) => {
          const [left = '', right = ''] = short.split('::');
          const groups = (half: string) => (half === '' ? [] : half.split(':'));
          const zeros = 8 - groups(left).length - groups(right).length;
          return [...groups(left), ...Array<string>(zeros).fill('0000'), ...groups(right)]
            .map((group) => group.padStart(4, '0').toUpperCase())
            .join(':');
        });
      prefixInImds({ edit: long })(bench);
      bench.cloud.faults.imds.add({ instanceId: bench.instance.id, path: /ipv6s$/, edit: long });
    },
    expect: { verdict: 'ready' },
    prove: provesOnePrefix(0),
  },
  {
    name: 'a pod ENI present at power-on has taken an IPv6 default route from an advertisement',
    config: DUAL_STACK,
    launch: withPrefix,
    arrange: async ({ instance }) => {
      const device = instance.deviceOf(instance.enis[1]?.id ?? '') ?? '';
      const lines = `link set ${device} up\nroute add default via fe80::1 dev ${device} metric 200 proto ra\n`;
      const made = await instance.run('ip', ['-6', '-batch', '-'], { input: lines });
      is(made.exitCode, 0, made.stderr);
    },
    expect: { verdict: 'ready' },
    async prove({ instance }) {
      const device = instance.deviceOf(instance.enis[1]?.id ?? '') ?? '';
      const { stdout } = await instance.run('ip', ['-6', 'route', 'show', 'dev', device]);
      is(stdout.trim(), '', "the node's default route is on its own ENI");
    },
  },
  {
    name: 'the boot ENI has two IPv6 addresses, and DHCPv6 gave the second',
    config: DUAL_STACK,
    arrange: ({ cloud, instance }) => {
      cloud.faults.imds.add({
        instanceId: instance.id,
        path: /ipv6s$/,
        edit: (text) => `2001:db8:ffff::1\n${text}`,
      });
    },
    expect: { verdict: 'ready' },
    async prove({ node, instance }) {
      const given = instance.bootEni.ipv6Addresses[0] ?? '';
      ok(instance.read('/run/eniboot/kubelet.env')?.includes(`,${given} `), 'kubelet gets the only address');
      is((await node.eniboot(['repair'])).stdout, 'nothing to repair\n');
    },
  },
  {
    name: 'IMDS shows another prefix than EC2',
    config: DUAL_STACK,
    deadlineSeconds: 25,
    launch: withPrefix,
    arrange: prefixInImds({ edit: () => '2001:db8:9:9:9::/80' }),
    expect: { verdict: 'failed', code: 'IMDS_DISAGREES', phase: 'verify', withinSeconds: 35 },
  },
  {
    name: 'EC2 is silent and the pod ENI has no prefix',
    config: DUAL_STACK,
    deadlineSeconds: 20,
    launch: withoutPrefix,
    arrange: onEc2({ action: '*', unanswered: true }),
    expect: { verdict: 'failed', code: 'NO_IPV6_PREFIX', phase: 'attach', withinSeconds: 30 },
  },
  {
    name: 'EC2 is silent and the pod ENI has its prefix',
    config: DUAL_STACK,
    deadlineSeconds: 20,
    launch: withPrefix,
    arrange: onEc2({ action: '*', unanswered: true }),
    expect: { verdict: 'degraded', withinSeconds: 20 },
  },
  {
    name: 'IPv6 is configured for an instance type without prefixes',
    config: DUAL_STACK,
    launch: { type: 't2.medium' },
    expect: { verdict: 'failed', code: 'PREFIXES_UNSUPPORTED', phase: 'identify', atOnce: true },
  },
  {
    name: 'the boot ENI has no IPv6 address',
    config: DUAL_STACK,
    arrange: ({ cloud, instance }) => {
      instance.bootEni.ipv6Addresses = [];
      cloud.ec2.world.emit({ kind: 'addresses', eni: instance.bootEni });
    },
    expect: { verdict: 'ready' },
    prove: ({ instance }, { status }) => {
      const check = status?.phases[0]?.checks.find((one) => one.id === 'boot-eni-ipv6');
      is(check?.result, 'warn', JSON.stringify(check));
      ok(!/--node-ip=\S+,/.test(instance.read('/run/eniboot/kubelet.env') ?? ''), 'one node IP');
    },
  },
  {
    name: 'the boot ENI does not carry its IPv6 address',
    config: DUAL_STACK,
    deadlineSeconds: 10,
    arrange: ({ instance }) => {
      instance.bootEni.ipv6Addresses = ['2001:db8:1234:1a00::abcd'];
    },
    expect: { verdict: 'failed', code: 'BOOT_ENI_NO_ADDRESS', phase: 'identify', withinSeconds: 20 },
  },
  {
    name: 'a kernel without IPv6',
    config: DUAL_STACK,
    arrange: ({ instance }) => instance.run('mount', ['-t', 'tmpfs', 'tmpfs', '/proc/sys/net/ipv6']),
    expect: { verdict: 'failed', code: 'IPV6_UNAVAILABLE', phase: 'identify', atOnce: true },
  },
  {
    name: 'a kernel without routes by source address',
    config: DUAL_STACK,
    launch: HINDERED,
    arrange: kernelThat('/128 table 140', '22 Invalid source address'),
    expect: { verdict: 'failed', code: 'IPV6_UNAVAILABLE', phase: 'egress', atOnce: true },
  },
];
