// The lock file of base images, by the command that an operator types, against the simulated EC2.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { BaseLock } from '../../agent/image/base-image.ts';
import { addImage } from '../aws/ec2/actions/images.ts';
import { startCloud } from '../aws/index.ts';
import { eniboot, operatorEnvironment } from '../cli/executable.ts';

const cloud = await startCloud();
const { world } = cloud.ec2;
const env = operatorEnvironment(cloud);
const folder = mkdtempSync(join(tmpdir(), 'eniboot-base-'));
const lock = join(folder, 'base.pkrvars.json');
test.after(async () => {
  rmSync(folder, { recursive: true });
  await cloud.stop();
});
const refresh = (...args: string[]) =>
  eniboot(['image', 'base', '--fedora', '44', '--lock', lock, ...args], { env });
const name = (cpu: string, rest: string) => `Fedora-Cloud-Base-AmazonEC2.${cpu}-${rest}`;

function publish(cpu: 'x86_64' | 'aarch64', rest: string, ownerId = '125523088429') {
  const image = addImage(world, {
    name: name(cpu, rest),
    architecture: cpu === 'aarch64' ? 'arm64' : 'x86_64',
    ownerId,
    readable: true,
  });
  // Each image is a millisecond younger than the one before.
  image.createdAt = Date.UTC(2026, 3, world.images.size);
  return image;
}

const x86 = [publish('x86_64', '44-1.5'), publish('x86_64', '44-1.6')];
// Images that a careless pattern would match: a prerelease, another release, another owner's, another CPU's.
publish('x86_64', '44-Prerelease-1.9');
publish('x86_64', '44_Beta-1.9');
publish('x86_64', '440-1.9');
publish('x86_64', '45-1.1');
publish('x86_64', '44-9.9', '999999999999');

test('one CPU without an image: nothing is copied, and the lock file is unchanged', async () => {
  writeFileSync(lock, 'as it was\n');
  const before = world.images.size;
  const { code, out } = await refresh('--json');
  assert.is(code, 1);
  assert.match(out, '"code":"BASE_IMAGE_MISSING"');
  assert.match(out, 'aarch64-44-');
  assert.is(readFileSync(lock, 'utf8'), 'as it was\n');
  assert.is(world.images.size, before);
});

test('the newest released image of each CPU, copied encrypted under its name, is in the lock file', async () => {
  const arm = publish('aarch64', '44-1.6');
  const { code, out, err } = await refresh('--json');
  assert.is(code, 0, err + out);
  const written = JSON.parse(readFileSync(lock, 'utf8')) as BaseLock;
  assert.equal(written, JSON.parse(out));
  assert.is(written.fedora_version, 44);
  for (const [arch, source] of [
    ['x86_64', x86[1]],
    ['arm64', arm],
  ] as const) {
    const entry = written.base_images[arch];
    const copy = world.images.get(entry.id);
    assert.is(entry.source, source?.id);
    assert.is(entry.name, source?.name);
    assert.is(copy?.name, source?.name);
    assert.is(copy?.ownerId, world.accountId);
    assert.is(copy?.snapshotId, entry.snapshot);
    assert.is(world.snapshots.get(entry.snapshot)?.encrypted, true);
    assert.is(entry.created, new Date(source?.createdAt ?? 0).toISOString());
  }
  assert.equal(readdirSync(folder), [basename(lock)], 'no other file is left');
});

test('a second run copies nothing; a newer image makes a new copy for its CPU only', async () => {
  const before = readFileSync(lock, 'utf8');
  const count = world.images.size;
  assert.match((await refresh()).err, /is a copy of ami-\w+ .* already/);
  assert.is(readFileSync(lock, 'utf8'), before);
  assert.is(world.images.size, count);
  const newer = publish('x86_64', '44-1.10');
  assert.match((await refresh()).out, /^x86_64: ami-\w+ is .*44-1\.10 of 2026-/);
  const [old, now] = [JSON.parse(before), JSON.parse(readFileSync(lock, 'utf8'))] as [BaseLock, BaseLock];
  assert.is(now.base_images.x86_64.source, newer.id);
  assert.equal(now.base_images.arm64, old.base_images.arm64);
});

test('a copy that is gone, or failed, is made again', async () => {
  const before = JSON.parse(readFileSync(lock, 'utf8')) as BaseLock;
  world.images.delete(before.base_images.arm64.id);
  const { code, out, err } = await eniboot(['image', 'base', '--fedora', '44', '--lock', lock], {
    env,
    timeoutMs: 20_000,
  });
  assert.is(code, 0, err + out);
  const now = JSON.parse(readFileSync(lock, 'utf8')) as BaseLock;
  assert.is(now.base_images.arm64.source, before.base_images.arm64.source);
  assert.ok(world.images.has(now.base_images.arm64.id));
});

test('a base image that its owner lets no other account copy can be named without a copy, with --no-copy', async () => {
  const before = readFileSync(lock, 'utf8');
  const closed = publish('aarch64', '44-1.10');
  const snapshot = world.snapshots.get(closed.snapshotId);
  if (snapshot !== undefined) snapshot.readable = false;
  const { code, out } = await refresh('--json');
  assert.is(code, 1);
  assert.match(out, '"code":"BASE_IMAGE_FORBIDDEN"');
  assert.match(out, 'image base --no-copy');
  assert.is(readFileSync(lock, 'utf8'), before);
  const count = world.images.size;
  const plain = await refresh('--no-copy');
  assert.is(plain.code, 0, plain.err);
  const { base_images } = JSON.parse(readFileSync(lock, 'utf8')) as BaseLock;
  assert.equal([base_images.arm64.id, base_images.arm64.source], [closed.id, closed.id]);
  assert.is(world.images.size, count);
  world.images.delete(closed.id);
  writeFileSync(lock, before);
});

test("a copy under a customer's key that may not be used fails with the reason", async () => {
  const before = readFileSync(lock, 'utf8');
  const newest = publish('aarch64', '44-1.10.1');
  world.defaultKey = 'arn:aws:kms:eu-west-1:123456789012:key/mine';
  cloud.faults.denied.add('kms:DescribeKey');
  const { code, out } = await refresh('--json');
  assert.is(code, 1);
  assert.match(out, '"code":"IMAGE_KEY_UNUSABLE"');
  assert.match(out, 'is failed (Given key ID is not accessible)');
  assert.is(readFileSync(lock, 'utf8'), before);
  cloud.faults.denied.delete('kms:DescribeKey');
  const [failed] = [...world.images.values()].filter((image) => image.state === 'failed');
  assert.is(failed?.name, newest.name);
  world.images.delete(failed?.id ?? '');
  assert.is((await refresh()).code, 0, 'with the key it is copied again');
  world.defaultKey = undefined;
  world.images.delete(newest.id);
  writeFileSync(lock, before);
});

test('a copy that is refused leaves the lock file unchanged', async () => {
  const before = readFileSync(lock, 'utf8');
  publish('aarch64', '44-1.11');
  cloud.faults.denied.add('CopyImage');
  const { code, out } = await refresh('--json');
  assert.is(code, 1);
  assert.match(out, 'CopyImage');
  assert.is(readFileSync(lock, 'utf8'), before);
});

test('wrong usage is refused before any call to AWS', async () => {
  cloud.calls.length = 0;
  for (const args of [[], ['--fedora', '44'], ['--lock', lock], ['--fedora', 'rawhide', '--lock', lock]])
    assert.is((await eniboot(['image', 'base', ...args], { env })).code, 2, args.join(' '));
  assert.equal(cloud.calls, []);
});

test.run();
