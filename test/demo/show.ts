// The demo itself, inside the sandbox.
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import type { Status } from '../../agent/boot/verdict/status.ts';
import { realisticLatency, startCloud } from '../aws/index.ts';
import { ENIBOOT, launchNode } from '../boot/node.ts';
import { STAND_IN_BUILD } from '../build/stand-in.ts';
import { kernelHasIpvlan, podNode, variablesOf } from '../cni/rig.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean' },
    keep: { type: 'boolean' },
    type: { type: 'string', default: 'm5.xlarge' },
  },
});
const colour = process.stdout.isTTY === true && process.env['NO_COLOR'] === undefined;
const bold = (text: string) => (colour ? `\u001b[1m${text}\u001b[0m` : text);
const say = (text: string) => {
  if (values.json !== true) process.stdout.write(`${text}\n`);
};

interface Proof {
  what: string;
  holds: boolean;
  seen: string;
}
const proofs: Proof[] = [];
function prove(what: string, holds: boolean, seen: string): void {
  proofs.push({ what, holds, seen });
  const mark = holds
    ? colour
      ? '\u001b[32myes\u001b[0m'
      : 'yes'
    : colour
      ? '\u001b[31mNO\u001b[0m '
      : 'NO ';
  say(`  ${mark}  ${what}\n       ${seen}`);
}

const started = performance.now();
const cloud = await startCloud({ latency: realisticLatency });
const real = kernelHasIpvlan();
const node = await launchNode(cloud, { type: values.type, ...(real ? {} : { built: STAND_IN_BUILD }) }).catch(
  (error: unknown) => {
    // Of an instance type that EC2 does not have, for example.
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    return process.exit(2);
  },
);
const { instance } = node;
const bootAddress = instance.bootEni.primaryIp;
const publicAddress = instance.bootEni.publicIp;
say(bold(`\nA simulated ${cloud.region} is up; ${instance.id} (${instance.type}) has powered on.`));
say(`  boot ENI ${instance.bootEni.id}, ${bootAddress}, public ${publicAddress}; no pod ENI yet\n`);
say(bold('$ eniboot boot'));
const before = addressesOfBootEni();
await new Promise<void>((resolve) => {
  const child = instance.spawn(ENIBOOT, ['boot'], {
    stdio: ['ignore', values.json === true ? 'ignore' : 'inherit', 'inherit'],
  });
  child.on('close', () => resolve());
});
const status = JSON.parse(instance.read('/run/eniboot/status.json') ?? '{}') as Status;

say(bold('\nProven from outside:'));
prove(
  'the node is READY, with a pod ENI and its addresses',
  status.verdict === 'ready',
  instance.consoleLog().trim(),
);
prove(
  'kubelet is released only now',
  node.kubeletReleased(),
  '/run/eniboot/kubelet-released and the conflist are there',
);

const pods = podNode(node);
try {
  await showPods();
} catch (error) {
  prove('pods start and reach what they should', false, String(error));
}

const good = proofs.every((proof) => proof.holds);
const seconds = Math.round((performance.now() - started) / 100) / 10;
if (values.json === true) process.stdout.write(`${JSON.stringify({ good, seconds, status, proofs })}\n`);
say(`\n${good ? bold('All of it holds.') : bold('Something does not hold: see NO above.')} ${seconds} s.`);
if (!real)
  say(
    "This kernel has no ipvlan: eth0 of the pods was a veth switched by address (test/cni/stand-in), everything else the product's own. On a kernel with ipvlan the same command makes real ones.",
  );
say('Try `npm run demo -- --keep` to look inside.');
if (values.keep === true) {
  // By a name of this run: other demos and tests on the machine have nodes with the same ID.
  const mark = `eniboot-demo-${randomUUID().slice(0, 8)}`;
  instance.spawn('sh', ['-c', 'sleep infinity; :', mark], { stdio: 'ignore' });
  process.stderr.write(`
The node is up. In another terminal, as the same user:
  nsenter --all --target "$(pgrep --newest --full ${mark})" bash
and there: PATH=/usr/libexec/eniboot/current:$PATH; eniboot status; eniboot check; eniboot pods; eniboot trace demo/web-1
Ctrl-C here ends it.
`);
  await new Promise(() => setInterval(() => {}, 60_000));
}
await cloud.stop();
process.exit(good ? 0 : 1);

async function showPods(): Promise<void> {
  // Pods, by the plugin that is installed on the node, called as a container runtime calls it.
  const kind = real
    ? 'ipvlan'
    : 'a stand-in for ipvlan, which this kernel lacks: npm run demo -- --vm has the real thing';
  say(bold(`\nTwo pods (eth0 is ${kind}):`));
  const asked = () =>
    cloud.calls.length + cloud.imds.filter((request) => request.instanceId === instance.id).length;
  const askedBefore = asked();
  const podsFrom = performance.now();
  const named = (name: string) => ({
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=${name}`,
  });
  const one = await pods.addPod('0c1a57e0', named('web-1'));
  const two = await pods.addPod('7d20b9f4', named('web-2'));
  const askedFor = asked() - askedBefore;
  const addMs = Math.round((performance.now() - podsFrom) / 2);
  await Promise.all([pods.serve(one.id), pods.serve(two.id)]);
  await tool('pods');
  prove(
    'a pod starts without any call to EC2 or IMDS',
    askedFor === 0,
    `${one.address} and ${two.address}: ${askedFor} calls, ${addMs} ms each`,
  );
  const peer = await pods.fetch(one.id, `http://${two.address}/`);
  prove(
    "pod to pod: the second sees the first pod's own address, no NAT",
    peer === one.address,
    `${two.address} saw ${peer === '' ? 'nothing' : peer}`,
  );
  const fromNode = await pods.fetch('', `http://${one.address}/`);
  prove('node to pod, over the veth', fromNode === bootAddress, `${one.address} saw ${fromNode}`);
  const seen = await pods.fetch(one.id, cloud.internet.curlTarget);
  prove(
    'pod to the Internet: as the public address of the boot ENI',
    seen === publicAddress,
    `the Internet saw ${seen === '' ? 'nothing' : seen}`,
  );
  const imds = await pods.fetch(one.id, 'http://169.254.169.254/latest/meta-data/');
  prove('pods do not reach the instance metadata service', imds === '', imds === '' ? 'no answer' : imds);
  say('');
  const traced = await tool('trace', one.address, '--to', new URL(cloud.internet.curlTarget).hostname);
  prove('`eniboot trace` finds every part of that path', traced, 'above, in the order a packet meets them');
  const dropsBefore = await droppedPackets();
  await instance.run('nft', ['delete', 'table', 'inet', 'eniboot']);
  const unnatted = await pods.fetch(one.id, cloud.internet.curlTarget);
  const drops = (await droppedPackets()) - dropsBefore;
  prove(
    'without the egress table EC2 drops packets of pods: a spoofed source',
    unnatted === '' && drops > 0,
    `${drops} packets from ${one.address} dropped on the boot ENI`,
  );
  const lacking = await pods.tool(['trace', one.address, '--json']);
  prove(
    '`eniboot trace` names the missing parts',
    lacking.exitCode === 1 && lacking.stdout.includes('"missing"'),
    `${(JSON.parse(lacking.stdout) as { faults: number }).faults} objects of the node's table`,
  );
  const repaired = await node.eniboot(['repair']);
  const again = await pods.fetch(one.id, cloud.internet.curlTarget);
  prove(
    '`eniboot repair` restores the table',
    again === publicAddress,
    repaired.stdout.trim().replace('\n', '; '),
  );
  prove('the boot ENI is untouched', addressesOfBootEni() === before, addressesOfBootEni());
  const callsBefore = cloud.calls.filter((call) => call.mutating).length;
  const second = await node.boot();
  const calls = cloud.calls.filter((call) => call.mutating).length - callsBefore;
  const changes = second.status?.phases.flatMap((phase) => phase.changes) ?? ['no status'];
  prove(
    'a second boot changes nothing',
    calls === 0 && changes.length === 0 && second.status?.verdict === 'ready',
    `${changes.length} changes, ${calls} mutating EC2 calls, ${second.status?.seconds} s`,
  );
  prove('nothing leaked in EC2', cloud.leakReport().length === 0, `${cloud.enis.size} ENIs, all attached`);
  await pods.cni('DEL', variablesOf(two.id, two.netns));
  const cooling = (await instance.run('ls', ['/run/eniboot/pool/cooling'])).stdout;
  prove(
    'an ended pod leaves nothing, and its address rests 60 s before another pod gets it',
    cooling.startsWith(`${two.address},`) &&
      (await pods.leftovers()).every((left) => !left.includes(two.address)),
    cooling.trim().replace(/,\d+$/, ''),
  );
  await tool('pool');
}

/** Runs `eniboot ARGS` on the node and shows its output; true when it succeeded. */
async function tool(...args: string[]): Promise<boolean> {
  say(bold(`$ eniboot ${args.join(' ')}`));
  const { stdout, stderr, exitCode } = await pods.tool(args);
  say(`${stdout}${stderr}`.trimEnd());
  return exitCode === 0;
}

function addressesOfBootEni(): string {
  return execFileSync('nsenter', [
    '--net',
    '--target',
    String(instance.pid),
    'ip',
    '-br',
    '-4',
    'address',
    'show',
    'dev',
    instance.deviceOf(instance.bootEni.id) ?? '',
  ])
    .toString()
    .trim()
    .replace(/ +/g, ' ');
}

async function droppedPackets(): Promise<number> {
  await cloud.settled();
  return (await cloud.network.spoofed()).reduce((sum, drop) => sum + drop.packets, 0);
}
