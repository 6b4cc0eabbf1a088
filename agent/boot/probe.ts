// `eniboot check --probe`: packets of a pod that is no pod. A namespace that lives as long as a child of this process, one leased
// address, and the network that ADD gives to any pod; what comes through says more than any look at rules. DEL takes it away
// whatever happens. Where this process is killed its child ends too, and with it the namespace and its links: what stays is a lease
// of somebody who is gone, which the next probe ends, or `eniboot pool collect`.
import { rangeOf, toAddress } from '../host/ipv4.ts';
import { takeLock } from '../host/lock.ts';
import { IMDS_ADDRESS, PROBE_ID, RESOLVER_ADDRESS, RUN_DIR } from '../host/names.ts';
import { type NodeFile, readNodeFile } from '../host/node-file.ts';
import { Failure } from '../messages/failure.ts';
import { listLeases } from '../pool/lease.ts';
import { isOfGoneProbe, notedNamespace } from '../pool/lease-note.ts';
import { systemClock } from '../port/clock.ts';
import { run } from '../port/exec.ts';
import { type ExecResult, succeeded } from '../port/exec-result.ts';
import { hold } from '../port/hold.ts';
import { invocation } from '../port/runtime.ts';
import { type Check, fail, pass, warn } from './phase.ts';

const LOCK = `${RUN_DIR}/probe.lock`;
/** What an answer may take, in seconds: of a name server, which is asked twice; of a host, whose kernel asks again after one second. */
const DNS_PATIENCE = 1;
const TCP_PATIENCE = 2;
/** kubelet's. That it listens does not matter: a refusal is an answer too. */
const NODE_PORT = 10_250;
/** Where the pod is asked; nothing listens there. */
const POD_PORT = 9;

/** Where the pod that is no pod is. */
interface Pod {
  netns: string;
  address: string;
  node: NodeFile;
  stopped: AbortSignal;
}

/**
 * Takes a few seconds.
 *
 * @param stopped ends it early; everything is taken away all the same.
 * @throws NODE_NOT_READY, ALREADY_RUNNING while another probe is at work, TOOL_MISSING
 */
export async function probe(stopped: AbortSignal): Promise<Check[]> {
  const node = readNodeFile();
  const lock = await takeLock(LOCK, systemClock, 0);
  try {
    await endLeftovers();
    const namespace = await hold('unshare', ['--net', 'sh', '-c', 'echo held && exec cat']);
    if (namespace === undefined) throw new Failure('KERNEL_CHANGE', 'no network namespace could be made');
    const netns = `/proc/${namespace.pid}/ns/net`;
    const id = `${PROBE_ID}-${namespace.pid}`;
    try {
      return await probeIn(id, netns, node, stopped);
    } finally {
      namespace.release();
    }
  } finally {
    lock.release();
  }
}

async function probeIn(id: string, netns: string, node: NodeFile, stopped: AbortSignal): Promise<Check[]> {
  // DEL follows ADD however that ends.
  const added = await plugin('ADD', id, netns);
  try {
    const address = addressIn(added);
    if (address === undefined)
      return [fail('probe-pod', 'PROBE_FAILED', `a pod gets no network: ${saidBy(added)}`)];
    const pod = { netns, address, node, stopped };
    const rows = await Promise.all([toNode(pod), toVpc(pod), toInternet(pod), toImds(pod)]);
    const ms = Math.round(added.ms);
    return [
      pass('probe-pod', `a pod's network was made in ${ms} ms, with ${address}`, { address, ms }),
      ...rows,
    ];
  } finally {
    await takeAway(id, netns);
  }
}

async function takeAway(id: string, netns: string): Promise<void> {
  const ended = await plugin('DEL', id, netns);
  if (!succeeded(ended))
    throw new Failure('PROBE_FAILED', `what was made was not taken away: ${saidBy(ended)}`, { id });
}

/** Both directions: kubelet's probes come from the node. */
async function toNode({ netns, address, node, stopped }: Pod): Promise<Check> {
  const [own = ''] = node.nodeAddresses;
  const [there, here] = await Promise.all([
    connect(inside(netns), own, NODE_PORT, stopped),
    connect([], address, POD_PORT, stopped),
  ]);
  const evidence = { node: own, pod: address, there, here };
  const failed = [
    ...(there.answered ? [] : [`a pod does not reach the node (${own}, TCP ${NODE_PORT}): ${there.said}`]),
    ...(here.answered ? [] : [`the node does not reach a pod (kubelet's probes): ${here.said}`]),
  ];
  return failed.length === 0
    ? pass('probe-node', 'a pod reaches the node, and the node a pod', evidence)
    : fail('probe-node', 'PROBE_FAILED', failed.join('; '), evidence);
}

/** The VPC's resolver, at its block's address plus two (VPC User Guide, "DNS attributes for your VPC"), by the pod's own ENI. */
async function toVpc({ netns, node, stopped }: Pod): Promise<Check> {
  const servers = node.podRoutes.map((cidr) => toAddress(rangeOf(cidr).first + 2));
  const answers = await Promise.all(servers.map((server) => askDns(netns, server, stopped)));
  const server = servers.find((_, at) => answers[at] === true);
  return server === undefined
    ? warn(
        'probe-vpc',
        `the VPC's resolver does not answer a pod at ${servers.join(', ')}: it is off in this VPC, or what a pod sends by its ENI does not arrive`,
        { servers },
      )
    : pass('probe-vpc', `the VPC's resolver ${server} answers a pod, by its own ENI`, { server });
}

/** The resolver's link-local address is outside the VPC's blocks: through the node, translated, out of the boot ENI. */
async function toInternet({ netns, stopped }: Pod): Promise<Check> {
  const server = RESOLVER_ADDRESS;
  return (await askDns(netns, server, stopped))
    ? pass('probe-egress', `the resolver ${server} answers a pod, through the node and its source NAT`, {
        server,
      })
    : warn(
        'probe-egress',
        `the resolver ${server} does not answer a pod through the node: forwarding or source NAT does not work, or this VPC has it turned off`,
        { server },
      );
}

async function toImds({ netns, node, stopped }: Pod): Promise<Check> {
  const { answered, connected, said } = await connect(inside(netns), IMDS_ADDRESS, 80, stopped);
  const evidence = { allowed: node.allowImds, answered, said };
  if (node.allowImds)
    return connected
      ? pass('probe-imds', 'a pod reaches instance metadata, as pods.allowImds has it', evidence)
      : warn(
          'probe-imds',
          `a pod does not reach instance metadata, which pods.allowImds lets it: ${said}`,
          evidence,
        );
  return connected
    ? fail(
        'probe-imds',
        'PROBE_FAILED',
        'a pod reaches instance metadata, and with it the node’s credentials',
        evidence,
      )
    : pass('probe-imds', 'instance metadata is refused to a pod', evidence);
}

/** As the runtime calls it: this very executable, with the network's name, so that its GC ends it as well. */
function plugin(command: 'ADD' | 'DEL', id: string, netns: string): Promise<ExecResult> {
  return run(invocation().executable, [], {
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: id,
      CNI_NETNS: netns,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/opt/cni/bin',
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=eniboot;K8S_POD_NAME=${PROBE_ID}`,
    },
    input: JSON.stringify({ cniVersion: '1.0.0', name: 'eniboot', type: 'eniboot' }),
    timeoutMs: 30_000,
  });
}

function addressIn(added: ExecResult): string | undefined {
  if (!succeeded(added)) return undefined;
  const { ips } = JSON.parse(added.stdout) as { ips: { address: string }[] };
  return ips[0]?.address.split('/')[0];
}

/** The plugin's error is an object on its standard output. */
function saidBy({ stdout, stderr }: ExecResult): string {
  try {
    const { msg, details } = JSON.parse(stdout) as { msg?: string; details?: string };
    return [msg, details].filter((text) => text !== undefined && text !== '').join(': ');
  } catch {
    return `${stdout}${stderr}`.trim();
  }
}

/** Of probes that were killed. One whose process number another process has by now waits for the end of that one. */
async function endLeftovers(): Promise<void> {
  for (const lease of listLeases().filter(isOfGoneProbe))
    await plugin('DEL', lease.owner.containerId, notedNamespace(lease) ?? '');
}

function inside(netns: string): string[] {
  return ['nsenter', `--net=${netns}`, '--'];
}

interface Connected {
  connected: boolean;
  /** Also by a refusal of the host itself. */
  answered: boolean;
  said: string;
}

async function connect(
  where: string[],
  host: string,
  port: number,
  stopped: AbortSignal,
): Promise<Connected> {
  const result = await bash(where, TCP_PATIENCE, `exec 3<>/dev/tcp/${host}/${port}`, stopped);
  const connected = succeeded(result);
  const said = connected ? 'connected' : (/: ([A-Z][a-z][^:]*)$/m.exec(result.stderr)?.[1] ?? 'no answer');
  return { connected, answered: connected || said === 'Connection refused', said };
}

/** A question for the name servers of the root (RFC 1035); any answer will do, a refusal too. */
const QUESTION = '\\x45\\x4e\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\0\\0\\x02\\0\\x01';

/** Whether it answers; asked twice, since a packet may be lost. */
async function askDns(netns: string, server: string, stopped: AbortSignal): Promise<boolean> {
  const script = `exec 3<>/dev/udp/${server}/53; printf '${QUESTION}' >&3; head -c 1 <&3 | grep -q .`;
  for (let tries = 0; tries < 2; tries += 1)
    if (succeeded(await bash(inside(netns), DNS_PATIENCE, script, stopped))) return true;
  return false;
}

/** bash opens sockets by paths of its own; coreutils' timeout ends what it waits for. @throws TOOL_MISSING */
async function bash(
  where: string[],
  seconds: number,
  script: string,
  stopped: AbortSignal,
): Promise<ExecResult> {
  stopped.throwIfAborted();
  const [file, ...args] = [...where, 'timeout', String(seconds), 'bash', '-c', script];
  const result = await run(file, args, { signal: stopped });
  stopped.throwIfAborted();
  if (result.missing) throw new Failure('TOOL_MISSING', `${file} is not installed`, { tool: file });
  if (result.exitCode === 127) throw new Failure('TOOL_MISSING', result.stderr.trim(), { tool: 'bash' });
  return result;
}
