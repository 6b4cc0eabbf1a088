// Faults of the EC2 API, of the account's resources, and of the instance in it.
import { equal, is, match, ok } from 'uvu/assert';
import { CREATED_TAG, INSTANCE_TAG, POD_ROLE, ROLE_TAG, VERDICT_TAG } from '../../../agent/aws/tags.ts';
import { rangeOf, toAddress } from '../../../agent/host/ipv4.ts';
import type { AttachmentFault, Ec2Fault } from '../../aws/faults.ts';
import type { Cloud, CloudOptions, Instance } from '../../aws/index.ts';
import type { Bench, Fault, Outcome } from './fault.ts';

const zone = 'eu-west-1a';

/** Small or full pod subnets of one zone; the node of a fault selects one of them by its tag. */
export const ec2CloudOptions: CloudOptions = {
  subnets: [
    { cidr: '10.0.0.0/24', zone, tags: { Name: 'nodes-a' }, mapPublicIp: true },
    { cidr: '10.0.1.0/24', zone: 'eu-west-1b', tags: { Name: 'nodes-b' }, mapPublicIp: true },
    // Large enough for all nodes of the matrix at once: they keep their prefixes to the end.
    { cidr: '10.0.64.0/18', zone, tags: { eniboot: 'pods' } },
    { cidr: '10.0.144.0/20', zone: 'eu-west-1b', tags: { eniboot: 'pods-b' } },
    { cidr: '10.0.128.0/23', zone, tags: { eniboot: 'next', taken: 'some' } },
    { cidr: '10.0.132.0/24', zone, tags: { eniboot: 'next' } },
    { cidr: '10.0.130.0/28', zone, tags: { eniboot: 'full', taken: 'all' } },
    { cidr: '10.0.130.16/28', zone, tags: { eniboot: 'full', taken: 'all' } },
    { cidr: '10.0.131.0/24', zone, tags: { eniboot: 'fragmented', taken: 'some' } },
    { cidr: '10.0.134.0/24', zone, tags: { eniboot: 'fragmented-later', taken: 'later' } },
    // Each has room for two prefixes: EC2 reserves addresses in the first and in the last block.
    { cidr: '10.0.133.0/26', zone, tags: { eniboot: 'two' } },
    { cidr: '10.0.133.64/26', zone, tags: { eniboot: 'two-auto' } },
  ],
};

const DEAD = { deadlineSeconds: 10 } as const;
const podEni = { podEnis: [{ prefixes: 7, tags: { [ROLE_TAG]: POD_ROLE } }] };
const smallPodEni = { podEnis: [{ prefixes: 1, tags: { [ROLE_TAG]: POD_ROLE } }] };

type Rule = Ec2Fault & { times?: number; skip?: number };

function ec2(...rules: Rule[]): (bench: Bench) => void {
  return ({ cloud, instance }) => {
    for (const rule of rules) cloud.faults.ec2.add({ ...rule, instanceId: instance.id });
  };
}

function onAttach(rule: AttachmentFault): (bench: Bench) => void {
  return ({ cloud, instance }) => {
    cloud.faults.attach.add({ ...rule, instanceId: instance.id, times: 1 });
  };
}

function accepted({ cloud, instance }: Bench, action?: string): number {
  return cloud.calls.filter(
    (call) =>
      call.instanceId === instance.id &&
      call.accepted &&
      call.mutating &&
      (action === undefined || call.action === action),
  ).length;
}

/** Asserts one pod ENI with delete-on-termination. */
function provesOnePodEni(bench: Bench): void {
  is(bench.instance.enis.length, 2, 'one pod ENI');
  ok(bench.instance.enis[1]?.attachment?.deleteOnTermination, 'delete-on-termination');
}

function untagged({ instance }: Bench, { status }: Outcome): void {
  const said = instance.consoleLog().match(/^eniboot: .*$/gm);
  is(said?.length, 1, `one line on the console: ${said?.join(' / ')}`);
  match(said?.[0] ?? '', / READY DEGRADED /);
  match(status?.degraded.at(-1) ?? '', /^VERDICT_NOT_TAGGED: .*Tags.*Let the role tag its own instance/);
  ok(instance.read('/run/eniboot/status.json')?.includes('VERDICT_NOT_TAGGED'), 'in the file as well');
  is(instance.record.tags.has(VERDICT_TAG), false);
}

function denied(action: string, more: Partial<Fault> = {}): Fault {
  return {
    name: `UnauthorizedOperation for ${action}`,
    arrange: ec2({ action, error: 'UnauthorizedOperation' }),
    expect: { verdict: 'failed', code: 'EC2_DENIED', atOnce: true },
    prove: ({ instance }: Bench, { status }: Outcome) => {
      ok(status?.failure?.message.includes(action), `the message names ${action}`);
      is(instance.record.tags.get('eniboot:verdict')?.split('@')[0], 'failed:EC2_DENIED');
    },
    ...more,
  };
}

/** Answers of describes that do not show a new attachment yet: by instance the ENI is missing, by ID it is available. */
const withoutSecondAttachment = ((answer: {
  NetworkInterfaces?: { Attachment?: { DeviceIndex?: number }; Status?: string }[];
}) => {
  const all = answer.NetworkInterfaces ?? [];
  const lagging = all.filter((eni) => eni.Attachment?.DeviceIndex === 1);
  return {
    ...answer,
    NetworkInterfaces:
      all.length > 1
        ? all.filter((eni) => !lagging.includes(eni))
        : all.map((eni) =>
            lagging.includes(eni) ? { ...eni, Attachment: undefined, Status: 'available' } : eni,
          ),
  };
}) as never;

const mutatingCalls = [
  'CreateNetworkInterface',
  'AttachNetworkInterface',
  'ModifyNetworkInterfaceAttribute',
  'CreateTags',
];

export const ec2Faults: Fault[] = [
  {
    name: 'describe calls lag 2 s behind',
    alone: (cloud) => {
      const before = cloud.latency.describeLagMs;
      cloud.latency.describeLagMs = 2000;
      return () => {
        cloud.latency.describeLagMs = before;
      };
    },
    expect: { verdict: 'ready' },
    prove: provesOnePodEni,
  },
  {
    name: 'no call knows an ENI in its first 2 s, not even by its ID',
    alone: (cloud) => {
      const before = { ...cloud.latency };
      Object.assign(cloud.latency, { describeLagMs: 2000, idLagMs: 2000 });
      return () => Object.assign(cloud.latency, { idLagMs: 0 }, before);
    },
    expect: { verdict: 'ready' },
    prove: (bench) => {
      provesOnePodEni(bench);
      is(accepted(bench, 'CreateNetworkInterface'), 1, 'no second ENI is made meanwhile');
    },
  },
  {
    name: 'no call knows an ENI that was made, until the deadline',
    ...DEAD,
    alone: (cloud) => {
      cloud.latency.idLagMs = 60_000;
      return () => {
        cloud.latency.idLagMs = 0;
      };
    },
    expect: {
      verdict: 'failed',
      code: 'EC2_INCONSISTENT',
      phase: 'attach',
      withinSeconds: 20,
      leftBehind: 1,
    },
    prove: ({ cloud, instance }, { status }) => {
      const id = cloud.leakReport().find((leak) => leak.tags[INSTANCE_TAG] === instance.id)?.id;
      equal(status?.failure?.facts['leftBehind'], [id], 'the verdict names the ENI');
    },
  },
  {
    name: 'InvalidAttachmentID.NotFound to the first two settings of delete-on-termination',
    arrange: ec2({
      action: 'ModifyNetworkInterfaceAttribute',
      error: 'InvalidAttachmentID.NotFound',
      times: 2,
    }),
    expect: { verdict: 'ready' },
    prove: provesOnePodEni,
  },
  ...['InternalError', 'Unavailable', 'ServiceUnavailable', 'RequestExpired', 'AuthFailure'].map(
    (error): Fault => ({
      name: `${error} to the first three calls`,
      arrange: ec2({ action: '*', error, times: 3 }),
      expect: { verdict: 'ready' },
      prove: provesOnePodEni,
    }),
  ),
  {
    name: 'RequestLimitExceeded to the first four calls',
    arrange: ec2({ action: '*', error: 'RequestLimitExceeded', times: 4 }),
    expect: { verdict: 'ready' },
    prove: provesOnePodEni,
  },
  {
    name: '429 to the first four calls',
    arrange: ec2({ action: '*', error: 'TooManyRequestsException', status: 429, times: 4 }),
    expect: { verdict: 'ready' },
    prove: provesOnePodEni,
  },
  {
    name: 'throttled until the deadline: the deadline is extended, up to its limit',
    ...DEAD,
    config: { boot: { deadlineSeconds: 10, throttleExtensionSeconds: 4 } },
    launch: { publicIp: true },
    arrange: ec2({ action: 'DescribeNetworkInterfaces', error: 'RequestLimitExceeded' }),
    expect: { verdict: 'failed', code: 'EC2_THROTTLED', phase: 'attach', withinSeconds: 22 },
    prove: (_bench, { seconds }) => ok(seconds > 5, `ended after ${seconds} s`),
  },
  {
    name: 'throttled, with ENIs in place',
    ...DEAD,
    launch: podEni,
    arrange: ec2({ action: '*', error: 'RequestLimitExceeded' }),
    expect: { verdict: 'degraded', withinSeconds: 20 },
  },
  ...['DescribeVpcs', 'DescribeNetworkInterfaces', 'DescribeSubnets', 'CreateNetworkInterface'].map(
    (action) => denied(action),
  ),
  denied('AttachNetworkInterface', {
    // The ENI that was created and cannot be attached is deleted.
    prove: (bench) => is(accepted(bench, 'DeleteNetworkInterface'), 1),
  }),
  denied('ModifyNetworkInterfaceAttribute', {
    expect: { verdict: 'failed', code: 'EC2_DENIED', atOnce: true, outlive: 1 },
  }),
  denied('DescribeSecurityGroups', {
    config: { pods: { securityGroups: { tags: { role: 'pods' } } } },
  }),
  denied('AssignPrivateIpAddresses', { launch: smallPodEni }),
  {
    name: 'UnauthorizedOperation for AttachNetworkInterface and DeleteNetworkInterface',
    arrange: ec2(
      { action: 'AttachNetworkInterface', error: 'UnauthorizedOperation' },
      { action: 'DeleteNetworkInterface', error: 'UnauthorizedOperation' },
    ),
    expect: { verdict: 'failed', code: 'EC2_DENIED', phase: 'attach', atOnce: true, leftBehind: 1 },
    prove: ({ cloud, instance }, { status }) => {
      const left = status?.failure?.facts['leftBehind'];
      const id = cloud.leakReport().find((leak) => leak.tags[INSTANCE_TAG] === instance.id)?.id;
      is(JSON.stringify(left), JSON.stringify([id]), 'the verdict names the ENI');
    },
  },
  {
    name: 'UnauthorizedOperation for CreateTags: the node is READY without a tag',
    arrange: ec2({ action: 'CreateTags', error: 'UnauthorizedOperation' }),
    expect: { verdict: 'degraded' },
    prove: untagged,
  },
  {
    name: 'UnauthorizedOperation for DescribeTags: the node is READY without a tag',
    arrange: ec2({ action: 'DescribeTags', error: 'UnauthorizedOperation' }),
    expect: { verdict: 'degraded' },
    prove: untagged,
  },
  {
    name: 'an instance with 50 tags, the most it may have: the node is READY without a tag',
    launch: { tags: Object.fromEntries(Array.from({ length: 49 }, (_, at) => [`tag-${at}`, 'x'])) },
    expect: { verdict: 'degraded' },
    prove: untagged,
  },
  {
    name: "an instance whose tags IMDS shows: EC2 accepts the key of the verdict's tag",
    launch: { imds: { tagsInMetadata: true } },
    expect: { verdict: 'ready' },
    prove: ({ instance }) => match(instance.record.tags.get(VERDICT_TAG) ?? '', /^ready@/),
  },
  {
    name: 'AuthFailure to every call',
    ...DEAD,
    arrange: ec2({ action: '*', error: 'AuthFailure' }),
    expect: { verdict: 'failed', code: 'EC2_AUTH', phase: 'attach' },
  },
  {
    name: 'AuthFailure to every call, with ENIs in place',
    ...DEAD,
    launch: podEni,
    arrange: ec2({ action: '*', error: 'AuthFailure' }),
    expect: { verdict: 'degraded', withinSeconds: 20 },
  },
  ...mutatingCalls.map(
    (action): Fault => ({
      name: `${action} is carried out and its answer lost`,
      arrange: ec2({ action, lost: 'close', times: 1 }),
      expect: { verdict: 'ready' },
      prove: provesOnePodEni,
    }),
  ),
  {
    name: 'AttachNetworkInterface is carried out, its answer is lost, and describes do not show the attachment yet',
    arrange: ec2(
      { action: 'AttachNetworkInterface', lost: 'close', times: 1 },
      { action: 'DescribeNetworkInterfaces', skip: 2, times: 4, edit: withoutSecondAttachment },
    ),
    expect: { verdict: 'ready' },
    prove: provesOnePodEni,
  },
  ...['IncorrectState', 'IncorrectInstanceState'].map(
    (error): Fault => ({
      name: `${error} to three attachments: for EC2 the instance is not running yet`,
      arrange: ec2({ action: 'AttachNetworkInterface', error, times: 3 }),
      expect: { verdict: 'ready' },
      prove: provesOnePodEni,
    }),
  ),
  {
    name: 'IncorrectInstanceState to every attachment',
    ...DEAD,
    arrange: ec2({ action: 'AttachNetworkInterface', error: 'IncorrectInstanceState' }),
    expect: { verdict: 'failed', code: 'EC2_INCONSISTENT', phase: 'attach', withinSeconds: 20 },
    prove: (bench) => is(accepted(bench, 'DeleteNetworkInterface'), 1, 'the created ENI is deleted'),
  },
  {
    name: 'AssignPrivateIpAddresses is carried out and its answer lost',
    launch: smallPodEni,
    arrange: ec2({ action: 'AssignPrivateIpAddresses', lost: 'close', times: 1 }),
    expect: { verdict: 'ready' },
    prove: (bench) => {
      provesOnePodEni(bench);
      is(bench.instance.enis[1]?.prefixes.length, 7, 'no more prefixes than asked for');
    },
  },
  {
    name: 'CreateNetworkInterface is carried out and never answers',
    arrange: ec2({ action: 'CreateNetworkInterface', lost: 'hang', times: 1 }),
    expect: { verdict: 'ready' },
    prove: provesOnePodEni,
  },
  {
    name: 'CreateNetworkInterface is carried out each time and every answer lost',
    ...DEAD,
    arrange: ec2({ action: 'CreateNetworkInterface', lost: 'close' }),
    expect: { verdict: 'failed', code: 'EC2_UNAVAILABLE', phase: 'attach', withinSeconds: 20 },
    prove: (bench) =>
      is(accepted(bench, 'DeleteNetworkInterface'), 1, 'the ENI is found by its tags and deleted'),
  },
  {
    name: 'every call unanswered, nothing in place',
    ...DEAD,
    arrange: ec2({ action: '*', unanswered: true }),
    expect: { verdict: 'failed', code: 'EC2_UNAVAILABLE', phase: 'attach', withinSeconds: 20 },
  },
  {
    name: 'every call unanswered, with ENIs in place',
    deadlineSeconds: 20,
    launch: podEni,
    arrange: ec2({ action: '*', unanswered: true }),
    expect: { verdict: 'degraded', withinSeconds: 20 },
    prove: ({ instance }) => is(instance.enis.length, 2),
  },
  {
    name: 'every call unanswered, no VPC CIDR in IMDS either',
    ...DEAD,
    launch: podEni,
    arrange: ({ cloud, instance }) => {
      cloud.faults.ec2.add({ action: '*', unanswered: true, instanceId: instance.id });
      cloud.faults.imds.add({
        instanceId: instance.id,
        path: /vpc-ipv4-cidr-blocks$/,
        edit: () => '',
      });
    },
    expect: { verdict: 'failed', code: 'EC2_UNAVAILABLE', phase: 'egress', withinSeconds: 20 },
  },
  {
    name: 'neither EC2 nor IMDS name a CIDR of the VPC',
    ...DEAD,
    arrange: ({ cloud, instance }) => {
      cloud.faults.ec2.add({ action: 'DescribeVpcs', instanceId: instance.id, edit: () => ({ Vpcs: [] }) });
      cloud.faults.imds.add({
        instanceId: instance.id,
        path: /vpc-ipv4-cidr-blocks$/,
        edit: () => '',
      });
    },
    expect: { verdict: 'failed', code: 'EC2_UNAVAILABLE', phase: 'egress', withinSeconds: 20 },
  },
  {
    name: 'EC2 names no CIDR of the VPC: the CIDRs of IMDS are used',
    arrange: ec2({ action: 'DescribeVpcs', edit: () => ({ Vpcs: [] }) }),
    expect: { verdict: 'degraded' },
  },
  {
    name: 'every call unanswered, only the ENI of another program in place',
    ...DEAD,
    launch: { podEnis: 1 },
    bootedBefore: false,
    arrange: async ({ cloud, instance }) => {
      // The attachment as an earlier boot of this instance recorded it.
      const foreign = instance.enis[1]?.id ?? '';
      instance.write(
        `/var/lib/eniboot/${instance.id}/enis.json`,
        `${JSON.stringify({ pods: [], foreign: [foreign] })}\n`,
      );
      cloud.faults.ec2.add({ action: '*', unanswered: true, instanceId: instance.id });
    },
    expect: { verdict: 'failed', code: 'NO_POD_ENI', phase: 'attach', withinSeconds: 20 },
  },
  {
    name: 'connections closed without an answer for the first four calls',
    arrange: ec2({ action: '*', close: true, times: 4 }),
    expect: { verdict: 'ready' },
  },
  {
    name: 'the attachment stays in attaching',
    ...DEAD,
    arrange: onAttach({ stuck: true }),
    expect: { verdict: 'failed', code: 'ATTACH_STUCK', phase: 'attach', withinSeconds: 20 },
  },
  {
    name: 'the attachment takes 4 s',
    arrange: onAttach({ delayMs: 4000 }),
    expect: { verdict: 'ready' },
  },
  {
    name: 'EC2 attaches at another device index than asked',
    arrange: onAttach({ deviceIndex: 3 }),
    expect: { verdict: 'ready' },
    prove: (bench) => {
      provesOnePodEni(bench);
      is(bench.instance.enis[1]?.attachment?.deviceIndex, 3);
    },
  },
  {
    name: 'the device index is taken by an ENI that neither IMDS nor EC2 show yet',
    launch: { podEnis: 1 },
    arrange: ({ cloud, instance }) => {
      const foreign = instance.enis[1];
      cloud.faults.imds.add({
        instanceId: instance.id,
        path: /\/macs\/$/,
        edit: () => `${instance.bootEni.mac}/`,
      });
      cloud.faults.ec2.add({
        action: 'DescribeNetworkInterfaces',
        instanceId: instance.id,
        times: 2,
        edit: without(foreign?.id ?? ''),
      });
    },
    expect: { verdict: 'ready' },
    prove: ({ instance }) => {
      is(instance.enis.length, 3);
      is(instance.enis[2]?.attachment?.deviceIndex, 2, 'the next free index is used');
    },
  },
  {
    name: 'describe calls never show the new ENI',
    ...DEAD,
    arrange: ({ cloud, instance }) => {
      cloud.faults.ec2.add({
        action: 'DescribeNetworkInterfaces',
        instanceId: instance.id,
        edit: ((answer: { NetworkInterfaces?: { NetworkInterfaceId?: string }[] }) => ({
          ...answer,
          NetworkInterfaces: (answer.NetworkInterfaces ?? []).filter(
            (eni) => eni.NetworkInterfaceId === instance.bootEni.id,
          ),
        })) as never,
      });
    },
    expect: { verdict: 'failed', code: 'EC2_INCONSISTENT', phase: 'attach', withinSeconds: 20 },
  },
  {
    name: 'a describe omits the pod ENI that is in place',
    launch: podEni,
    arrange: ({ cloud, instance }) => {
      cloud.faults.ec2.add({
        action: 'DescribeNetworkInterfaces',
        instanceId: instance.id,
        times: 1,
        edit: without(instance.enis[1]?.id ?? ''),
      });
    },
    expect: { verdict: 'ready' },
    prove: (bench) => is(accepted(bench, 'CreateNetworkInterface'), 0, 'no second pod ENI'),
  },
  {
    name: 'three describes answer with no ENI at all, not even the boot ENI',
    launch: podEni,
    arrange: ec2({
      action: 'DescribeNetworkInterfaces',
      times: 3,
      edit: () => ({ NetworkInterfaces: [] }),
    }),
    expect: { verdict: 'ready' },
    prove: (bench) => is(accepted(bench, 'CreateNetworkInterface'), 0, 'no second pod ENI'),
  },
  {
    name: 'describes show the tags of the new ENI later than the ENI',
    arrange: ec2({
      action: 'DescribeNetworkInterfaces',
      skip: 2,
      times: 3,
      edit: ((answer: { NetworkInterfaces?: { Attachment?: { DeviceIndex?: number } }[] }) => ({
        ...answer,
        NetworkInterfaces: answer.NetworkInterfaces?.map((eni) =>
          eni.Attachment?.DeviceIndex === 1 ? { ...eni, TagSet: [] } : eni,
        ),
      })) as never,
    }),
    expect: { verdict: 'ready' },
    prove: provesOnePodEni,
  },
  {
    name: 'the pod subnet is on the second page',
    arrange: ec2({
      action: 'DescribeSubnets',
      times: 1,
      edit: () => ({ Subnets: [], NextToken: Buffer.from('page:0').toString('base64url') }),
    }),
    expect: { verdict: 'ready' },
    prove: provesOnePodEni,
  },
  {
    name: 'the account may have no more ENIs',
    arrange: ec2({ action: 'CreateNetworkInterface', error: 'NetworkInterfaceLimitExceeded' }),
    expect: { verdict: 'failed', code: 'ENI_QUOTA', phase: 'attach', atOnce: true },
  },
  {
    name: 'the account may have no more ENIs after the first',
    config: { pods: { addressing: 'addresses', max: 20 } },
    arrange: ec2({ action: 'CreateNetworkInterface', error: 'NetworkInterfaceLimitExceeded', skip: 1 }),
    expect: { verdict: 'degraded' },
    leaves: ['create an ENI with 6 addresses and attach it at index 2'],
    prove: provesOnePodEni,
  },
  {
    name: 'the emptiest pod subnet is fragmented: the next one is used',
    config: { pods: { subnets: { tags: { eniboot: 'next' } } } },
    arrange: ({ cloud }) => fragment(cloud),
    expect: { verdict: 'ready' },
    prove: ({ cloud, instance }) => {
      const eni = instance.enis[1];
      is(cloud.subnets.get(eni?.subnetId ?? '')?.cidr, '10.0.132.0/24');
      is(eni?.prefixes.length, 7);
    },
  },
  {
    name: 'every pod subnet is full',
    config: { pods: { subnets: { tags: { eniboot: 'full' } } } },
    arrange: ({ cloud }) => fill(cloud),
    expect: { verdict: 'failed', code: 'SUBNETS_FULL', phase: 'attach', atOnce: true },
  },
  {
    name: 'every pod subnet is fragmented: single addresses, on as many ENIs as the type allows',
    config: { pods: { subnets: { tags: { eniboot: 'fragmented' } } } },
    arrange: ({ cloud }) => fragment(cloud),
    expect: { verdict: 'ready' },
    prove: async (bench) => {
      is(bench.instance.enis.length, 4);
      is(bench.instance.enis[1]?.secondaryIps.length, 14);
      const again = await bench.node.boot();
      is(again.status?.cloud.ec2Mutating, 0, 'the second boot changes nothing in EC2');
    },
  },
  {
    name: 'the subnet of the pod ENI in place is fragmented: single addresses beside its prefix',
    config: { pods: { subnets: { tags: { eniboot: 'fragmented-later' } } } },
    arrange: (bench) => {
      leaveEni(bench, 1, 'fragmented-later');
      fragment(bench.cloud, 'fragmented-later');
    },
    expect: { verdict: 'ready' },
    prove: ({ instance }) => {
      is(instance.enis[1]?.prefixes.length, 1);
      is(instance.enis[1]?.secondaryIps.length, 13, 'one for each slot');
    },
  },
  {
    name: 'every pod subnet is fragmented, and the configuration requires prefixes',
    config: { pods: { subnets: { tags: { eniboot: 'fragmented' } }, addressing: 'prefixes' } },
    arrange: ({ cloud }) => fragment(cloud),
    expect: { verdict: 'failed', code: 'SUBNETS_FULL', phase: 'attach', atOnce: true },
  },
  {
    name: 'the pod subnet has room for two prefixes of seven, and the configuration requires prefixes',
    config: { pods: { subnets: { tags: { eniboot: 'two' } }, addressing: 'prefixes' } },
    expect: { verdict: 'degraded' },
    leaves: [/^assign 5 prefixes to eni-/],
    prove: (bench, { status }) => {
      provesOnePodEni(bench);
      is(bench.instance.enis[1]?.prefixes.length, 2);
      match(status?.degraded[0] ?? '', /^only 1 pod ENIs, .*SUBNETS_FULL/);
    },
  },
  {
    name: 'the pod subnet has room for two prefixes of seven: single addresses beside them',
    config: { pods: { subnets: { tags: { eniboot: 'two-auto' } } } },
    expect: { verdict: 'ready' },
    leaves: [/^assign 4 prefixes to eni-/],
    prove: ({ instance }) => {
      is(instance.enis[1]?.prefixes.length, 2);
      is(instance.enis[1]?.secondaryIps.length, 12, 'one for each slot that is left');
      ok((instance.enis[2]?.secondaryIps.length ?? 0) > 7, 'most of what the subnet has left');
    },
  },
  {
    name: 'the pod subnet is full, and a pod ENI without any address is in place',
    ...DEAD,
    config: { pods: { subnets: { tags: { eniboot: 'full' } } } },
    launch: { podEnis: [{ tags: { [ROLE_TAG]: POD_ROLE } }] },
    arrange: (bench) => {
      fill(bench.cloud);
      ec2({ action: 'AssignPrivateIpAddresses', error: 'InsufficientCidrBlocks' })(bench);
      ec2({ action: 'AssignPrivateIpAddresses', error: 'InsufficientFreeAddressesInSubnet' })(bench);
    },
    expect: { verdict: 'failed', code: 'POOL_EMPTY', phase: 'attach', withinSeconds: 20 },
  },
  {
    name: 'the subnet of the pod ENI in place is full: another ENI is made in a subnet with room',
    launch: smallPodEni,
    arrange: ec2({ action: 'AssignPrivateIpAddresses', error: 'InsufficientFreeAddressesInSubnet' }),
    expect: { verdict: 'ready' },
    prove: ({ instance }) => {
      is(instance.enis.length, 3);
      is(instance.enis[1]?.prefixes.length, 1, 'the first ENI is unchanged');
      is(instance.enis[2]?.prefixes.length, 6, 'the rest');
    },
  },
  {
    name: 'a configured subnet no longer exists',
    arrange: ({ cloud, instance }) => {
      const subnet = [...cloud.subnets.values()].find((one) => one.tags.get('eniboot') === 'pods');
      const text = instance.read('/etc/eniboot/config.yaml') ?? '';
      const ids = [subnet?.id, 'subnet-0123456789abcdef0'];
      const config = JSON.parse(text) as { pods: object };
      instance.write(
        '/etc/eniboot/config.yaml',
        JSON.stringify({ ...config, pods: { ...config.pods, subnets: { ids } } }),
      );
    },
    expect: { verdict: 'ready' },
    prove: provesOnePodEni,
  },
  {
    name: 'the ENI of another program is attached: it is not changed',
    launch: { podEnis: 1 },
    expect: { verdict: 'ready' },
    prove: (bench) => {
      is(bench.instance.enis.length, 3);
      is(bench.instance.enis[1]?.tags.size, 0, 'the foreign ENI is unchanged');
      is(accepted(bench), 4);
    },
  },
  {
    name: 'ENIs of another program take every device index',
    launch: { type: 'm5.large', podEnis: 2 },
    expect: { verdict: 'failed', code: 'ENI_LIMIT', phase: 'attach', atOnce: true },
  },
  {
    name: 'EC2 allows fewer ENIs than the table says',
    arrange: ec2({ action: 'AttachNetworkInterface', error: 'AttachmentLimitExceeded' }),
    expect: { verdict: 'failed', code: 'ENI_LIMIT', phase: 'attach', atOnce: true },
    prove: (bench) => is(accepted(bench, 'DeleteNetworkInterface'), 1),
  },
  {
    name: 'EC2 allows fewer ENIs than the table says, and one pod ENI is in place',
    config: { pods: { subnets: { tags: { eniboot: 'pods' } }, addressing: 'addresses' } },
    arrange: ec2({ action: 'AttachNetworkInterface', error: 'AttachmentLimitExceeded', skip: 1 }),
    expect: { verdict: 'degraded' },
    prove: async (bench, { status }) => {
      match(status?.degraded[0] ?? '', /^only 1 pod ENIs, .*ENI_LIMIT: .*AttachmentLimitExceeded/);
      is(bench.instance.enis.length, 2);
      is(status?.capacity?.maxPods, 14, 'kubelet gets the capacity of one ENI');
      const before = accepted(bench, 'CreateNetworkInterface');
      is((await bench.node.boot()).status?.capacity?.maxPods, 14);
      is((await bench.node.eniboot(['repair'])).stdout, 'nothing to repair\n');
      is(accepted(bench, 'CreateNetworkInterface'), before, 'no run of this boot tries again');
    },
  },
  {
    name: 'an ENI that a killed run of an earlier boot left is adopted',
    arrange: (bench) => leaveEni(bench, 7),
    expect: { verdict: 'ready' },
    prove: (bench) => {
      provesOnePodEni(bench);
      is(accepted(bench, 'CreateNetworkInterface'), 0);
    },
  },
  {
    name: 'a killed run of an earlier boot left an ENI, and EC2 attaches no second pod ENI',
    launch: smallPodEni,
    config: { pods: { max: 150 } },
    arrange: (bench) => {
      leaveEni(bench, 1);
      ec2({ action: 'AttachNetworkInterface', error: 'AttachmentLimitExceeded' })(bench);
    },
    expect: { verdict: 'degraded' },
    prove: (bench) => {
      provesOnePodEni(bench);
      is(accepted(bench, 'DeleteNetworkInterface'), 1, 'the ENI is deleted');
    },
  },
  {
    name: 'a pod ENI without delete-on-termination',
    launch: { podEnis: [{ prefixes: 7, tags: { [ROLE_TAG]: POD_ROLE }, deleteOnTermination: false }] },
    expect: { verdict: 'ready' },
    prove: provesOnePodEni,
  },
  {
    name: 'a security group that does not exist',
    config: { pods: { securityGroups: { ids: ['sg-0123456789abcdef0'] } } },
    expect: { verdict: 'failed', code: 'EC2_REFUSED', phase: 'attach', atOnce: true },
  },
  {
    name: 'tags that no security group has',
    config: { pods: { securityGroups: { tags: { role: 'nobody' } } } },
    expect: { verdict: 'failed', code: 'NO_SECURITY_GROUP', phase: 'attach', atOnce: true },
  },
  {
    name: 'IMDS does not list the security groups of the boot ENI: pod ENIs get them nevertheless',
    arrange: ({ cloud, instance }) => {
      const { GroupId } = cloud.ec2.send('CreateSecurityGroup', {
        GroupName: 'nodes',
        Description: 'not the default group',
        VpcId: cloud.vpc.id,
      }) as { GroupId: string };
      cloud.ec2.send('ModifyNetworkInterfaceAttribute', {
        NetworkInterfaceId: instance.bootEni.id,
        Groups: [GroupId],
      });
      cloud.faults.imds.add({ instanceId: instance.id, path: /security-group-ids$/, status: 404 });
    },
    expect: { verdict: 'ready' },
    prove: ({ instance }) => equal(instance.enis[1]?.groups, instance.bootEni.groups),
  },
  {
    name: "no pod subnet in the node's zone",
    config: { pods: { subnets: { tags: { eniboot: 'pods-b' } } } },
    expect: { verdict: 'failed', code: 'NO_POD_SUBNET', phase: 'attach', atOnce: true },
  },
  {
    name: 'an instance without a role',
    ...DEAD,
    arrange: withoutRole,
    expect: { verdict: 'failed', code: 'NO_INSTANCE_ROLE', phase: 'attach', withinSeconds: 20 },
  },
  {
    name: 'an instance without a role, with ENIs in place',
    ...DEAD,
    launch: podEni,
    arrange: withoutRole,
    expect: { verdict: 'degraded', withinSeconds: 20 },
  },
  ...([{ edit: () => '{ "Code": "AssumeRoleUnauthorizedAccess" }' }, { status: 404 }] as const).flatMap(
    (answer): Fault[] => {
      const arrange = ({ cloud, instance }: Bench) =>
        cloud.faults.imds.add({ ...answer, instanceId: instance.id, path: /security-credentials\/./ });
      const what = `a role without credentials (${'status' in answer ? 404 : 'Code'})`;
      return [
        {
          name: what,
          ...DEAD,
          arrange,
          expect: { verdict: 'failed', code: 'EC2_AUTH', phase: 'attach', withinSeconds: 20 },
        },
        {
          name: `${what}, with ENIs in place`,
          ...DEAD,
          launch: podEni,
          arrange,
          expect: { verdict: 'degraded', withinSeconds: 20 },
        },
      ];
    },
  ),
  {
    name: 'an instance type that neither the table nor EC2 knows',
    arrange: instanceType('z9.mega'),
    expect: { verdict: 'failed', code: 'INSTANCE_TYPE_UNKNOWN', phase: 'identify', atOnce: true },
  },
  {
    name: 'an instance type that the table does not have, and DescribeInstanceTypes is denied',
    arrange: (bench) => {
      instanceType('z9.mega')(bench);
      ec2({ action: 'DescribeInstanceTypes', error: 'UnauthorizedOperation' })(bench);
    },
    expect: { verdict: 'failed', code: 'EC2_DENIED', phase: 'identify', atOnce: true },
  },
  {
    name: 'the configuration requires prefixes of an instance type without them',
    launch: { type: 't2.medium' },
    config: { pods: { addressing: 'prefixes' } },
    expect: { verdict: 'failed', code: 'PREFIXES_UNSUPPORTED', phase: 'identify', atOnce: true },
  },
  {
    name: 'a public address is required and the boot ENI has none',
    launch: { publicIp: false },
    config: { egress: { publicAddress: 'require' } },
    expect: { verdict: 'failed', code: 'NO_PUBLIC_ADDRESS', phase: 'egress', atOnce: true },
  },
  {
    name: 'a public address is required, and IMDS shows it after 2 s',
    launch: { publicIp: true },
    config: { egress: { publicAddress: 'require' } },
    arrange: ({ cloud, instance }) => {
      const rule = cloud.faults.imds.add({ instanceId: instance.id, path: /public-ipv4s$/, status: 404 });
      setTimeout(() => rule.remove(), 2_500);
    },
    expect: { verdict: 'ready' },
  },
  {
    name: 'a public address is asked for',
    launch: { publicIp: false },
    config: { egress: { publicAddress: 'request' } },
    expect: { verdict: 'ready' },
    prove: ({ instance }) => ok(instance.bootEni.publicIp, 'the boot ENI has a public address'),
  },
  {
    name: 'a public address is asked for, and IMDS never shows it',
    ...DEAD,
    launch: { publicIp: false },
    config: { egress: { publicAddress: 'request' } },
    arrange: ({ cloud, instance }) => {
      cloud.faults.imds.add({ instanceId: instance.id, path: /public-ipv4s$/, status: 404 });
    },
    expect: { verdict: 'failed', code: 'NO_PUBLIC_ADDRESS', phase: 'egress', withinSeconds: 20 },
  },
  {
    name: 'UnauthorizedOperation for a public address that is asked for',
    launch: { publicIp: false },
    config: { egress: { publicAddress: 'request' } },
    arrange: ec2({ action: 'ModifyNetworkInterfaceAttribute', error: 'UnauthorizedOperation' }),
    expect: { verdict: 'failed', code: 'EC2_DENIED', phase: 'egress', atOnce: true },
  },
  {
    name: 'the public address is gone after stop and start',
    launch: podEni,
    config: { egress: { publicAddress: 'require' } },
    arrange: stopAndStart,
    expect: { verdict: 'failed', code: 'NO_PUBLIC_ADDRESS', phase: 'egress', atOnce: true },
  },
  {
    name: 'SSM answers InternalServerError',
    ...DEAD,
    config: { cluster: 'ssm:/eniboot/cluster' },
    arrange: ({ cloud, instance }) => {
      cloud.faults.ssm.add({
        action: '*',
        error: 'InternalServerError',
        status: 500,
        instanceId: instance.id,
      });
    },
    expect: { verdict: 'failed', code: 'SSM_FAILED', phase: 'identify', withinSeconds: 20 },
  },
  {
    name: 'SSM denies a parameter',
    config: { cluster: 'ssm:/eniboot/cluster' },
    arrange: ({ cloud, instance }) => {
      cloud.faults.ssm.add({ action: '*', error: 'AccessDeniedException', instanceId: instance.id });
    },
    expect: { verdict: 'failed', code: 'SSM_DENIED', phase: 'identify', atOnce: true },
  },
];

function without(eniId: string): never {
  return ((answer: { NetworkInterfaces?: { NetworkInterfaceId?: string }[] }) => ({
    ...answer,
    NetworkInterfaces: (answer.NetworkInterfaces ?? []).filter((eni) => eni.NetworkInterfaceId !== eniId),
  })) as never;
}

/** Makes an ENI of this instance and leaves it unattached, as a killed run does. */
function leaveEni({ cloud, instance }: Bench, prefixes: number, tag = 'pods'): void {
  const subnet = [...cloud.subnets.values()].find((one) => one.tags.get('eniboot') === tag);
  const tags = {
    [ROLE_TAG]: POD_ROLE,
    [INSTANCE_TAG]: instance.id,
    [CREATED_TAG]: '2026-01-01T00:00:00.000Z',
  };
  cloud.ec2.send('CreateNetworkInterface', {
    SubnetId: subnet?.id,
    Ipv4PrefixCount: prefixes,
    TagSpecifications: [
      {
        ResourceType: 'network-interface',
        Tags: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })),
      },
    ],
  });
}

/** Takes one address in every block of 16: many addresses are free, and no prefix is. */
function fragment(cloud: Cloud, tag?: string): void {
  for (const subnet of cloud.subnets.values()) {
    if (tag === undefined ? subnet.tags.get('taken') !== 'some' : subnet.tags.get('eniboot') !== tag)
      continue;
    const { first, last } = rangeOf(subnet.cidr);
    for (let address = first + 8; address < last; address += 16) subnet.space.takeThis(toAddress(address));
  }
}

function fill(cloud: Cloud): void {
  for (const subnet of cloud.subnets.values()) {
    if (subnet.tags.get('taken') !== 'all') continue;
    while (subnet.space.takeAny() !== undefined);
  }
}

function withoutRole({ instance }: Bench): void {
  instance.record.role = undefined;
}

function instanceType(type: string): (bench: Bench) => void {
  return ({ cloud, instance }) => {
    cloud.faults.imds.add({
      instanceId: instance.id,
      path: '/latest/dynamic/instance-identity/document',
      edit: (text) => text.replace(/"instanceType": "[^"]*"/, `"instanceType": "${type}"`),
    });
  };
}

/** EC2 gives an instance with several ENIs no new public address. */
async function stopAndStart({ node, instance }: { node: Bench['node']; instance: Instance }): Promise<void> {
  await instance.stop();
  await instance.start();
  await node.afterPowerOn();
}
