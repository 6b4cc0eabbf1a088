// Other programs reload their settings on a READY node, as a package's scriptlet or an operator makes them do. Boot's settings
// persist, or repair restores them.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { bootPodNode, type PodNode } from '../cni/rig.ts';

const image = join(import.meta.dirname, '../../systemd/usr/lib/sysctl.d/90-eniboot.conf');

/** The command, and whether it undoes settings that only repair restores. */
const reloads: [what: string, script: string, repaired?: true][] = [
  ['sysctl --system', 'sysctl --system'],
  ['sysctl of one file of the image', 'sysctl -p /etc/sysctl.d/90-eniboot.conf || :', true],
  ['nftables.service of the distribution, reloaded', "printf 'flush ruleset\\n' | nft -f -", true],
  [
    'policy rules flushed, as systemd-networkd does with those it does not know',
    'ip rule del priority 512',
    true,
  ],
];

let cloud: Cloud;
let node: PodNode;

test.before(async () => {
  cloud = await startCloud();
  node = await bootPodNode(cloud);
  // The sysctl file as it is in the image.
  node.instance.write('/etc/sysctl.d/90-eniboot.conf', readFileSync(image, 'utf8'));
  await node.addPod('a');
});
test.after(() => cloud.stop());

for (const [what, script, repaired] of reloads)
  test(`${what}: ${repaired === true ? 'repair restores what it undoes' : 'nothing is undone'}`, async () => {
    await node.sh(`{ ${script}; } >/dev/null 2>&1`);
    const found = await node.eniboot(['repair']);
    assert.is(found.exitCode, 0, found.stderr);
    if (repaired !== true) assert.is(found.stdout, 'nothing to repair\n');
    else assert.not.match(found.stdout, /nothing to repair/);
    assert.is(await node.fetch('a', cloud.internet.curlTarget), node.instance.bootEni.publicIp);
  });

test.run();
