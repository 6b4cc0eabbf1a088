// The requests of an image build to the simulated EC2, in the shapes of AWS's SDK.
import { createPublicKey } from 'node:crypto';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { addImage, buildLeftovers, KEY_PERMISSIONS } from './ec2/actions/images.ts';
import { AwsError, createEc2, virtualScheduler } from './index.ts';

const images = suite('images');

function region() {
  const scheduler = virtualScheduler();
  const ec2 = createEc2({ scheduler, subnets: [{ cidr: '10.0.0.0/24', zone: 'eu-west-1a' }] });
  const base = addImage(ec2.world, { name: 'base', architecture: 'x86_64', ownerId: '125523088429' });
  // Each caller declares the type of its answer.
  const send = (action: string, request: object) => ec2.send(action, request) as never;
  return { ec2, world: ec2.world, scheduler, base, send };
}

function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (error instanceof AwsError) return error.code;
    throw error;
  }
  return 'accepted';
}

images(
  'a key pair is Ed25519, private key and public line belong together, and its name is taken once',
  () => {
    const { world, send } = region();
    const made: { KeyMaterial: string } = send('CreateKeyPair', { KeyName: 'k', KeyType: 'ed25519' });
    const raw = Buffer.from(createPublicKey(made.KeyMaterial).export({ format: 'jwk' }).x ?? '', 'base64url');
    const line = world.keyPairs.get('k')?.publicKey.split(' ')[1] ?? '';
    assert.equal(Buffer.from(line, 'base64').subarray(-32).toString('hex'), raw.toString('hex'));
    assert.is(
      codeOf(() => send('CreateKeyPair', { KeyName: 'k', KeyType: 'ed25519' })),
      'InvalidKeyPair.Duplicate',
    );
    send('DeleteKeyPair', { KeyName: 'k' });
    send('DeleteKeyPair', { KeyName: 'k' });
    assert.is(world.keyPairs.size, 0);
  },
);

images('a security group in use is not deleted', () => {
  const { world, send, scheduler, base } = region();
  const group: { GroupId: string } = send('CreateSecurityGroup', {
    GroupName: 'g',
    Description: 'of a build',
    VpcId: world.vpc.id,
  });
  const subnet = [...world.subnets.keys()][0];
  const run: { Instances: { InstanceId: string }[] } = send('RunInstances', {
    ImageId: base.id,
    MinCount: 1,
    MaxCount: 1,
    InstanceType: 'm5.large',
    NetworkInterfaces: [{ DeviceIndex: 0, SubnetId: subnet, Groups: [group.GroupId] }],
  });
  const ids = { InstanceIds: [run.Instances[0]?.InstanceId ?? ''] };
  assert.is(
    codeOf(() => send('DeleteSecurityGroup', { GroupId: group.GroupId })),
    'DependencyViolation',
  );
  assert.is(buildLeftovers(world).length, 2, 'the instance and the group');
  send('TerminateInstances', ids);
  scheduler.advance(1000);
  send('DeleteSecurityGroup', { GroupId: group.GroupId });
  assert.equal(buildLeftovers(world), []);
});

images(
  'an image: its name is taken once, its copy is encrypted, a protected one and a used snapshot stay',
  () => {
    const { ec2, world, send, base, scheduler } = region();
    const events: string[] = [];
    ec2.subscribe((event) => {
      if (event.kind === 'image') events.push(event.from);
    });
    const run: { Instances: { InstanceId: string }[] } = send('RunInstances', {
      ImageId: base.id,
      MinCount: 1,
      MaxCount: 1,
      InstanceType: 'm5.large',
      SubnetId: [...world.subnets.keys()][0],
    });
    const InstanceId = run.Instances[0]?.InstanceId ?? '';
    assert.is(
      codeOf(() => send('CreateImage', { InstanceId, Name: 'image-a' })),
      'InvalidParameterValue',
      'the image is pending',
    );
    scheduler.advance(1);
    const first: { ImageId: string } = send('CreateImage', { InstanceId, Name: 'image-a' });
    assert.is(
      codeOf(() => send('CreateImage', { InstanceId, Name: 'image-a' })),
      'InvalidAMIName.Duplicate',
    );
    const fromIt = {
      ImageId: first.ImageId,
      MinCount: 1,
      MaxCount: 1,
      SubnetId: [...world.subnets.keys()][0],
    };
    assert.is(
      codeOf(() => send('RunInstances', fromIt)),
      'InvalidAMIID.Unavailable',
      'the copy is pending, too',
    );
    scheduler.advance(1);
    const copy: { ImageId: string } = send('CopyImage', {
      SourceImageId: first.ImageId,
      SourceRegion: 'eu-west-1',
      Name: 'image-b',
      Encrypted: true,
    });
    assert.equal(events, [InstanceId, first.ImageId]);
    const own: { Images: { Name: string }[] } = send('DescribeImages', { Owners: ['self'] });
    assert.equal(
      own.Images.map((one) => one.Name),
      ['image-a', 'image-b'],
    );
    const snapshot = world.images.get(copy.ImageId)?.snapshotId ?? '';
    assert.is(world.snapshots.get(snapshot)?.encrypted, true);
    assert.is(
      codeOf(() => send('DeleteSnapshot', { SnapshotId: snapshot })),
      'InvalidSnapshot.InUse',
    );
    send('EnableImageDeregistrationProtection', { ImageId: copy.ImageId, WithCooldown: true });
    assert.is(
      codeOf(() => send('DeregisterImage', { ImageId: copy.ImageId })),
      'OperationNotPermitted',
    );
    send('DisableImageDeregistrationProtection', { ImageId: copy.ImageId });
    assert.is(
      codeOf(() => send('DeregisterImage', { ImageId: copy.ImageId })),
      'OperationNotPermitted',
      'the cooldown takes a day',
    );
    scheduler.advance(24 * 3_600_000);
    send('DeregisterImage', { ImageId: copy.ImageId });
    assert.ok(buildLeftovers(world).includes(`snapshot ${snapshot} of no image`));
    send('DeleteSnapshot', { SnapshotId: snapshot });
    assert.is(
      codeOf(() => send('DescribeImages', { ImageIds: [copy.ImageId] })),
      'InvalidAMIID.NotFound',
    );
  },
);

images('every account may launch a shared image, and copy it only where its snapshot may be read', () => {
  const { send, base, world } = region();
  const copy = { SourceImageId: base.id, SourceRegion: 'eu-west-1', Name: 'copy' };
  const launch = { ImageId: base.id, MinCount: 1, MaxCount: 1, SubnetId: [...world.subnets.keys()][0] };
  assert.is(
    codeOf(() => send('RunInstances', launch)),
    'accepted',
  );
  assert.is(
    codeOf(() => send('CopyImage', copy)),
    'InvalidRequest',
  );
  const snapshot = world.snapshots.get(base.snapshotId);
  if (snapshot !== undefined) snapshot.readable = true;
  assert.is(
    codeOf(() => send('CopyImage', copy)),
    'accepted',
  );
});

for (const permission of KEY_PERMISSIONS)
  images(`without ${permission} a customer's key ends launches and copies, later and not at once`, () => {
    const { ec2, send, world, scheduler } = region();
    const own = addImage(world, { name: 'own', architecture: 'x86_64', keyId: 'arn:aws:kms:…:key/mine' });
    ec2.denied.add(permission);
    const run: { Instances: { InstanceId: string }[] } = send('RunInstances', {
      ...{ ImageId: own.id, MinCount: 1, MaxCount: 1, SubnetId: [...world.subnets.keys()][0] },
    });
    const copy: { ImageId: string } = send('CopyImage', {
      ...{ SourceImageId: own.id, SourceRegion: 'eu-west-1', Name: 'copy', Encrypted: true },
    });
    scheduler.advance(1);
    const instance = world.instances.get(run.Instances[0]?.InstanceId ?? '');
    assert.equal([instance?.state, instance?.stateReason?.Code], ['terminated', 'Client.InternalError']);
    assert.is(world.images.get(copy.ImageId)?.state, 'failed');
  });

images.run();
