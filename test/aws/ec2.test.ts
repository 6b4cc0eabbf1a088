import type {
  CreateNetworkInterfaceResult,
  DescribeInstancesResult,
  DescribeNetworkInterfacesResult,
  DescribeSubnetsResult,
  DescribeTagsResult,
  RunInstancesRequest,
} from '@aws-sdk/client-ec2';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { AwsError, createEc2, type Ec2, type Ec2Options, virtualScheduler } from './index.ts';
import { takeRefused } from './requests/refused.ts';

function region(options: Ec2Options = {}) {
  const scheduler = virtualScheduler();
  const ec2 = createEc2({
    scheduler,
    subnets: [
      { cidr: '10.0.0.0/24', zone: 'eu-west-1a', mapPublicIp: true },
      { cidr: '10.0.64.0/24', zone: 'eu-west-1a' },
      { cidr: '10.0.1.0/24', zone: 'eu-west-1b' },
    ],
    latency: {
      attachMs: 1000,
      detachMs: 1000,
      describeLagMs: 500,
      instanceMs: 100,
      pendingMs: 200,
      imageMs: 400,
    },
    ...options,
  });
  const [nodes = '', pods = '', otherZone = ''] = [...ec2.world.subnets.keys()];
  return { ec2, scheduler, nodes, pods, otherZone };
}

function run(ec2: Ec2, subnet: string, more: RunInstancesRequest | object = {}): string {
  const answer = ec2.send('RunInstances', {
    ImageId: 'ami-1',
    SubnetId: subnet,
    InstanceType: 'm5.large',
    MinCount: 1,
    MaxCount: 1,
    ...more,
  });
  return (answer as { Instances: { InstanceId: string }[] }).Instances[0]?.InstanceId ?? '';
}

function create(ec2: Ec2, subnet: string, more: object = {}): string {
  const answer: CreateNetworkInterfaceResult = ec2.send('CreateNetworkInterface', {
    SubnetId: subnet,
    ...more,
  });
  return answer.NetworkInterface?.NetworkInterfaceId ?? '';
}

function attach(ec2: Ec2, eni: string, instance: string, index: number): object {
  return ec2.send('AttachNetworkInterface', {
    NetworkInterfaceId: eni,
    InstanceId: instance,
    DeviceIndex: index,
  });
}

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof AwsError) return error.code;
    throw error;
  }
  return 'none';
}

function free(ec2: Ec2, subnet: string): number | undefined {
  const { Subnets = [] }: DescribeSubnetsResult = ec2.send('DescribeSubnets', { SubnetIds: [subnet] });
  return Subnets[0]?.AvailableIpAddressCount;
}

test('a subnet counts its addresses: five reserved, one for an address, sixteen for a prefix', () => {
  const { ec2, pods } = region();
  assert.is(free(ec2, pods), 251);
  const eni = create(ec2, pods, { Ipv4PrefixCount: 2 });
  assert.is(free(ec2, pods), 251 - 1 - 32);
  ec2.send('AssignPrivateIpAddresses', { NetworkInterfaceId: eni, SecondaryPrivateIpAddressCount: 3 });
  assert.is(free(ec2, pods), 251 - 1 - 32 - 3);
  ec2.send('DeleteNetworkInterface', { NetworkInterfaceId: eni });
  assert.is(free(ec2, pods), 251);
});

test('prefixes need an aligned free block; single addresses fill the rest', () => {
  const { ec2, pods } = region();
  // Blocks 0 and 15 hold reserved addresses. So 14 of 16 can be prefixes.
  create(ec2, pods, { Ipv4PrefixCount: 13 });
  create(ec2, pods, { PrivateIpAddress: '10.0.64.230' });
  assert.ok(Number(free(ec2, pods)) >= 16);
  assert.is(
    codeOf(() => create(ec2, pods, { Ipv4PrefixCount: 1 })),
    'InsufficientCidrBlocks',
    'fragmented',
  );
  assert.is(
    codeOf(() => create(ec2, pods, { Ipv4PrefixCount: 5 })),
    'InvalidParameterValue',
    'too few addresses',
  );
  const before = free(ec2, pods);
  assert.is(
    codeOf(() => create(ec2, pods, { SecondaryPrivateIpAddressCount: 200 })),
    'InsufficientFreeAddressesInSubnet',
  );
  assert.is(free(ec2, pods), before, 'a refused request keeps nothing');
});

test('a client token makes a repeated create answer with the first ENI', () => {
  const { ec2, pods } = region();
  const first = create(ec2, pods, { ClientToken: 'a', Ipv4PrefixCount: 1 });
  assert.is(create(ec2, pods, { Ipv4PrefixCount: 1, ClientToken: 'a' }), first);
  assert.is(ec2.world.enis.size, 1);
  assert.is(
    codeOf(() => create(ec2, pods, { ClientToken: 'a', Ipv4PrefixCount: 2 })),
    'IdempotentParameterMismatch',
  );
  assert.is.not(create(ec2, pods, { ClientToken: 'b', Ipv4PrefixCount: 1 }), first);
});

test('each network card has its own indexes and limit', () => {
  const { ec2, nodes, pods } = region();
  const instance = run(ec2, nodes, { InstanceType: 'trn1.32xlarge' });
  const on = (NetworkCardIndex: number, DeviceIndex: number) =>
    codeOf(() =>
      ec2.send('AttachNetworkInterface', {
        NetworkInterfaceId: create(ec2, pods),
        InstanceId: instance,
        DeviceIndex,
        NetworkCardIndex,
      }),
    );
  assert.equal([on(0, 1), on(1, 1), on(1, 1)], ['none', 'none', 'InvalidParameterValue']);
  assert.equal([on(0, 2), on(0, 3), on(0, 4)], ['none', 'none', 'none']);
  assert.equal([on(0, 5), on(7, 1), on(8, 1)], ['AttachmentLimitExceeded', 'none', 'InvalidParameterValue']);
});

test('an attachment takes its time and its limits hold', () => {
  const { ec2, scheduler, nodes, pods, otherZone } = region();
  const instance = run(ec2, nodes);
  const eni = create(ec2, pods);
  attach(ec2, eni, instance, 1);
  const status = (): string | undefined => ec2.world.enis.get(eni)?.attachment?.status;
  assert.is(status(), 'attaching');
  scheduler.advance(999);
  assert.is(status(), 'attaching');
  scheduler.advance(1);
  assert.is(status(), 'attached');
  assert.is(
    codeOf(() => attach(ec2, eni, instance, 2)),
    'InvalidNetworkInterface.InUse',
  );
  assert.is(
    codeOf(() => attach(ec2, create(ec2, pods), instance, 1)),
    'InvalidParameterValue',
  );
  assert.is(
    codeOf(() => attach(ec2, create(ec2, otherZone), instance, 2)),
    'InvalidParameterCombination',
  );
  attach(ec2, create(ec2, pods), instance, 2);
  assert.is(
    codeOf(() => attach(ec2, create(ec2, pods), instance, 3)),
    'AttachmentLimitExceeded',
  );
  assert.is(
    codeOf(() => ec2.send('AssignPrivateIpAddresses', { NetworkInterfaceId: eni, Ipv4PrefixCount: 10 })),
    'PrivateIpAddressLimitExceeded',
  );
  assert.is(
    codeOf(() => ec2.send('DeleteNetworkInterface', { NetworkInterfaceId: eni })),
    'InvalidParameterValue',
  );
  assert.is(
    codeOf(() => ec2.send('DeleteNetworkInterface', { NetworkInterfaceId: 'eni-00000000' })),
    'InvalidNetworkInterfaceID.NotFound',
  );
  assert.is(
    codeOf(() => create(ec2, 'subnet-00000000')),
    'InvalidSubnetID.NotFound',
  );
  assert.is(
    codeOf(() => create(ec2, pods, { Groups: ['sg-00000000'] })),
    'InvalidGroup.NotFound',
  );
});

test('the boot ENI cannot be detached', () => {
  const { ec2, nodes } = region();
  const instance = run(ec2, nodes);
  const boot = ec2.world.attachments.get(instance)?.get(0);
  assert.is(
    codeOf(() => ec2.send('DetachNetworkInterface', { AttachmentId: boot?.attachment?.id })),
    'OperationNotPermitted',
  );
});

test('a describe by filter misses a young ENI, one by ID only where that is asked for', () => {
  const { ec2, scheduler, pods } = region();
  const TagSpecifications = [{ ResourceType: 'network-interface', Tags: [{ Key: 'cluster', Value: 'one' }] }];
  const eni = create(ec2, pods, { TagSpecifications });
  const find = (request: object): number =>
    (
      (ec2.send('DescribeNetworkInterfaces', request) as DescribeNetworkInterfacesResult).NetworkInterfaces ??
      []
    ).length;
  const byTag = { Filters: [{ Name: 'tag:cluster', Values: ['o*'] }] };
  assert.is(find(byTag), 0);
  assert.is(find({ NetworkInterfaceIds: [eni] }), 1);
  ec2.world.latency.idLagMs = 500;
  for (const [action, request] of [
    ['DescribeNetworkInterfaces', { NetworkInterfaceIds: [eni] }],
    ['AttachNetworkInterface', { NetworkInterfaceId: eni, InstanceId: run(ec2, pods), DeviceIndex: 1 }],
    ['DeleteNetworkInterface', { NetworkInterfaceId: eni }],
  ] as const)
    assert.is(
      codeOf(() => ec2.send(action, request)),
      'InvalidNetworkInterfaceID.NotFound',
    );
  scheduler.advance(500);
  assert.is(find(byTag), 1);
  assert.is(find({ Filters: [{ Name: 'tag:cluster', Values: ['two'] }] }), 0);
  assert.is(
    codeOf(() => find({ Filters: [{ Name: 'colour', Values: ['red'] }] })),
    'InvalidParameterValue',
  );
});

test('a young instance is unknown also by its ID, and a new tag is seen a little later', () => {
  const { ec2, scheduler, nodes } = region();
  const id = run(ec2, nodes);
  const tagsOf = () => {
    const { Reservations } = ec2.send('DescribeInstances', { InstanceIds: [id] }) as DescribeInstancesResult;
    const { Tags } = ec2.send('DescribeTags', {
      Filters: [{ Name: 'resource-id', Values: [id] }],
    }) as DescribeTagsResult;
    return [Reservations?.[0]?.Instances?.[0]?.Tags ?? [], Tags ?? []].map((all) =>
      all.map(({ Value }) => Value),
    );
  };
  assert.is(
    codeOf(() => tagsOf()),
    'InvalidInstanceID.NotFound',
  );
  scheduler.advance(500);
  const tag = (Value: string) => ec2.send('CreateTags', { Resources: [id], Tags: [{ Key: 'k', Value }] });
  tag('1');
  assert.equal(tagsOf(), [[], []]);
  scheduler.advance(500);
  assert.equal(tagsOf(), [['1'], ['1']]);
  tag('2');
  assert.equal(tagsOf(), [['1'], ['1']]);
  scheduler.advance(500);
  assert.equal(tagsOf(), [['2'], ['2']]);
});

test('pages hold every object once', () => {
  const { ec2, scheduler, pods } = region();
  for (let count = 0; count < 12; count++) create(ec2, pods);
  scheduler.advance(500);
  const seen: (string | undefined)[] = [];
  let NextToken: string | undefined;
  do {
    const answer: DescribeNetworkInterfacesResult = ec2.send('DescribeNetworkInterfaces', {
      MaxResults: 5,
      NextToken,
    });
    seen.push(...(answer.NetworkInterfaces ?? []).map((one) => one.NetworkInterfaceId));
    NextToken = answer.NextToken;
  } while (NextToken !== undefined);
  assert.is(seen.length, 12);
  assert.is(new Set(seen).size, 12);
});

test('each action has a token bucket that fills with time', () => {
  const { ec2, scheduler, pods } = region({
    bucketOf: (action) => (action === 'CreateNetworkInterface' ? { capacity: 2, refill: 1 } : undefined),
  });
  create(ec2, pods);
  create(ec2, pods);
  assert.is(
    codeOf(() => create(ec2, pods)),
    'RequestLimitExceeded',
  );
  assert.is(
    codeOf(() => ec2.send('DescribeVpcs', {})),
    'none',
  );
  scheduler.advance(1000);
  create(ec2, pods);
  assert.is(
    codeOf(() => create(ec2, pods)),
    'RequestLimitExceeded',
  );
  assert.equal(
    ec2.calls.map((call) => call.accepted),
    [true, true, false, true, true, false],
  );
});

test('termination deletes only ENIs with DeleteOnTermination; the others stay', () => {
  const { ec2, scheduler, nodes, pods } = region();
  const instance = run(ec2, nodes);
  const [kept, deleted] = [create(ec2, pods), create(ec2, pods)];
  attach(ec2, kept, instance, 1);
  attach(ec2, deleted, instance, 2);
  scheduler.advance(1000);
  const AttachmentId = ec2.world.enis.get(deleted)?.attachment?.id;
  ec2.send('ModifyNetworkInterfaceAttribute', {
    NetworkInterfaceId: deleted,
    Attachment: { AttachmentId, DeleteOnTermination: true },
  });
  ec2.send('TerminateInstances', { InstanceIds: [instance] });
  scheduler.advance(100);
  assert.equal([...ec2.world.enis.keys()], [kept]);
  assert.is(ec2.world.enis.get(kept)?.attachment, undefined);
});

test('an instance is pending before it runs, at a launch and at a start, and tells why it does not run', () => {
  const { ec2, scheduler, nodes } = region();
  ec2.world.latency.describeLagMs = 0;
  const happened: string[] = [];
  ec2.subscribe((event) => {
    if (event.kind === 'run') happened.push('run');
    if (event.kind === 'instance') happened.push(event.action);
  });
  const state = (id: string) => {
    const { Reservations } = ec2.send('DescribeInstances', { InstanceIds: [id] }) as DescribeInstancesResult;
    const { State, StateReason } = Reservations?.[0]?.Instances?.[0] ?? {};
    return [State?.Name, StateReason?.Code];
  };
  const id = run(ec2, nodes);
  assert.is(ec2.world.latency.describeLagMs, 0, 'it would not be seen yet');
  assert.equal([state(id), happened], [['pending', 'pending'], []]);
  for (const action of ['StopInstances', 'RebootInstances', 'StartInstances'])
    assert.is(
      codeOf(() => ec2.send(action, { InstanceIds: [id] })),
      'IncorrectInstanceState',
      action,
    );
  scheduler.advance(200);
  assert.equal([state(id), happened], [['running', undefined], ['run']]);
  ec2.send('StopInstances', { InstanceIds: [id] });
  scheduler.advance(100);
  assert.equal(state(id), ['stopped', 'Client.UserInitiatedShutdown']);
  ec2.send('StartInstances', { InstanceIds: [id] });
  assert.equal(
    [state(id), happened],
    [
      ['pending', 'pending'],
      ['run', 'stop'],
    ],
  );
  scheduler.advance(200);
  assert.equal(
    [state(id), happened],
    [
      ['running', undefined],
      ['run', 'stop', 'start'],
    ],
  );
  const short = run(ec2, nodes);
  ec2.send('TerminateInstances', { InstanceIds: [short] });
  scheduler.advance(1000);
  assert.equal(state(short), ['terminated', 'Client.UserInitiatedShutdown']);
  assert.is(happened.filter((one) => one === 'run').length, 1, 'the terminated instance has never run');
});

test('a stop takes the public address; a start gives one only to a single ENI; a modify call asks for one again', () => {
  const { ec2, scheduler, nodes, pods } = region();
  const publicOf = (instance: string): string | undefined =>
    ec2.world.attachments.get(instance)?.get(0)?.publicIp;
  const cycle = (instance: string): void => {
    scheduler.advance(200);
    ec2.send('StopInstances', { InstanceIds: [instance] });
    scheduler.advance(100);
    assert.is(publicOf(instance), undefined);
    ec2.send('StartInstances', { InstanceIds: [instance] });
    scheduler.advance(200);
  };
  const single = run(ec2, nodes);
  assert.ok(publicOf(single));
  cycle(single);
  assert.ok(publicOf(single));

  const several = run(ec2, nodes);
  attach(ec2, create(ec2, pods), several, 1);
  scheduler.advance(1000);
  cycle(several);
  assert.is(publicOf(several), undefined);
  const boot = ec2.world.attachments.get(several)?.get(0)?.id;
  ec2.send('ModifyNetworkInterfaceAttribute', { NetworkInterfaceId: boot, AssociatePublicIpAddress: true });
  assert.ok(publicOf(several));
  const two = { SourceDestCheck: { Value: false }, Description: { Value: 'x' } };
  assert.is(
    codeOf(() => ec2.send('ModifyNetworkInterfaceAttribute', { NetworkInterfaceId: boot, ...two })),
    'InvalidParameterCombination',
  );

  const { AllocationId } = ec2.send('AllocateAddress', {}) as { AllocationId: string };
  ec2.send('AssociateAddress', { AllocationId, NetworkInterfaceId: boot });
  const elastic = publicOf(several);
  ec2.send('StopInstances', { InstanceIds: [several] });
  scheduler.advance(100);
  assert.is(publicOf(several), elastic, 'an Elastic IP outlives a stop');
});

test('a denied action and a dry run change nothing', () => {
  const { ec2, pods } = region();
  assert.is(
    codeOf(() => create(ec2, pods, { DryRun: true })),
    'DryRunOperation',
  );
  ec2.denied.add('CreateNetworkInterface');
  assert.is(
    codeOf(() => create(ec2, pods)),
    'UnauthorizedOperation',
  );
  assert.is(
    codeOf(() => ec2.send('LaunchRocket', {})),
    'InvalidAction',
  );
  assert.is(ec2.world.enis.size, 0);
});

test('the same calls give the same IDs, so that a failing run can be repeated', () => {
  const ids = (): string[] => {
    const { ec2, nodes, pods } = region();
    return [run(ec2, nodes), create(ec2, pods)];
  };
  assert.equal(ids(), ids());
});

test('5,000 nodes attach an ENI each on virtual time within seconds', () => {
  const wide = [
    { cidr: '10.0.0.0/16', zone: 'eu-west-1a' },
    { cidr: '10.64.0.0/10', zone: 'eu-west-1a' },
  ];
  const { ec2, scheduler, nodes, pods } = region({
    subnets: wide,
    bucketOf: () => ({ capacity: 1e9, refill: 1e9 }),
  });
  const started = performance.now();
  for (let count = 0; count < 5000; count++) {
    const instance = run(ec2, nodes);
    attach(ec2, create(ec2, pods, { Ipv4PrefixCount: 7 }), instance, 1);
    scheduler.advance(1000);
    const mine: DescribeNetworkInterfacesResult = ec2.send('DescribeNetworkInterfaces', {
      Filters: [{ Name: 'attachment.instance-id', Values: [instance] }],
    });
    assert.is(mine.NetworkInterfaces?.length, 2);
  }
  const ms = performance.now() - started;
  assert.ok(ms < 10_000, `took ${ms} ms`);
});

test('tags that IMDS shows have keys that can be paths, whether the account or the instance shows them', () => {
  const { ec2, nodes } = region({
    metadataDefaults: { instanceMetadataTags: 'enabled' },
    bucketOf: () => ({ capacity: 1000, refill: 1000 }),
  });
  const tagged = (...keys: string[]) => ({
    TagSpecifications: [{ ResourceType: 'instance', Tags: keys.map((Key) => ({ Key, Value: 'x' })) }],
  });
  const codeAndKey = (call: () => unknown) => {
    try {
      call();
    } catch (error) {
      return error instanceof AwsError ? `${error.code} ${error.message.split(' ')[0]}` : String(error);
    }
    return 'none';
  };
  for (const key of ['eniboot/cluster', 'a b', '.', '..', '_index'])
    assert.match(
      codeAndKey(() => run(ec2, nodes, tagged('Name', key))),
      `InvalidParameterValue '${key.split(' ')[0]}`,
    );
  assert.is(ec2.world.instances.size, 0);
  const hidden = run(ec2, nodes, {
    ...tagged('eniboot/cluster'),
    MetadataOptions: { InstanceMetadataTags: 'disabled' },
  });
  const shown = run(ec2, nodes, tagged('eniboot:cluster', 'a-Z_0+=,.@'));
  const create = (Resources: string[], Key: string) =>
    codeAndKey(() => ec2.send('CreateTags', { Resources, Tags: [{ Key, Value: 'x' }] }));
  assert.is(create([hidden], 'a/b'), 'none');
  assert.match(create([hidden, shown], 'c/d'), "InvalidParameterValue 'c/d'");
  assert.is(ec2.world.instances.get(hidden)?.tags.has('c/d'), false, 'all or nothing');
  assert.is(create([nodes], 'c/d'), 'none', 'tags of other resources may have any key');
  assert.is(takeRefused().length, 6);
  for (let at = 0; at < 48; at += 1) create([shown], `k${at}`);
  assert.is(create([shown], 'one-more'), 'TagLimitExceeded The');
});

test('virtual time moves on by itself while every task waits for it', async () => {
  const scheduler = virtualScheduler(0);
  const sleep = (ms: number): Promise<void> => new Promise((done) => scheduler.after(ms, done));
  const woken: number[] = [];
  for (const ms of [30, 10, 20])
    void sleep(ms)
      .then(() => sleep(1000))
      .then(() => woken.push(ms));
  await scheduler.run(() => woken.length === 3);
  assert.equal(woken, [10, 20, 30]);
  assert.is(scheduler.now(), 1030);
});

test.run();
