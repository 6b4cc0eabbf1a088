// The demo itself, inside the sandbox.
import { execFileSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import type { Status } from '../../agent/boot/status.ts';
import { realisticLatency, startCloud } from '../aws/index.ts';
import { ENIBOOT, launchNode } from '../boot/node.ts';
import { createPodStandIn } from './pod-stand-in.ts';

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
const node = await launchNode(cloud, { type: values.type });
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
const pool = (
  instance.read('/run/eniboot/status.json') === undefined
    ? ''
    : (await instance.run('ls', ['/run/eniboot/pool/free'])).stdout
)
  .trim()
  .split('\n');
const [podAddress = '', otherAddress = ''] = pool.map((name) => name.split(',')[0] ?? '');
const pod = await createPodStandIn(instance, podAddress);
const seen = await pod.fetch(cloud.internet.curlTarget);
prove(
  `a packet from pool address ${podAddress} reaches the Internet as the public address`,
  seen === publicAddress,
  `the Internet saw ${seen === '' ? 'nothing' : seen}`,
);
const imds = await pod.fetch('http://169.254.169.254/latest/meta-data/');
prove('pods do not reach the instance metadata service', imds === '', imds === '' ? 'no answer' : imds);
const dropsBefore = await droppedPackets();
await instance.run('nft', ['delete', 'table', 'inet', 'eniboot']);
const unnatted = await pod.fetch(cloud.internet.curlTarget);
const drops = (await droppedPackets()) - dropsBefore;
prove(
  'without the egress table EC2 drops what pods send: a spoofed source',
  unnatted === '' && drops > 0,
  `${drops} packets from ${podAddress} dropped on the boot ENI`,
);
const repaired = await node.eniboot(['repair']);
const again = await pod.fetch(cloud.internet.curlTarget);
prove(
  '`eniboot repair` puts the table back',
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
await pod.remove();

const good = proofs.every((proof) => proof.holds);
const seconds = Math.round((performance.now() - started) / 100) / 10;
if (values.json === true) process.stdout.write(`${JSON.stringify({ good, seconds, status, proofs })}\n`);
say(
  `\n${good ? bold('All of it holds.') : bold('Something does not hold: see NO above.')} ${seconds} s. Pods themselves need a kernel with ipvlan; the pod here is a stand-in of one veth.`,
);
say(`Another address of the pool: ${otherAddress}. Try \`npm run demo -- --keep\` to look inside.`);
if (values.keep === true) {
  process.stderr.write(`
The node is up. In another terminal, as the same user:
  nsenter --all --target "$(pgrep --newest --full 'init.sh .*/${instance.id}')" bash
and there: eniboot status; eniboot check; nft list table inet eniboot; ls /run/eniboot/pool/*
Ctrl-C here ends it.
`);
  await new Promise(() => setInterval(() => {}, 60_000));
}
await cloud.stop();
process.exit(good ? 0 : 1);

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
