// A unit or a root shell may have UMask=0077: the files of a boot have the same readers as with any other umask.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { ENIBOOT, launchNode } from './node.ts';

let cloud: Cloud;
test.before(async () => {
  cloud = await startCloud();
});
test.after(() => cloud.stop());

/** Mode and path of each file and folder. Addresses and IDs in paths differ between nodes and are replaced by `…`. */
async function modesAfterBoot(umask: string): Promise<string[]> {
  const node = await launchNode(cloud, { podEnis: 0 });
  const script = `umask ${umask}; exec ${ENIBOOT} boot --json`;
  const booted = await node.instance.run('sh', ['-c', script], { timeoutMs: 60_000 });
  assert.is(booted.exitCode, 0, booted.stderr);
  const folders = [
    '/etc/cni',
    '/etc/crio',
    '/etc/kubernetes',
    '/run/eniboot',
    '/var/lib/eniboot',
    '/run/NetworkManager',
  ];
  const found = await node.instance.run('find', [...folders, '!', '-type', 'l', '-printf', '%m %p\n']);
  const lines = found.stdout
    .trim()
    .split('\n')
    .map((line) => line.replace(/eni-[0-9a-f]+|i-[0-9a-f]+|\d+\.\d+\.\d+\.\d+(?:_\d+)?|,\d+$/g, '…'));
  return [...new Set(lines)].sort();
}

test('files and folders of a boot have the same modes under umask 077 as under 022', async () => {
  const usual = await modesAfterBoot('022');
  assert.ok(
    usual.some((line) => line.startsWith('644 ') && line.endsWith('10-eniboot.conflist')),
    usual.join('\n'),
  );
  assert.equal(await modesAfterBoot('077'), usual);
});

test.run();
