// time limit: 300 s
// Every command that writes, on a full disk: without a free byte, and, where it must write, without a free inode and read-only.
// It ends well, or with a code and a remedy, and never as a defect. It leaves no half-written file. With room again it succeeds.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { type Answer, bootPodNode, conf, type Pod, type PodNode, variablesOf } from '../cni/rig.ts';

let cloud: Cloud;
let node: PodNode;
let pod: Pod;

test.before(async () => {
  cloud = await startCloud();
  const extra = 'pool: { target: 32, restSeconds: 0 }\n';
  node = await bootPodNode(cloud, { config: configText(cloud, extra) });
  pod = await node.addPod('a');
  await node.sh('ip netns add b; mkdir -p /out');
});
test.after(() => cloud.stop());

const RUN = '/run/eniboot';

interface Row {
  command: string;
  /** The folder on the full disk. */
  folder: string;
  /** Shell commands before the disk is full, after which the command has to write. */
  first?: string;
  /** The code of the failure; absent when the command needs no room. */
  code?: string;
  /** The command takes seconds: it runs on one disk only. */
  slow?: true;
  run(): Promise<{ exitCode: number | null; stdout: string; stderr: string }>;
}

const eniboot =
  (...args: string[]) =>
  () =>
    node.eniboot(args);
const plugin = (command: string, name: string, more: () => object) => async () =>
  ended(await node.cni(command, variablesOf(name, `/run/netns/${name}`), { ...conf, ...more() }));
const ended = ({ exit, stdout, stderr }: Answer) => ({ exitCode: exit, stdout, stderr });
const none = () => ({});
const digest = '0'.repeat(64);

const rows: Row[] = [
  { command: 'boot', folder: RUN, first: `rm ${RUN}/node.json`, code: 'FILE_WRITE', run: eniboot('boot') },
  // On a disk that is full below /etc, a boot tries again until its deadline: test/boot/faults/host.ts.
  { command: 'boot', folder: '/var/lib/eniboot', run: eniboot('boot') },
  {
    command: 'repair',
    folder: RUN,
    first: `rm ${RUN}/node.json`,
    code: 'FILE_WRITE',
    run: eniboot('repair'),
  },
  {
    command: 'repair',
    folder: '/etc/cni/net.d',
    first: 'rm /etc/cni/net.d/*',
    code: 'FILE_WRITE',
    run: eniboot('repair'),
  },
  {
    command: 'pool refill',
    folder: RUN,
    first: `rm ${RUN}/node.json`,
    code: 'FILE_WRITE',
    run: eniboot('pool', 'refill'),
  },
  { command: 'pool refill', folder: '/var/lib/eniboot', run: eniboot('pool', 'refill') },
  { command: 'pool collect', folder: RUN, run: eniboot('pool', 'collect') },
  {
    command: 'update',
    folder: '/var/lib/eniboot',
    run: eniboot('update', '--version', '0.0.9', '--digests', digest),
  },
  { command: 'update', folder: RUN, run: eniboot('update', '--version', '0.0.9', '--digests', digest) },
  {
    command: 'support-bundle',
    folder: '/out',
    code: 'FILE_WRITE',
    run: eniboot('support-bundle', '--output', '/out/support.tar.gz'),
  },
  {
    command: 'bundle build',
    folder: '/out',
    slow: true,
    code: 'FILE_WRITE',
    // A copy: in other tests' nodes the files are links to one file, and for tar each new link changes the file.
    first: 'cp -r /usr/libexec/eniboot/0.1.0 /var/tmp/version',
    run: eniboot('bundle', 'build', '--from', '/var/tmp/version', '--out', '/out/bundle.tar.gz'),
  },
  { command: 'CNI ADD', folder: RUN, run: plugin('ADD', 'b', none) },
  { command: 'CNI DEL', folder: RUN, run: plugin('DEL', 'b', none) },
  { command: 'CNI CHECK', folder: RUN, run: plugin('CHECK', 'a', () => ({ prevResult: pod.result })) },
  {
    command: 'CNI GC',
    folder: RUN,
    run: plugin('GC', 'a', () => ({
      'cni.dev/valid-attachments': [{ containerID: 'a', ifname: 'eth0' }],
    })),
  },
];

/** Mounts a copy of the folder, on a disk of its own, over it. */
const disks: [what: string, fill: string][] = [
  ['no byte left', 'dd if=/dev/zero of=$folder/filler bs=4k 2>/dev/null || :'],
  ['no inode left', 'i=0; while touch $folder/filler$i 2>/dev/null; do i=$((i + 1)); done'],
  ['read-only', 'mount -o remount,ro $folder'],
];

const laid = (folder: string, fill: string) => `folder=${folder}; mkdir -p $folder
  size=$(($(du -sk $folder | cut -f1) + 256)); inodes=$(($(find $folder | wc -l) + 16))
  mkdir -p /mnt/copy; mount -t tmpfs -o size=\${size}k,nr_inodes=$inodes tmpfs /mnt/copy
  cp -a $folder/. /mnt/copy/; mount --move /mnt/copy $folder 2>/dev/null || { mount --bind /mnt/copy $folder; umount /mnt/copy; }
  ${fill}`;

/** Names, sizes and digests of all files below the folder, without the fillers. */
const look = (folder: string) =>
  node.sh(
    `cd ${folder}; find . -type f ! -name 'filler*' ! -path './calls*' -exec sha256sum {} + | sort -k2`,
  );

for (const { command, folder, first, code, slow, run } of rows)
  for (const [at, [what, fill]] of (code === undefined || slow === true
    ? disks.slice(0, 1)
    : disks
  ).entries())
    test(`${command}, ${folder}: ${what}`, async () => {
      // A copy of the folder: with it missing files are restored below.
      await node.sh(`rm -rf /keep; mkdir -p ${folder}; cp -a ${folder} /keep; ${first ?? ':'}`);
      await node.sh(laid(folder, fill));
      const before = await look(folder);
      try {
        const { exitCode, stdout, stderr } = await run();
        const said = `exit ${exitCode}: ${stdout}${stderr}`;
        assert.not.match(said, /INTERNAL|\n {4}at |"code":199/);
        assert.ok(exitCode === 0 || exitCode === 1, said);
        if (code !== undefined) {
          assert.is(exitCode, 1, said);
          assert.match(said, code);
          assert.match(said, /ENOSPC|EROFS|No space left|Read-only/);
          assert.match(said, /what to do|remedy|details/);
        }
        if (exitCode === 1) assert.match(said, /[A-Z]+_[A-Z]+/);
        const left = await node.sh(`find ${folder} -name '.*.tmp' -o -name '.*.tmp.*'`);
        assert.is(left, '', 'half written');
        for (const text of (
          await node.sh(`find ${folder} -name '*.json' -exec sh -c 'cat "$1" | tr -d "\\n"; echo' x {} \\;`)
        ).split('\n'))
          if (text !== '') JSON.parse(text);
        if (what === 'read-only') assert.is(await look(folder), before);
      } finally {
        // With room again the same command succeeds.
        await node.sh(
          `mount -o remount,rw ${folder}; rm -f ${folder}/filler*; mount -o remount,size=64m,nr_inodes=10000 ${folder}`,
        );
      }
      const again = code === undefined || at > 0 ? undefined : await run();
      if (again !== undefined) assert.is(again.exitCode, 0, again.stdout + again.stderr);
      await node.cni('DEL', variablesOf('b', '/run/netns/b'));
      await node.sh(
        `umount ${folder}; rm -rf ${folder}/..?* ${folder}/*; cp -a /keep/. ${folder}/; rm -f /out/*`,
      );
    });

test.run();
