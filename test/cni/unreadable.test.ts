// time limit: 300 s
// A failed read is not taken for absence: no command frees an address, or leases it again, that a live pod may have.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { type Answer, bootPodNode, conf, type Pod, type PodNode, variablesOf } from './rig.ts';

let cloud: Cloud;
let node: PodNode;

test.before(async () => {
  cloud = await startCloud();
  node = await bootPodNode(cloud, { config: configText(cloud, 'pool: { target: 16, restSeconds: 0 }\n') });
});
test.after(() => cloud.stop());

function refuses(answer: Answer, code: number, says: RegExp): void {
  assert.is(answer.json?.code, code, answer.stdout + answer.stderr);
  assert.match(answer.json.msg, says, answer.stdout);
  assert.is.not(answer.exit, 0);
}

const del = ({ id, netns }: Pod) => node.cni('DEL', variablesOf(id, netns));
const leasesOf = async (id: string) =>
  (await node.leftovers()).filter((line) => line.startsWith('lease ') && line.includes(`,${id},`));

async function isWhole(pod: Pod): Promise<void> {
  const { exit, stdout } = await node.cni('CHECK', variablesOf(pod.id, pod.netns), {
    ...conf,
    prevResult: pod.result,
  });
  assert.is(exit, 0, stdout);
}

/** Commands that make reading a live pod's path fail, and commands that undo it. */
const astray: Record<
  string,
  { breaks: (path: string) => Promise<unknown>; mends: (path: string) => Promise<unknown> }
> = {
  ELOOP: {
    breaks: (path) =>
      node.sh(`mkdir -p /run/kept; touch /run/kept/ns; mount --bind ${path} /run/kept/ns
          umount ${path}; rm ${path}; ln -s ${path} ${path}`),
    mends: (path) =>
      node.sh(`rm ${path}; touch ${path}; mount --bind /run/kept/ns ${path}; umount /run/kept/ns`),
  },
  // Root may read any mode, and no disk here is broken. So strace injects the kernel's answer.
  ...Object.fromEntries(
    ['EACCES', 'EIO', 'ENOMEM'].map((error) => [
      error,
      {
        breaks: async (path: string) => node.trace('-P', path, '-e', `inject=%%stat:error=${error}`),
        mends: async () => node.trace(),
      },
    ]),
  ),
};

for (const [error, { breaks, mends }] of Object.entries(astray)) {
  test(`DEL of a pod whose namespace answers ${error} fails, and the address stays the pod's`, async () => {
    const pod = await node.addPod('lives');
    await breaks(pod.netns);
    try {
      refuses(await del(pod), 11, new RegExp(`NETNS_UNREADABLE: .*${pod.netns}.*${error}`));
      assert.is((await leasesOf('lives')).length, 1);
      assert.not.match(await node.sh('ls /run/eniboot/pool/cooling'), new RegExp(`^${pod.address},`, 'm'));
    } finally {
      await mends(pod.netns);
    }
    await isWhole(pod);
    const { exit, stdout } = await del(pod);
    assert.is(exit, 0, stdout);
    assert.equal(await node.leftovers(), []);
    await node.sh('ip netns del lives');
  });

  test(`ADD into a namespace that answers ${error} asks for another try, and leases nothing`, async () => {
    await node.sh('ip netns add later');
    await breaks('/run/netns/later');
    try {
      refuses(await node.cni('ADD', variablesOf('later', '/run/netns/later')), 11, /NETNS_UNREADABLE/);
    } finally {
      await mends('/run/netns/later');
    }
    assert.equal(await node.leftovers(), []);
    await node.sh('ip netns del later');
  });
}

test('an owner never has two leases: an ADD that cannot read its first lease gives it back', async () => {
  await node.sh('ip netns add once');
  // Only two addresses are left, so the next one is known.
  await node.sh(`mkdir -p /run/aside; cd /run/eniboot/pool; mv cooling/* /run/aside/
    ls free | sort -V | tail -n +3 | while read -r one; do mv "free/$one" /run/aside/; done`);
  const before = await node.sh('cd /run/eniboot/pool; ls free | sort -V');
  const [address, eni] = before.split(',');
  node.trace('-P', `/run/eniboot/pool/leased/${address},${eni},once,eth0`, '-e', 'inject=%%stat:error=EIO');
  try {
    refuses(await node.cni('ADD', variablesOf('once', '/run/netns/once')), 5, /FILE_WRITE: EIO/);
  } finally {
    node.trace();
  }
  assert.equal(await leasesOf('once'), []);
  assert.is(await node.sh('cd /run/eniboot/pool; ls free | sort -V'), before);
  await node.sh('mv /run/aside/* /run/eniboot/pool/cooling/');
});

test("DEL asks for another try when the kernel's answers get lost, and reports no defect", async () => {
  let met = 0;
  // One answer after the other is lost, as many as there are; the last ones only say that there are no more.
  for (let at = 1; at <= 30; at += 1) {
    const pod = await node.addPod(`lost${at}`);
    node.trace('-e', 'trace=recvfrom', '-e', `inject=recvfrom:error=EAGAIN:when=${at}`);
    const answer = await del(pod);
    node.trace();
    if (answer.exit !== 0) {
      met += 1;
      refuses(answer, 100, /KERNEL_CHANGE: not removed/);
      assert.is((await leasesOf(pod.id)).length, 1, `at answer ${at}`);
    }
    const { exit, stdout } = await del(pod);
    assert.is(exit, 0, stdout);
    assert.equal(await node.leftovers(), [], `at answer ${at}`);
    await node.sh(`ip netns del lost${at}`);
  }
  assert.ok(met >= 5, `${met} answers were lost`);
});

test.run();
