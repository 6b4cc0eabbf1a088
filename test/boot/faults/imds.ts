// Faults of the instance metadata service.

import { ok } from 'uvu/assert';
import type { ImdsFault } from '../../aws/faults.ts';
import type { Bench, Fault } from './fault.ts';
import { poolInEc2 } from './pool.ts';

const DEAD = { deadlineSeconds: 10 } as const;
const macsOf = (mac: string) => `/latest/meta-data/network/interfaces/macs/${mac}`;
/** A pod ENI that is attached at power-on, with the tag that eniboot sets. */
const podEni = { podEnis: [{ prefixes: 7, tags: { 'eniboot:role': 'pods' } }] };

function imds(rule: ImdsFault & { times?: number; skip?: number }): (bench: Bench) => void {
  return ({ cloud, instance }) => {
    cloud.faults.imds.add({ ...rule, instanceId: instance.id });
  };
}

function onPodEni(
  key: string,
  rule: (bench: Bench) => ImdsFault & { times?: number; skip?: number },
): (bench: Bench) => void {
  return (bench) =>
    imds({ ...rule(bench), path: `${macsOf(bench.instance.enis[1]?.mac ?? '')}${key}` })(bench);
}

export const imdsFaults: Fault[] = [
  {
    name: 'tokens that expire after 300 ms',
    alone: (cloud) => {
      const rule = cloud.faults.imds.add({ tokenLifeMs: 300 });
      return () => rule.remove();
    },
    expect: { verdict: 'ready' },
  },
  {
    name: 'IMDS lags 3 s behind EC2',
    alone: (cloud) => {
      const before = cloud.latency.imdsLagMs;
      cloud.latency.imdsLagMs = 3000;
      return () => {
        cloud.latency.imdsLagMs = before;
      };
    },
    expect: { verdict: 'ready' },
  },
  {
    name: '401 to every request',
    ...DEAD,
    arrange: imds({ status: 401 }),
    expect: { verdict: 'failed', code: 'IMDS_ERROR', phase: 'identify' },
  },
  {
    name: 'tokens with a line end as their last character',
    arrange: imds({ method: 'PUT', edit: (text) => `${text}\n` }),
    expect: { verdict: 'ready' },
  },
  {
    name: 'three malformed tokens',
    arrange: imds({ method: 'PUT', edit: () => 'no\u0000token', times: 3 }),
    expect: { verdict: 'ready' },
  },
  {
    name: '401 once: the token was revoked',
    arrange: imds({ status: 401, method: 'GET', times: 1, skip: 3 }),
    expect: { verdict: 'ready' },
  },
  {
    name: '403 to the token request: metadata is turned off',
    arrange: imds({ status: 403, method: 'PUT' }),
    expect: { verdict: 'failed', code: 'IMDS_FORBIDDEN', phase: 'identify', atOnce: true },
  },
  {
    name: '403 to every read',
    arrange: imds({ status: 403, method: 'GET' }),
    expect: { verdict: 'failed', code: 'IMDS_FORBIDDEN', phase: 'identify', atOnce: true },
  },
  {
    name: '404 to every read',
    ...DEAD,
    arrange: imds({ status: 404, method: 'GET' }),
    expect: { verdict: 'failed', code: 'IMDS_INCOMPLETE', phase: 'identify' },
  },
  {
    name: '404 to the token request',
    ...DEAD,
    arrange: imds({ status: 404, method: 'PUT' }),
    expect: { verdict: 'failed', code: 'IMDS_ERROR', phase: 'identify' },
  },
  {
    name: '500 to every request',
    ...DEAD,
    arrange: imds({ status: 500 }),
    expect: { verdict: 'failed', code: 'IMDS_ERROR', phase: 'identify' },
  },
  {
    name: '503 to every read',
    ...DEAD,
    arrange: imds({ status: 503, method: 'GET' }),
    expect: { verdict: 'failed', code: 'IMDS_ERROR', phase: 'identify' },
  },
  {
    name: '503 to the first twelve requests',
    arrange: imds({ status: 503, times: 12 }),
    expect: { verdict: 'ready' },
  },
  {
    name: 'no answer at all',
    ...DEAD,
    arrange: imds({ unanswered: true }),
    expect: { verdict: 'failed', code: 'IMDS_UNREACHABLE', phase: 'identify' },
  },
  {
    name: 'no answer to three requests',
    arrange: imds({ unanswered: true, times: 3, skip: 2 }),
    expect: { verdict: 'ready' },
  },
  {
    name: 'connections closed without an answer',
    ...DEAD,
    arrange: imds({ close: true }),
    expect: { verdict: 'failed', code: 'IMDS_UNREACHABLE', phase: 'identify' },
  },
  {
    name: 'every answer takes 600 ms',
    arrange: imds({ delayMs: 600 }),
    expect: { verdict: 'ready' },
  },
  {
    name: 'an empty list of interfaces',
    ...DEAD,
    arrange: imds({ path: /\/macs\/$/, edit: () => '' }),
    expect: { verdict: 'failed', code: 'IMDS_INCOMPLETE', phase: 'identify' },
  },
  {
    name: 'a list of interfaces without the pod ENI',
    launch: podEni,
    arrange: ({ cloud, instance }) => {
      cloud.faults.imds.add({
        instanceId: instance.id,
        path: /\/macs\/$/,
        edit: () => `${instance.bootEni.mac}/`,
      });
    },
    expect: { verdict: 'ready' },
    prove: ({ instance }) => ok(instance.enis.length === 2, 'no second pod ENI was made'),
  },
  {
    name: 'an empty list of VPC CIDRs',
    arrange: imds({ path: /vpc-ipv4-cidr-blocks$/, edit: () => '' }),
    expect: { verdict: 'ready' },
    prove: provesVpcCidrs,
  },
  {
    name: 'a list of VPC CIDRs without the secondary one',
    arrange: imds({ path: /vpc-ipv4-cidr-blocks$/, edit: (text) => text.split('\n')[0] ?? '' }),
    expect: { verdict: 'ready' },
    prove: provesVpcCidrs,
  },
  {
    name: "one pod ENI's subtree is 404 for a while",
    launch: podEni,
    arrange: onPodEni('/', () => ({ status: 404, times: 20 })),
    expect: { verdict: 'ready' },
  },
  {
    name: "one pod ENI's subtree stays 404",
    launch: podEni,
    deadlineSeconds: 14,
    arrange: onPodEni('/', () => ({ status: 404 })),
    expect: { verdict: 'failed', code: 'IMDS_DISAGREES', phase: 'verify', withinSeconds: 20 },
  },
  {
    name: 'device number 0 for a pod ENI, at first',
    launch: podEni,
    arrange: onPodEni('/device-number', () => ({ edit: () => '0', times: 2 })),
    expect: { verdict: 'ready' },
  },
  {
    name: 'device number 0 for a pod ENI, for good',
    launch: podEni,
    deadlineSeconds: 14,
    arrange: onPodEni('/device-number', () => ({ edit: () => '0' })),
    expect: { verdict: 'failed', code: 'IMDS_DISAGREES', phase: 'verify', withinSeconds: 20 },
  },
  {
    name: "a pod ENI's list of prefixes stays partial",
    launch: podEni,
    deadlineSeconds: 14,
    arrange: onPodEni('/ipv4-prefix', () => ({ edit: (text) => text.split('\n').slice(1).join('\n') })),
    expect: { verdict: 'failed', code: 'IMDS_DISAGREES', phase: 'verify', withinSeconds: 20 },
  },
  {
    name: 'addresses in another order, the primary one last',
    config: { pods: { addressing: 'addresses', max: 9 } },
    arrange: async (bench) => {
      const { cloud, instance } = bench;
      cloud.ec2.send('AssignPrivateIpAddresses', {
        NetworkInterfaceId: instance.bootEni.id,
        SecondaryPrivateIpAddressCount: 2,
      });
      await cloud.settled();
      imds({ path: /\/local-ipv4s$/, edit: (text) => text.split('\n').reverse().join('\n') })(bench);
    },
    expect: { verdict: 'ready' },
  },
  {
    name: 'the boot ENI is described without its ID',
    ...DEAD,
    arrange: ({ cloud, instance }) => {
      cloud.faults.imds.add({
        instanceId: instance.id,
        path: `${macsOf(instance.bootEni.mac)}/interface-id`,
        status: 404,
      });
    },
    expect: { verdict: 'failed', code: 'IMDS_INCOMPLETE', phase: 'identify' },
    prove: (_bench, { status }) => ok(status?.failure?.message.endsWith('has no interface-id')),
  },
  {
    name: 'the boot ENI has no IPv4 address: its subnet is IPv6 only',
    ...DEAD,
    arrange: ({ cloud, instance }) => {
      cloud.faults.imds.add({
        instanceId: instance.id,
        path: /(local-ipv4s|subnet-ipv4-cidr-block)$/,
        status: 404,
      });
    },
    expect: { verdict: 'failed', code: 'IMDS_INCOMPLETE', phase: 'identify' },
    prove: (_bench, { status }) =>
      ok(status?.failure?.message.endsWith('has no subnet-ipv4-cidr-block, local-ipv4s')),
  },
  {
    name: 'the boot ENI has device number 1',
    ...DEAD,
    arrange: ({ cloud, instance }) => {
      cloud.faults.imds.add({
        instanceId: instance.id,
        path: `${macsOf(instance.bootEni.mac)}/device-number`,
        edit: () => '1',
      });
    },
    expect: { verdict: 'failed', code: 'BOOT_ENI_NOT_PRIMARY', phase: 'identify' },
  },
  {
    name: 'the machine has no device for the boot ENI',
    ...DEAD,
    launch: podEni,
    arrange: async (bench) => {
      const pod = bench.instance.enis[1];
      const device = bench.instance.deviceOf(pod?.id ?? '') ?? '';
      await bench.instance.run('ip', ['link', 'delete', device]);
      imds({ path: '/latest/meta-data/mac', edit: () => pod?.mac ?? '' })(bench);
      onPodEni('/device-number', () => ({ edit: () => '0' }))(bench);
    },
    expect: { verdict: 'failed', code: 'BOOT_ENI_NO_DEVICE', phase: 'identify' },
  },
  {
    name: 'answers cut short, three times',
    arrange: imds({ path: '/latest/dynamic/', truncate: 40, times: 3 }),
    expect: { verdict: 'ready' },
  },
  {
    name: 'answers cut short, always',
    ...DEAD,
    arrange: imds({ path: '/latest/dynamic/', truncate: 40 }),
    expect: { verdict: 'failed', code: 'IMDS_UNREACHABLE', phase: 'identify' },
  },
  {
    name: 'an identity document that is not JSON',
    ...DEAD,
    arrange: imds({ path: '/latest/dynamic/', edit: () => '<html>captive portal</html>' }),
    expect: { verdict: 'failed', code: 'IMDS_ERROR', phase: 'identify' },
  },
  {
    name: 'an identity document without the region',
    ...DEAD,
    arrange: imds({ path: '/latest/dynamic/', edit: (text) => text.replace('"region"', '"regoin"') }),
    expect: { verdict: 'failed', code: 'IMDS_INCOMPLETE', phase: 'identify' },
  },
  {
    name: 'user data that cannot be read',
    ...DEAD,
    arrange: imds({ path: '/latest/user-data', status: 500 }),
    expect: { verdict: 'failed', code: 'IMDS_ERROR', phase: 'identify' },
  },
];

/** Asserts that every CIDR of the VPC is routed without source NAT: pods keep their addresses on the way to it. */
async function provesVpcCidrs({ cloud, instance }: Bench): Promise<void> {
  const { stdout } = await instance.run('nft', ['list', 'map', 'inet', 'eniboot', 'actions4']);
  for (const cidr of cloud.vpc.cidrs) {
    const first = cidr.split('/')[0] ?? '';
    ok(stdout.includes(first), `${cidr} is in the table: ${stdout}`);
  }
  ok(poolInEc2(instance).addresses.length > 0);
}
