// What happens to builds, and what must hold after each: an image with everything that was asked of it and nothing
// else left in the account, or no image, nothing left, and a message that names the cause.
import assert from 'node:assert/strict';
import { appendFileSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Cloud } from '../aws/index.ts';
import type { Built, Change } from './run.ts';

export interface Workshop {
  cloud: Cloud;
  build(change?: Change): Promise<Built>;
  /** By instance ID: folder with the changes (`upper`) that its disk has over the base image's. */
  disks: Map<string, string>;
  leftovers(): Promise<string[]>;
}

export interface AmiCase {
  name: string;
  title: string;
  /** Part of `--quick`. */
  quick?: true;
  /** A kernel module that the build instance lacks. */
  missingModule?: string;
  check(shop: Workshop): Promise<void>;
}

export const cases: readonly AmiCase[] = [
  {
    name: 'good-build',
    title: 'an image with tags, protection, deprecation, IMDSv2, encryption; nothing else is left',
    quick: true,
    check: goodBuild,
  },
  {
    name: 'wrong-digest',
    title: 'a bundle that is not the one that was built',
    quick: true,
    check: (shop) =>
      refused(shop, /the bundle that arrived is not the one that was built/, {
        edit: (tree) => appendFileSync(join(tree, 'dist', bundleIn(tree)), 'x'),
      }),
  },
  {
    name: 'wrong-agent-digest',
    title: 'an SSM agent that is not the pinned one',
    check: (shop) => {
      const sha256 = { x86_64: '0'.repeat(64), arm64: '0'.repeat(64) };
      return refused(shop, /is not the file whose digest ssm_agent names/, {
        variables: { ssm_agent: { version: '3.3.3050.0', sha256 } },
      });
    },
  },
  {
    name: 'wrong-key',
    title: 'a repository signed by another key',
    check: (shop) =>
      refused(shop, /has the fingerprint [0-9A-F]{40}, and key_fingerprints asks for A{40}/, {
        variables: {
          key_fingerprints: { kubernetes: 'A'.repeat(40), crio: 'A'.repeat(40), ssm_agent: 'A'.repeat(40) },
        },
      }),
  },
  {
    name: 'missing-module',
    title: 'a kernel without ipvlan',
    missingModule: 'ipvlan',
    check: (shop) => refused(shop, /cannot load ipvlan/),
  },
  {
    name: 'interrupted',
    title: 'Packer interrupted while it provisions',
    check: (shop) => refused(shop, /cancel|interrupt/i, { interruptAt: /scripts\/20-packages\.sh/ }),
  },
  {
    name: 'throttled',
    title: 'an API that throttles: slower, and still an image',
    check: async (shop) => {
      for (const action of ['RunInstances', 'CreateImage', 'DescribeInstances'])
        shop.cloud.faults.ec2.add({ action, error: 'RequestLimitExceeded', status: 503, times: 2 });
      await goodBuild(shop);
    },
  },
  {
    name: 'denied',
    title: 'a role that may not make an image',
    check: (shop) => {
      shop.cloud.faults.denied.add('CreateImage');
      return refused(shop, /not authorized to perform this operation/);
    },
  },
];

async function goodBuild({ cloud, build, disks, leftovers }: Workshop): Promise<void> {
  const { status, said, folder } = await build();
  assert.equal(status, 0, tail(said));
  const image = ownImages(cloud)[0];
  assert.ok(image !== undefined, 'no image');
  assert.equal(ownImages(cloud).length, 1, 'one image, and the unencrypted one is gone');
  const manifest = JSON.parse(readFileSync(join(folder, '../dist/manifest.json'), 'utf8')) as {
    version: string;
    commit: string;
    files: Record<string, { sha256: string }>;
  };
  assert.equal(image.tags.get('eniboot/commit'), manifest.commit);
  assert.equal(image.tags.get('eniboot/executable'), manifest.files['x64/eniboot']?.sha256);
  assert.match(image.tags.get('eniboot/base') ?? '', /^ami-/);
  assert.equal(image.imdsV2, true, 'IMDSv2 is required');
  assert.equal(image.protected, true, 'protected against deregistration');
  assert.ok(Date.parse(image.deprecateAt ?? '') > Date.now() + 100 * 86_400_000, 'deprecated in 120 days');
  assert.equal(cloud.ec2.world.snapshots.get(image.snapshotId)?.encrypted, true, 'encrypted');
  assert.deepEqual(await leftovers(), []);

  const [disk = ''] = [...disks.values()].map((one) => join(one, 'upper'));
  assert.ok(exists(join(disk, 'usr/libexec/eniboot', manifest.version, 'eniboot')));
  assert.ok(exists(join(disk, 'usr/lib/systemd/system/eniboot.service')));
  assert.ok(exists(join(disk, 'etc/systemd/system/multi-user.target.wants/eniboot.service')));
  assert.ok(!exists(join(disk, 'etc/systemd/system/multi-user.target.wants/kubelet.service')));
  assert.ok(!exists(join(disk, 'home/fedora/.ssh/authorized_keys')), "no key of the build's");
  assert.deepEqual(
    readdirSync(join(disk, 'etc/ssh')).filter((name) => name.startsWith('ssh_host_')),
    [],
  );
  const lock = readFileSync(join(folder, 'out/packages-x86_64.lock'), 'utf8');
  assert.match(lock, /^kubelet-(0:)?1\.36\.1-1\.noarch [0-9a-f]{64}$/m);
}

async function refused({ cloud, build, leftovers }: Workshop, says: RegExp, change?: Change): Promise<void> {
  const { status, said } = await build(change);
  assert.notEqual(status, 0, 'the build succeeded');
  assert.match(said, says, tail(said));
  assert.deepEqual(ownImages(cloud), [], 'no image');
  assert.deepEqual(await leftovers(), []);
}

/** What builds have made: the base image was there before. */
function ownImages(cloud: Cloud) {
  return [...cloud.ec2.world.images.values()].filter((one) => !one.name.startsWith('Fedora-'));
}

/** A link counts whatever it leads to: those of units lead into the image, not into this machine. */
function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function bundleIn(tree: string): string {
  return readdirSync(join(tree, 'dist')).find((name) => name.endsWith('-x64.tar.gz')) ?? '';
}

function tail(said: string): string {
  return said.split('\n').slice(-25).join('\n');
}
