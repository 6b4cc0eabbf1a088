// The events of builds, and the conditions after each: an image with everything that was asked for and nothing else left in the
// account; or no image, nothing left, and a message that names the cause.
import assert from 'node:assert/strict';
import { appendFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { BootTestResult } from '../../agent/image/boot-test.ts';
import type { ListedImage } from '../../agent/image/release-image.ts';
import { addImage } from '../aws/ec2/actions/images.ts';
import type { Cloud } from '../aws/index.ts';
import type { Ended } from '../cli/executable.ts';
import type { Disk, Report } from './machines.ts';
import type { Built, Change } from './run.ts';
import { differences } from './tree.ts';

export interface Workshop {
  cloud: Cloud;
  build(change?: Change): Promise<Built>;
  /** Disks of build instances, by instance ID. */
  disks: Map<string, Disk>;
  /** Reports of an image's nodes before they are terminated, by instance ID; only virtual machines report. */
  booted: Map<string, Report>;
  /** The factor by which time limits are longer than with namespaces. */
  slowness: number;
  leftovers(): Promise<string[]>;
  /** The executable, as an operator runs it. */
  eniboot(...args: string[]): Promise<Ended>;
  /** A node's configuration, with the addresses of the simulated APIs. */
  userData: string;
  /** Facts that a case has found out, for the evidence. */
  facts: Record<string, string | number>;
}

export interface AmiCase {
  name: string;
  title: string;
  /** Part of `--quick`. */
  quick?: true;
  /** The kind of its instances; default namespaces. */
  machines?: 'vms';
  /** A kernel module that the build instance does not have. */
  missingModule?: string;
  check(shop: Workshop): Promise<unknown>;
}

export const cases: readonly AmiCase[] = [
  {
    name: 'good-build',
    title: 'an image with tags, protection, deprecation, IMDSv2, encryption; nothing else is left',
    quick: true,
    check: (shop) => goodBuild(shop),
  },
  {
    name: 'whole-way',
    title:
      'build, check, boot test of the registered image, publish, promote; then nothing but the image is there',
    quick: true,
    check: (shop) => wholeWay(shop),
  },
  {
    name: 'vm',
    title:
      'the whole build in virtual machines: sshd, systemd and kernel of their own, a node of the resulting disk',
    machines: 'vms',
    check: inMachines,
  },
  {
    name: 'never-ready',
    title: 'an image whose node does not report, and one whose boot fails: neither is published',
    check: neverReady,
  },
  {
    name: 'same-twice',
    title: 'two builds of one commit: their disks differ only in the paths of packer/may-differ.json',
    check: sameTwice,
  },
  {
    name: 'wrong-digest',
    title: 'another bundle than the one that was built',
    quick: true,
    check: (shop) =>
      refused(shop, /the bundle that arrived is not the one that was built/, {
        edit: (tree) => appendFileSync(join(tree, 'dist', bundleIn(tree)), 'x'),
      }),
  },
  {
    name: 'wrong-node-files',
    title: 'other node files than those that were built',
    check: (shop) =>
      refused(shop, /the archive of node files that arrived is not the one that was built/, {
        edit: (tree) => appendFileSync(join(tree, 'dist/node-files.tar'), 'x'),
      }),
  },
  {
    name: 'wrong-agent-digest',
    title: 'another SSM agent than the pinned one',
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
    name: 'unit-cycle',
    title: 'a unit of the image that makes an ordering cycle with the agent',
    check: (shop) =>
      unfit(shop, 'unit-graph', /ordering cycle/i, (tree) =>
        appendFileSync(
          join(tree, 'packer/scripts/50-host.sh'),
          `mkdir -p /usr/lib/systemd/system/eniboot.service.d
printf '[Unit]\\nAfter=kubelet.service\\n' >/usr/lib/systemd/system/eniboot.service.d/late.conf\n`,
        ),
      ),
  },
  {
    name: 'dirty-image',
    title: "a machine ID, a host key, a DHCP lease and the build's own SSH key that stay in the image",
    check: (shop) =>
      unfit(
        shop,
        'hygiene',
        /machine-id, \/etc\/ssh\/ssh_host_rsa_key, \/var\/lib\/dhcpcd\/ens5\.lease, \/home\/fedora\/\.ssh\/authorized_keys/,
        (tree) =>
          appendFileSync(
            join(tree, 'packer/scripts/80-clean.sh'),
            'for left in machine-id ssh/ssh_host_rsa_key; do echo x >"/etc/$left"; done; echo x >/home/fedora/.ssh/authorized_keys; mkdir -p /var/lib/dhcpcd; echo x >/var/lib/dhcpcd/ens5.lease\n',
          ),
      ),
  },
  {
    name: 'interrupted',
    title: 'Packer interrupted while it provisions',
    check: (shop) => refused(shop, /cancel|interrupt/i, { interruptAt: /scripts\/20-packages\.sh/ }),
  },
  {
    name: 'throttled',
    title: 'an API that throttles: the build is slower and makes an image',
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

async function goodBuild({ cloud, build, disks, leftovers }: Workshop, change?: Change): Promise<void> {
  const { status, said, folder } = await build(change);
  assert.equal(status, 0, tail(said));
  const image = ownImages(cloud)[0];
  assert.ok(image !== undefined, 'no image');
  assert.equal(ownImages(cloud).length, 1, 'one image is left, and the unencrypted one is gone');
  const manifest = JSON.parse(readFileSync(join(folder, '../dist/manifest.json'), 'utf8')) as {
    version: string;
    commit: string;
    files: Record<string, { sha256: string }>;
  };
  assert.equal(image.tags.get('eniboot:commit'), manifest.commit);
  assert.equal(image.tags.get('eniboot:executable'), manifest.files['x64/eniboot']?.sha256);
  assert.match(image.tags.get('eniboot:base') ?? '', /^ami-/);
  assert.equal(image.imdsV2, true, 'IMDSv2 is required');
  assert.equal(image.protection, 'enabled-with-cooldown', 'protected against deregistration');
  assert.ok(Date.parse(image.deprecateAt ?? '') > Date.now() + 100 * 86_400_000, 'deprecated in 120 days');
  assert.equal(cloud.ec2.world.snapshots.get(image.snapshotId)?.encrypted, true, 'encrypted');
  assert.deepEqual(await leftovers(), []);
  const report = readReport(folder);
  assert.equal(report.fit, true);
  assert.deepEqual(
    report.checks.filter(({ result }) => result === 'skip').map(({ id }) => id),
    ['verdict', 'runtime', 'machine-id', 'forwarding', 'boot-jobs', 'selinux-denials', 'failed-units'],
    'checks that need a boot are no pass',
  );

  const [disk] = [...disks.values()];
  const has = async (path: string) => (await disk?.names(dirname(path)))?.includes(basename(path));
  assert.ok(await has(`/usr/libexec/eniboot/${manifest.version}/eniboot`));
  assert.ok(await has('/usr/lib/systemd/system/eniboot.service'));
  assert.ok(await has('/etc/systemd/system/multi-user.target.wants/eniboot.service'));
  assert.ok(await has('/etc/systemd/system/multi-user.target.wants/crio.service'));
  assert.ok(!(await has('/etc/systemd/system/multi-user.target.wants/kubelet.service')));
  assert.ok(!(await has('/home/fedora/.ssh/authorized_keys')), "no key of the build's");
  const ofSsh = (await disk?.names('/etc/ssh')) ?? [];
  assert.deepEqual(
    ofSsh.filter((name) => name.startsWith('ssh_host_')),
    [],
  );
  const lock = readFileSync(join(folder, 'out/packages-x86_64.lock'), 'utf8');
  assert.match(lock, /^kubelet-(0:)?1\.36\.1-1\.noarch [0-9a-f]{64}$/m);
}

/** Files that these instances have of their own, unlike any image's: addresses, and this test's packages. */
const OF_THE_STAND_IN = ['/etc/hosts'];

async function sameTwice({ build, disks }: Workshop): Promise<void> {
  let folder = '';
  for (let round = 0; round < 2; round++) {
    const built = await build();
    assert.equal(built.status, 0, tail(built.said));
    folder = built.folder;
  }
  const [first = '', second = ''] = [...disks.values()].map(({ folder }) => join(folder, 'upper'));
  const may = JSON.parse(readFileSync(join(folder, 'may-differ.json'), 'utf8')) as { path: string }[];
  const except = [...may.map(({ path }) => path), ...OF_THE_STAND_IN];
  assert.deepEqual(differences(first, second, except), []);
}

/** The base images are those in the lock file of `eniboot image base`. */
async function inMachines(shop: Workshop): Promise<void> {
  const { cloud, eniboot, userData, booted, facts } = shop;
  for (const [cpu, architecture] of [
    ['x86_64', 'x86_64'],
    ['aarch64', 'arm64'],
  ] as const)
    addImage(cloud.ec2.world, {
      name: `Fedora-Cloud-Base-AmazonEC2.${cpu}-44-1.7`,
      architecture,
      ownerId: '125523088429',
      readable: true,
    });
  const lock = join(userData, '../base.pkrvars.json');
  const done = await eniboot('image', 'base', '--fedora', '44', '--lock', lock);
  assert.equal(done.code, 0, done.err);
  const variables = JSON.parse(readFileSync(lock, 'utf8')) as Record<string, unknown>;
  await wholeWay(shop, { variables });
  const [checked] = [...booted.values()];
  assert.equal(booted.size, 1, 'one node has reported its check');
  assert.ok(checked?.fit, JSON.stringify(checked?.checks.filter(({ result }) => result === 'fail')));
  const passed = checked.checks.filter(({ result }) => result === 'pass');
  facts['image check --booted passes'] = passed.map(({ id }) => id).join(' ');
}

async function wholeWay(shop: Workshop, change?: Change): Promise<void> {
  const { cloud, eniboot, leftovers, facts } = shop;
  const started = performance.now();
  await goodBuild(shop, change);
  facts['seconds of the build'] = Math.round((performance.now() - started) / 1000);
  const [image] = ownImages(cloud);
  assert.ok(image !== undefined);
  const tested = await bootTestOf(shop, image.id);
  assert.equal(tested.code, 0, tested.err + tested.out);
  const report = JSON.parse(tested.out) as BootTestResult;
  assert.equal(report.verdict, 'ready');
  facts['seconds from launch to READY'] = report.seconds;
  assert.equal(report.version, image.tags.get('eniboot:version'));
  assert.equal(report.status?.['verdict'], 'ready', report.statusMissing);
  assert.match(image.tags.get('eniboot:boot-test') ?? '', /^passed@/);
  for (const verb of ['publish', 'promote']) {
    const done = await eniboot('image', verb, image.id, '--zone', report.zoneId ?? 'missing');
    assert.equal(done.code, 0, done.err);
  }
  const { images } = JSON.parse((await eniboot('image', 'list', '--json')).out) as { images: ListedImage[] };
  assert.deepEqual(
    images.map((one) => [one.imageId, one.zones]),
    [[image.id, [{ zoneId: report.zoneId, labels: ['candidate', 'stable'] }]]],
  );
  assert.deepEqual(await leftovers(), []);
}

async function neverReady(shop: Workshop): Promise<void> {
  const { cloud, build, eniboot, leftovers } = shop;
  const { status, said } = await build();
  assert.equal(status, 0, tail(said));
  const [image] = ownImages(cloud);
  assert.ok(image !== undefined);
  const unpublished = async (): Promise<void> => {
    const zone = [...cloud.subnets.values()][0]?.zoneId ?? '';
    const published = await eniboot('image', 'publish', image.id, '--zone', zone, '--json');
    assert.match(published.out, /"code":"IMAGE_UNTESTED"/);
    assert.equal(cloud.ssm.parameters.size, 0);
    assert.deepEqual(await leftovers(), []);
  };
  // No subnet is for pods, so the boot fails at once and permanently. A refused call would be tried until the deadline.
  for (const subnet of cloud.subnets.values()) subnet.tags.delete('eniboot');
  const failed = await bootTestOf(shop, image.id);
  assert.equal(failed.code, 1, failed.out);
  assert.match(failed.out, /"code":"IMAGE_TEST_FAILED"/);
  assert.match(image.tags.get('eniboot:boot-test') ?? '', /^failed:\w+@/);
  await unpublished();
  image.tags.delete('eniboot:boot-test');
  writeFileSync(join(shop.userData, '../never-boots'), '');
  const silent = await bootTestOf(shop, image.id, '--timeout', '60');
  assert.equal(silent.code, 1, silent.out);
  assert.match(silent.out, /no verdict after 6\d s/);
  await unpublished();
}

function bootTestOf({ cloud, eniboot, userData, slowness }: Workshop, imageId: string, ...more: string[]) {
  const subnet = [...cloud.subnets.keys()][0] ?? '';
  const where = ['--subnet', subnet, '--user-data', userData, '--profile', 'node'];
  const timeout = ['--timeout', String(120 * slowness)];
  return eniboot('image', 'boot-test', imageId, ...where, '--json', ...timeout, ...more);
}

async function refused({ cloud, build, leftovers }: Workshop, says: RegExp, change?: Change): Promise<Built> {
  const built = await build(change);
  const { status, said } = built;
  assert.notEqual(status, 0, 'the build succeeded');
  assert.match(said, says, tail(said));
  assert.deepEqual(ownImages(cloud), [], 'no image');
  assert.deepEqual(await leftovers(), []);
  return built;
}

/** The provisioners succeed, and the check names this fault. */
async function unfit(shop: Workshop, id: string, says: RegExp, edit: (tree: string) => void): Promise<void> {
  const { folder } = await refused(shop, /a check above says FAIL: no image is made/, { edit });
  const report = readReport(folder);
  assert.equal(report.fit, false);
  const failing = report.checks.filter(({ result }) => result === 'fail');
  assert.deepEqual(
    failing.map((one) => one.id),
    [id],
    JSON.stringify(failing),
  );
  assert.match(failing[0]?.summary ?? '', says);
}

function readReport(folder: string): Report {
  return JSON.parse(readFileSync(join(folder, 'out/check-x86_64.json'), 'utf8')) as Report;
}

/** Images that builds have made: the base image was there before. */
function ownImages(cloud: Cloud) {
  return [...cloud.ec2.world.images.values()].filter((one) => !one.name.startsWith('Fedora-'));
}

function bundleIn(tree: string): string {
  return readdirSync(join(tree, 'dist')).find((name) => name.endsWith('-x64.tar.gz')) ?? '';
}

function tail(said: string): string {
  return said.split('\n').slice(-25).join('\n');
}
