// `eniboot check --probe`: sends packets from a test pod. The pod is a network namespace that lives as long as a child of this
// process, with one leased address and the network that ADD gives to any pod. Real packets show more than reading rules. DEL
// always removes the network. When this process is killed, its child ends, and with it the namespace and its links; the lease
// stays, and the next probe or `eniboot pool collect` ends it.
import { rangeOf, toAddress } from '../../host/ipv4.ts';
import { takeLock } from '../../host/lock.ts';
import { IMDS_ADDRESS, PROBE_ID, RESOLVER_ADDRESS, RUN_DIR } from '../../host/names.ts';
import { type NodeFile, readNodeFile } from '../../host/node-file.ts';
import { Failure } from '../../messages/failure.ts';
import { listLeases } from '../../pool/lease.ts';
import { isOfGoneProbe, notedNamespace } from '../../pool/lease-note.ts';
import { systemClock } from '../../port/clock.ts';
import { run } from '../../port/exec.ts';
import { type ExecResult, succeeded } from '../../port/exec-result.ts';
import { hold } from '../../port/hold.ts';
import { invocation } from '../../port/runtime.ts';
import { type Check, fail, pass, row, warn } from '../phase.ts';

const LOCK = `${RUN_DIR}/probe.lock`;
/**
 * Seconds to wait for an answer: of a name server, which is asked twice; of a host, whose kernel asks again after one second.
 */
const DNS_PATIENCE = 1;
const TCP_PATIENCE = 2;
/** kubelet's port. kubelet need not listen: a refusal is an answer too. */
const NODE_PORT = 10_250;
/** The port of the pod that is asked; nothing listens there. */
const POD_PORT = 9;

/** The test pod. */
interface Pod {
  netns: string;
  address: string;
  node: NodeFile;
  stopped: AbortSignal;
}

/**
 * Takes a few seconds.
 *
 * @param stopped ends the probe early; everything is still removed.
 * @throws NODE_NOT_READY, ALREADY_RUNNING while another probe runs, TOOL_MISSING
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
  // DEL follows ADD, however ADD ends.
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

/** Both directions, since kubelet's probes come from the node. */
async function toNode({ netns, address, node, stopped }: Pod): Promise<Check> {
  const [own = ''] = node.nodeAddresses;
  const [there, here] = await Promise.all([
    connect(inside(netns), own, NODE_PORT, stopped),
    connect([], address, POD_PORT, stopped),
  ]);
  const check = row('probe-node', { node: own, pod: address, there, here });
  const failed = [
    ...(there.answered ? [] : [`a pod does not reach the node (${own}, TCP ${NODE_PORT}): ${there.said}`]),
    ...(here.answered ? [] : [`the node does not reach a pod (kubelet's probes): ${here.said}`]),
  ];
  return failed.length === 0
    ? check.pass('a pod reaches the node, and the node a pod')
    : check.fail('PROBE_FAILED', failed.join('; '));
}

/**
 * Asks the VPC's resolver, at the block's address plus two (VPC User Guide, "DNS attributes for your VPC"), through the pod's
 * own ENI.
 */
async function toVpc({ netns, node, stopped }: Pod): Promise<Check> {
  const servers = node.podRoutes.map((cidr) => toAddress(rangeOf(cidr).first + 2));
  const answers = await Promise.all(servers.map((server) => askDns(netns, server, stopped)));
  const server = servers.find((_, at) => answers[at] === true);
  if (server !== undefined)
    return pass('probe-vpc', `the VPC's resolver ${server} answers a pod, by its own ENI`, { server });
  const silent = `the VPC's resolver does not answer a pod at ${servers.join(', ')}`;
  const why = 'it is off in this VPC, or what a pod sends by its ENI does not arrive';
  return warn('probe-vpc', `${silent}: ${why}`, { servers });
}

/**
 * The resolver's link-local address is outside the VPC's blocks, so the packet goes through the node, is translated, and leaves
 * by the boot ENI.
 */
async function toInternet({ netns, stopped }: Pod): Promise<Check> {
  const server = RESOLVER_ADDRESS;
  const check = row('probe-egress', { server });
  const why = 'forwarding or source NAT does not work, or this VPC has it turned off';
  return (await askDns(netns, server, stopped))
    ? check.pass(`the resolver ${server} answers a pod, through the node and its source NAT`)
    : check.warn(`the resolver ${server} does not answer a pod through the node: ${why}`);
}

async function toImds({ netns, node, stopped }: Pod): Promise<Check> {
  const { answered, connected, said } = await connect(inside(netns), IMDS_ADDRESS, 80, stopped);
  const check = row('probe-imds', { allowed: node.allowImds, answered, said });
  const lets = 'a pod does not reach instance metadata, which pods.allowImds lets it';
  if (node.allowImds)
    return connected
      ? check.pass('a pod reaches instance metadata, as pods.allowImds has it')
      : check.warn(`${lets}: ${said}`);
  return connected
    ? check.fail('PROBE_FAILED', 'a pod reaches instance metadata, and with it the node’s credentials')
    : check.pass('instance metadata is refused to a pod');
}

/**
 * Calls the plugin as the runtime does: this same executable, with the network's name, so that the runtime's GC can end the
 * lease too.
 */
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

/** The plugin reports an error as an object on its standard output. */
function saidBy({ stdout, stderr }: ExecResult): string {
  try {
    const { msg, details } = JSON.parse(stdout) as { msg?: string; details?: string };
    return [msg, details].filter((text) => text !== undefined && text !== '').join(': ');
  } catch {
    return `${stdout}${stderr}`.trim();
  }
}

/**
 * Ends the leases of killed probes. Where another process now has a killed probe's process number, its lease stays until that
 * process has ended.
 */
async function endLeftovers(): Promise<void> {
  for (const lease of listLeases().filter(isOfGoneProbe))
    await plugin('DEL', lease.owner.containerId, notedNamespace(lease) ?? '');
}

function inside(netns: string): string[] {
  return ['nsenter', `--net=${netns}`, '--'];
}

interface Connected {
  connected: boolean;
  /** True also when the host refuses the connection. */
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

/** A query for the root's name servers (RFC 1035). Any answer counts, also a refusal. */
const QUESTION = '\\x45\\x4e\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\0\\0\\x02\\0\\x01';

/** Whether the server answers. Asks twice, since a packet may be lost. */
async function askDns(netns: string, server: string, stopped: AbortSignal): Promise<boolean> {
  const script = `exec 3<>/dev/udp/${server}/53; printf '${QUESTION}' >&3; head -c 1 <&3 | grep -q .`;
  for (let tries = 0; tries < 2; tries += 1)
    if (succeeded(await bash(inside(netns), DNS_PATIENCE, script, stopped))) return true;
  return false;
}

/** bash opens sockets by its own paths (/dev/udp/…); `timeout` of coreutils ends a command that waits. @throws TOOL_MISSING */
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
