// Makes an attachment and takes it apart, by the texts of attachment.ts. Nothing of it is atomic, so every failure
// says how far it came, and every removal forgives what is not there.
import {
  type Attachment,
  hostLines,
  linkGroupOf,
  POD_VETH,
  podDestinations,
  podGuard,
  podLines,
  podLines6,
  podRemovalLines,
  podSysctls,
  podTable,
  podTable6,
  podTables,
  removalLines,
} from '../agent/host/attachment.ts';
import { NFT_TABLE } from '../agent/host/names.ts';
import { perform, type Refusal, type Step } from '../agent/host/netlink/perform.ts';
import { removeFromNode, removeFromPod } from '../agent/host/netlink/remove.ts';
import { type OwnNetwork, otherNetwork } from '../agent/host/other-network.ts';
import { limitLines } from '../agent/host/pod-limits.ts';
import { Failure } from '../agent/messages/failure.ts';
import { type ExecResult, endingOf, notRun, succeeded } from '../agent/port/exec-result.ts';
import { runSync } from '../agent/port/exec-sync.ts';
import { isThere } from '../agent/port/fs.ts';
import { SystemCallError } from '../agent/port/libc.ts';

/** Exit codes of the script, beside those of `ip`: which step failed. */
const HOST_FAILED = 41;
const NFT_FAILED = 42;
/** The pod's IPv6 is off: its IPv4 stands. */
const IPV6_OFF = 44;
const IPV6_FAILED = 45;
const TAKEN = 46;

/**
 * What perform.ts does, by programs. Both sides in one shell, which costs three processes: nft, the node's `ip`, and
 * itself, which `exec` makes the pod's `ip`. The pod's table needs no link, so it is made beside the node's batch. It
 * is created, and replaced only where one is left from before: replacing waits for a grace period of the kernel,
 * longer than all else takes together. A node's batch that fails takes a table of this call's making with it: the
 * namespace may be one that has nothing of ours.
 * IPv6 costs one more: `ip` gives a rule the family of the whole call, so the pod's IPv6 lines are a call of their own.
 * The guard's chain needs the pod's interface: one more nft.
 * $1: namespace, $2: the node's batch, $3: the tables, $4: the guard's, then what `last` takes. Standard input: the
 * pod's batch.
 */
function addScript(families: string[], last: string): string {
  const each = (text: (family: string) => string) => families.map((family) => `${text(family)}; `).join('');
  const guard = 'netdev';
  return `netns=$1 host=$2 table=$3 guard=$4
shift 4
nsenter --net="$netns" -- nft "${each((family) => `create table ${family} ${NFT_TABLE}`)}$table" </dev/null 2>/dev/null &
made=$!
ip -batch - <<EOF || { wait $made && nsenter --net="$netns" -- nft "${each((family) => `delete table ${family} ${NFT_TABLE}`)}" </dev/null; exit ${HOST_FAILED}; }
$host
EOF
wait $made || nsenter --net="$netns" -- nft "${each(emptied)}$table" </dev/null || exit ${NFT_FAILED}
nsenter --net="$netns" -- nft "create table ${guard} ${NFT_TABLE}; $guard" </dev/null 2>/dev/null ||
  nsenter --net="$netns" -- nft "${emptied(guard)}; $guard" </dev/null || exit ${NFT_FAILED}
exec nsenter --net="$netns" -- sh -ec '${last}' eniboot "$@"`;
}

/** Routes of both families, as this process would read them in the pod. */
const BETWEEN = '--------\n';
const ROUTES = `cat /proc/self/net/route; printf '%s\n' ${BETWEEN.trim()}; cat /proc/self/net/ipv6_route 2>/dev/null || :`;

/** A table that was there or not, and is not from here on. */
function emptied(family: string): string {
  return `table ${family} ${NFT_TABLE}; delete table ${family} ${NFT_TABLE}`;
}

/** Paths and values. */
const SETTINGS = `while [ $# -gt 0 ]; do echo "$2" > "/proc/sys/$1"; shift 2; done`;
const ADD_IPV4 = addScript(['ip'], `${SETTINGS}; exec ip -batch -`);

/**
 * A setting read byte by byte, as the shell does, ends after the first, and `read` says so with a failure.
 * $1: the pod's interface, $2: its batch of IPv6, then paths and values.
 */
const ADD_DUAL_STACK = addScript(
  ['ip', 'inet'],
  `device=$1 six=$2
shift 2
${SETTINGS}
ip -batch -
read -r off < "/proc/sys/net/ipv6/conf/$device/disable_ipv6" || :
[ "$off" = 0 ] || exit ${IPV6_OFF}
ip -6 -batch - <<EOF || exit ${IPV6_FAILED}
$six
EOF`,
);

/** What `ip` says when another ipvlan of the same ENI has the address, in whatever namespace. */
const IN_USE = /Address already (?:in use|assigned)/;

/** What it says where the kernel has no such kind of device, and no module for it. */
const UNKNOWN_KIND = /Unknown device type/;

/**
 * @param eniDevice undefined where another plugin has made the pod's interface.
 * @returns whether the pod has IPv6 beside IPv4: not where it has that turned off.
 * @throws ALREADY_ATTACHED when the interface exists, NETNS_TAKEN when another network does (nothing was made),
 *   ADDRESS_IN_USE when a lost namespace holds the address, NFT_FAILED or KERNEL_CHANGE otherwise.
 */
export function makeAttachment(
  a: Attachment,
  netns: string,
  eniDevice: string | undefined,
): { ipv6: boolean } {
  const made = makeObjects(a, netns, eniDevice);
  const limits = limitLines(a.limits ?? {}, [a.ifName, POD_VETH]);
  if (limits.length > 0) {
    const result = runSync('nsenter', [`--net=${netns}`, '--', 'tc', '-batch', '-'], {
      input: toInput(limits),
    });
    if (!succeeded(result)) throw tcFailed(result);
  }
  return made;
}

function makeObjects(a: Attachment, netns: string, eniDevice: string | undefined): { ipv6: boolean } {
  const ipv6 = isThere('/proc/sys/net/ipv6');
  const tables = { all: podTables(a), early: podTable(a) + podTable6(a), guard: podGuard(a) };
  const six = podLines6(a);
  const settings = podSysctls(a);
  let host = hostLines(a, netns, eniDevice, ipv6);
  let pod = podLines(a, eniDevice !== undefined, ipv6);
  let own: OwnNetwork | undefined = {
    ifName: a.ifName,
    veth: POD_VETH,
    destinations: podDestinations(a),
    families: six.length > 0 ? [4, 6] : [4],
  };
  for (;;) {
    const result = make({
      netns,
      host,
      pod,
      tables,
      settings,
      own,
      ipv6: { device: a.ifName, lines: six },
    });
    if (succeeded(result)) return { ipv6: six.length > 0 };
    if (result.exitCode === IPV6_OFF) return { ipv6: false };
    if (result.exitCode === IPV6_FAILED) return ipv6Failed(six, a, result);
    if (result.exitCode === TAKEN)
      throw new Failure('NETNS_TAKEN', `the pod has another network already: ${result.stderr.trim()}`, {
        netns,
      });
    if (result.exitCode === NFT_FAILED) {
      throw new Failure('NFT_FAILED', `nft in the pod: ${complaintsOf(result).join(': ')}`, {
        table: tables.all,
      });
    }
    own = undefined;
    if (result.exitCode === HOST_FAILED) host = linesLeft(host, a, result);
    else [host, pod] = [[], linesLeft(pod, a, result)];
  }
}

interface Texts {
  netns: string;
  host: string[];
  pod: string[];
  /** All, and by programs: what can be made before the links, and what cannot. */
  tables: { all: string; early: string; guard: string };
  settings: [string, string][];
  /** What the pod may have before: an interface of this name, by the plugin before. Undefined once something was made. */
  own: OwnNetwork | undefined;
  /** The pod's interface, and the pod's batch of IPv6; empty where it has IPv4 alone. */
  ipv6: { device: string; lines: string[] };
}

/** Without a process where this runtime can, else by programs. */
function make({ netns, host, pod, tables, settings, own, ipv6 }: Texts): ExecResult {
  const steps: [Step, exitCode: number][] = [
    ...(own === undefined ? [] : ([[{ vacant: own }, TAKEN]] satisfies [Step, number][])),
    [{ in: 'node', ip: host }, HOST_FAILED],
    [{ nft: tables.all }, NFT_FAILED],
    [{ sysctls: settings }, 1],
    [{ in: 'pod', ip: pod }, 1],
  ];
  if (ipv6.lines.length > 0) {
    steps.push(
      [{ needs: [`net/ipv6/conf/${ipv6.device}/disable_ipv6`, '0'] }, IPV6_OFF],
      [{ in: 'pod', ip: ipv6.lines, inet6: true }, IPV6_FAILED],
    );
  }
  const texts = steps.map(([step]) => step);
  const refusal = perform(netns, texts);
  if (refusal !== 'unable') return resultOf(refusal, steps[refusal?.step ?? 0]?.[1] ?? 1);
  const taken = own === undefined ? undefined : takenByPrograms(netns, own);
  if (taken !== undefined) return taken;
  const [script, six] =
    ipv6.lines.length === 0 ? [ADD_IPV4, []] : [ADD_DUAL_STACK, [ipv6.device, ipv6.lines.join('\n')]];
  const { early, guard } = tables;
  const args = ['-c', script, 'eniboot', netns, host.join('\n'), early, guard, ...six, ...settings.flat()];
  return runSync('sh', args, { input: toInput(pod) });
}

/** What `vacant` looks at in perform.ts. */
function takenByPrograms(netns: string, own: OwnNetwork): ExecResult | undefined {
  const routes = runSync('nsenter', [`--net=${netns}`, '--', 'sh', '-c', ROUTES]);
  if (!succeeded(routes)) return routes;
  const [route = '', route6 = ''] = routes.stdout.split(BETWEEN);
  const found = otherNetwork(own, route, route6);
  return found === undefined ? undefined : resultOf({ step: 0, stderr: `${found}\n` }, TAKEN);
}

/** As if a program had ended so. */
function resultOf(refusal: Refusal | undefined, exitCode: number): ExecResult {
  return {
    command: ['ip'],
    exitCode: refusal === undefined ? 0 : exitCode,
    signal: null,
    missing: false,
    stdout: '',
    stderr: refusal?.stderr ?? '',
    timedOut: false,
    ms: 0,
  };
}

/**
 * Takes away whatever there is of an address's attachment, on the node and in those namespaces that can still be
 * entered. @throws KERNEL_CHANGE when something is left.
 */
export function removeAttachment(address: string, namespaces: string[]): void {
  for (const netns of namespaces) removePodSide(address, netns);
  removed('on the node', () => removeFromNode(removalLines(address)));
}

/**
 * The same in the pod's namespace alone, and with its links their ends on the node. For an address that may be another
 * pod's by now, whose rules on the node have the same numbers. @throws KERNEL_CHANGE
 */
export function removePodSide(address: string, netns: string): void {
  const removal = {
    group: linkGroupOf(address),
    veth: POD_VETH,
    lines: podRemovalLines,
    // Both families, whatever the node has: what is not there costs a message.
    lines6: podRemovalLines,
    tables: (['ip', 'inet', 'netdev'] as const).map((family) => ({ family, name: NFT_TABLE })),
  };
  removed(`in ${netns}`, () => removeFromPod(netns, removal));
}

/** @throws KERNEL_CHANGE */
function removed(where: string, work: () => string | undefined): void {
  let problem: string | undefined;
  try {
    problem = work();
  } catch (error) {
    // A system call that failed, ours or Node's; anything else is a defect.
    if (!(error instanceof SystemCallError || (error instanceof Error && 'syscall' in error))) throw error;
    problem = error.message;
  }
  if (problem !== undefined)
    throw new Failure('KERNEL_CHANGE', `not removed ${where}: ${problem}`, { where });
}

function tcFailed(result: ExecResult): Failure {
  const none = notRun(result);
  if (none !== undefined) return none;
  const said = complaintsOf(result).join(': ');
  return /failed to execute tc: No such file/.test(said)
    ? new Failure('TOOL_MISSING', 'tc is not installed, which bandwidth limits need', { tool: 'tc' })
    : new Failure('KERNEL_CHANGE', `tc in the pod: ${said}`, { stderr: result.stderr.slice(0, 2_000) });
}

/** The last line is the rule: one that a killed call left is as good as ours. */
function ipv6Failed(six: string[], a: Attachment, result: ExecResult): { ipv6: boolean } {
  const line = six[failedAt(result) - 1];
  if (line === six.at(-1) && result.stderr.includes('File exists')) return { ipv6: true };
  if (IN_USE.test(result.stderr)) throw addressInUse(a.ipv6?.address, line);
  throw refused(result, complaintsOf(result), line);
}

/** Number of the line that ended the batch; 0 when none did. */
function failedAt(result: ExecResult): number {
  return Number(/Command failed -:(\d+)/.exec(result.stderr)?.[1] ?? '0');
}

/** What is still to do after a failed line, where what made it fail can be put right; else the failure is thrown. */
function linesLeft(lines: string[], a: Attachment, result: ExecResult): string[] {
  const at = failedAt(result);
  const line = lines[at - 1] ?? '';
  const exists = result.stderr.includes('File exists');
  // The same rule, left by a call that was killed.
  if (exists && line.startsWith('rule add')) return lines.slice(at);
  if (exists && line.includes(` name ${a.hostLink} `) && remove(a.hostLink)) return lines.slice(at - 1);
  if (exists && line.startsWith('link add')) {
    throw new Failure('ALREADY_ATTACHED', `the pod has an interface ${a.ifName} or veth0 already`, { line });
  }
  if (IN_USE.test(result.stderr)) throw addressInUse(a.address, line);
  throw refused(result, complaintsOf(result), line);
}

function addressInUse(address: string | undefined, line: string | undefined): Failure {
  return new Failure('ADDRESS_IN_USE', `${address} is on an interface in another namespace`, { line });
}

/** A host link left by a call that was killed; nobody else's, since its name is the address we lease. */
function remove(hostLink: string): boolean {
  return succeeded(runSync('ip', ['link', 'del', 'dev', hostLink]));
}

function complaintsOf(result: ExecResult): string[] {
  return result.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('Command failed -:'));
}

function refused(result: ExecResult, complaints: string[], line?: string): Failure {
  const none = notRun(result);
  if (none !== undefined) return none;
  const [file = ''] = result.command;
  const what = line === undefined || line === '' ? file : `ip ${line}`;
  const kind = / type (\w+)/.exec(line ?? '')?.[1];
  if (kind !== undefined && UNKNOWN_KIND.test(result.stderr))
    return new Failure(
      'KERNEL_MODULE_MISSING',
      `${what}: the kernel of this node has no ${kind} (${complaints.join(': ')})`,
      { line, module: kind },
    );
  return new Failure('KERNEL_CHANGE', `${what}: ${[endingOf(result), ...complaints].join(': ')}`, {
    line,
    stderr: result.stderr.slice(0, 2_000),
  });
}

function toInput(lines: string[]): string {
  return `${lines.join('\n')}\n`;
}
