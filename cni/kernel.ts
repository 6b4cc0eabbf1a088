// Makes an attachment and takes it apart: one `ip -batch` on each side. Neither is atomic, so every failure
// says how far it came, and every removal forgives what is not there.
import { existsSync } from 'node:fs';
import { NFT_TABLE, POD_LINK_PREFIX } from '../agent/host/names.ts';
import { Failure } from '../agent/messages/failure.ts';
import { type ExecResult, succeeded } from '../agent/port/exec-result.ts';
import { runSync } from '../agent/port/exec-sync.ts';
import { listIfPresent, readIfPresent } from '../agent/port/fs.ts';
import {
  type Attachment,
  hostLines,
  podLines,
  podRemovalLines,
  podSysctls,
  podTable,
  removalLines,
} from './attachment.ts';

const SYS_NET = '/sys/class/net';

/**
 * In the pod's namespace: table, settings, then the batch from standard input. `exec` and builtins keep it to
 * two processes, nft and this one. The table is created, and replaced only where one is left from before:
 * replacing waits for a grace period of the kernel, more than all else in an ADD together.
 */
const POD_SCRIPT = `set -e
nft "create table ip ${NFT_TABLE}; $1" 2>/dev/null || nft "table ip ${NFT_TABLE}; delete table ip ${NFT_TABLE}; $1"
shift
while [ $# -gt 0 ]; do
  echo "$2" > "/proc/sys/$1"
  shift 2
done
exec ip -batch -`;

/** Runs the batch and, when our own interface was in there, drops our table. */
const POD_REMOVAL_SCRIPT = `ip -batch - && nft delete table ip ${NFT_TABLE}`;

/** What `ip` says when another ipvlan of the same ENI has the address, in whatever namespace. */
const IN_USE = /Address already (?:in use|assigned)/;

/** What `ip` says of something that is not there. */
const ABSENT = /Cannot find device|No such (?:device|file or directory|process)|FIB table does not exist/;

/**
 * @throws ALREADY_ATTACHED when the interface exists (nothing was made), ADDRESS_IN_USE when a lost namespace
 *   holds the address, KERNEL_CHANGE otherwise.
 */
export function makeAttachment(a: Attachment, netns: string, eniDevice: string): void {
  const ipv6 = existsSync('/proc/sys/net/ipv6');
  applyLines(hostLines(a, netns, eniDevice, ipv6), a, (input) => runSync('ip', ['-batch', '-'], { input }));
  const settings = podSysctls(a).flat();
  const inPod = [`--net=${netns}`, '--', 'sh', '-c', POD_SCRIPT, 'eniboot', podTable(a), ...settings];
  applyLines(podLines(a, ipv6), a, (input) => runSync('nsenter', inPod, { input }));
}

/**
 * Takes away whatever there is of an address's attachment, on the node and, where `netns` can still be
 * entered, in the pod. @throws KERNEL_CHANGE when something is left.
 */
export function removeAttachment(address: string, netns: string | undefined): void {
  if (netns !== undefined) removeFromPod(address, netns);
  // -force goes on after a line that found nothing.
  const result = runSync('ip', ['-force', '-batch', '-'], { input: toInput(removalLines(address)) });
  const real = complaintsOf(result).filter((line) => !ABSENT.test(line));
  if (result.exitCode === null || result.missing || real.length > 0) throw refused(result, real);
}

/** The device with a pod ENI's MAC, by looking at every one that is not a pod's link. */
export function deviceOf(mac: string): string | undefined {
  return listIfPresent(SYS_NET).find(
    (name) =>
      !name.startsWith(POD_LINK_PREFIX) &&
      readIfPresent(`${SYS_NET}/${name}/address`)?.trim().toLowerCase() === mac,
  );
}

/** Whether the device is administratively up: IFF_UP is bit 0. */
export function isUp(device: string): boolean {
  return (Number(readIfPresent(`${SYS_NET}/${device}/flags`) ?? '0') & 1) === 1;
}

export function listHostLinks(): string[] {
  return listIfPresent(SYS_NET).filter((name) => name.startsWith(POD_LINK_PREFIX));
}

/** A rule that exists already is the same rule, left by a call that was killed: the batch goes on behind it. */
function applyLines(lines: string[], a: Attachment, apply: (input: string) => ExecResult): void {
  for (let left = lines; left.length > 0; ) {
    const result = apply(toInput(left));
    if (succeeded(result)) return;
    const at = Number(/Command failed -:(\d+)/.exec(result.stderr)?.[1] ?? '0');
    const line = left[at - 1] ?? '';
    const exists = result.stderr.includes('File exists');
    if (exists && line.startsWith('rule add')) {
      left = left.slice(at);
    } else if (exists && line.includes(` name ${a.hostLink} `) && remove(a.hostLink)) {
      left = left.slice(at - 1);
    } else if (exists && line.startsWith('link add')) {
      throw new Failure('ALREADY_ATTACHED', `the pod has an interface ${a.ifName} or veth0 already`, {
        line,
      });
    } else if (IN_USE.test(result.stderr)) {
      throw new Failure('ADDRESS_IN_USE', `${a.address} is on an interface in another namespace`, { line });
    } else {
      throw refused(result, complaintsOf(result), line);
    }
  }
}

/** A host link left by a call that was killed; nobody else's, since its name is the address we lease. */
function remove(hostLink: string): boolean {
  return succeeded(runSync('ip', ['link', 'del', 'dev', hostLink]));
}

function removeFromPod(address: string, netns: string): void {
  const result = runSync('nsenter', [`--net=${netns}`, '--', 'sh', '-c', POD_REMOVAL_SCRIPT], {
    input: toInput(podRemovalLines(address)),
  });
  if (succeeded(result)) return;
  const said = complaintsOf(result);
  // A path that is no namespace any more is as good as gone, and so is what was in it.
  const gone = said.some((line) => line.startsWith('nsenter: ') && !line.includes('failed to execute'));
  const real = said.filter((line) => !ABSENT.test(line));
  if (gone || (result.exitCode !== null && real.length === 0)) return;
  throw refused(result, real);
}

function complaintsOf(result: ExecResult): string[] {
  return result.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('Command failed -:'));
}

function refused(result: ExecResult, complaints: string[], line?: string): Failure {
  const [file = ''] = result.command;
  if (result.missing) return new Failure('TOOL_MISSING', `${file} is not installed`, { tool: file });
  const ending = result.timedOut ? 'ran out of time' : `exit ${result.exitCode ?? result.signal}`;
  const what = line === undefined || line === '' ? file : `ip ${line}`;
  return new Failure('KERNEL_CHANGE', `${what}: ${[ending, ...complaints].join(': ')}`, {
    line,
    stderr: result.stderr.slice(0, 2_000),
  });
}

function toInput(lines: string[]): string {
  return `${lines.join('\n')}\n`;
}
