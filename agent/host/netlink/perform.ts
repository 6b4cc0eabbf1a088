// Does what texts for `ip -batch` and `nft` say, without either program: in the CNI path a program costs more than all
// its work. The texts stay the plan that people read and that goes into errors; what is refused is told in the
// programs' own words, with the number of the line.
import { writeFileSync } from 'node:fs';
import { hasCode, readIfPresent } from '../../port/fs.ts';
import {
  hasNetlink,
  inTwoNamespaces,
  type NetlinkSocket,
  SystemCallError,
  type TwoNamespaces,
} from '../../port/netlink.ts';
import { type Line, lineOf, linkQuestion, NEW_LINK } from './ip.ts';
import { type Answer, answersIn, type Message } from './message.ts';
import { type Transaction, transactionOf } from './nft.ts';

/** One thing after the other; the first that fails ends it. */
export type Step =
  /** Lines of one `ip -batch`; with `inet6`, of `ip -6 -batch`. */
  | { in: 'node' | 'pod'; ip: readonly string[]; inet6?: boolean }
  /** Tables of the pod, made anew where they are there already. */
  | { nft: string }
  /** Settings of the pod: paths below /proc/sys and values. */
  | { sysctls: readonly (readonly [string, string])[] }
  /** A setting of the pod without which nothing more is done. */
  | { needs: readonly [path: string, value: string] };

/** Which step failed, and what the program would have said on standard error. */
export interface Refusal {
  step: number;
  stderr: string;
}

/** What a step says on standard error when it fails. */
type Ready = (at: Place) => string | undefined;

interface Place {
  sockets: TwoNamespaces;
  /** Devices by namespace and name. */
  indexes: Map<string, number>;
  sequence: number;
  /** Counts what the kernel has granted. */
  grant(): void;
}

/**
 * Performs all steps. 'unable' when this runtime cannot, a text has a form that is not known here, or the kernel does
 * not know the first kind of link: nothing was changed then, and the programs can do it. undefined when all went well.
 */
export function perform(netns: string, steps: Step[]): Refusal | 'unable' | undefined {
  if (!hasNetlink()) return 'unable';
  const ready: Ready[] = [];
  for (const step of steps) {
    const one = readyFor(step, netns);
    if (one === undefined) return 'unable';
    ready.push(one);
  }
  let granted = 0;
  let reached = 0;
  try {
    return inTwoNamespaces(netns, (sockets) => {
      const place: Place = { sockets, indexes: new Map(), sequence: 0, grant: () => (granted += 1) };
      for (const [step, run] of ready.entries()) {
        reached = step;
        const stderr = run(place);
        if (stderr === undefined) continue;
        return granted === 0 && UNKNOWN_KIND.test(stderr) ? 'unable' : { step, stderr };
      }
      return undefined;
    });
  } catch (error) {
    if (!(error instanceof SystemCallError || hasCode(error, 'ENOENT', 'EACCES', 'EPERM'))) throw error;
    // Before anything was changed, the programs may do it, or say better why they cannot.
    return granted === 0 ? 'unable' : { step: reached, stderr: `${error}\n` };
  }
}

function readyFor(step: Step, netns: string): Ready | undefined {
  if ('sysctls' in step) return () => writeAll(step.sysctls);
  if ('needs' in step) return () => missing(...step.needs);
  if ('nft' in step) {
    const made = transactionOf(step.nft, false);
    return made === undefined ? undefined : (place) => runTransaction(place, made, step.nft);
  }
  const lines: Line[] = [];
  for (const text of step.ip) {
    const line = lineOf(text, netns, step.inet6 ?? false);
    if (line === undefined) return undefined;
    lines.push(line);
  }
  return (place) => runLines(place, step.in, lines);
}

function runLines(place: Place, where: 'node' | 'pod', lines: Line[]): string | undefined {
  const moment = {
    index: (device: string) => indexOf(place, where, device),
    podFd: place.sockets.podFd,
  };
  for (const [at, line] of lines.entries()) {
    const problem = runLine(place, place.sockets[where], () => line(moment));
    if (problem !== undefined) return `${problem}\nCommand failed -:${at + 1}\n`;
  }
  return undefined;
}

function runLine(place: Place, socket: NetlinkSocket, message: () => Message): string | undefined {
  let answer: Answer | undefined;
  try {
    answer = ask(place, socket, message());
  } catch (error) {
    if (error instanceof NoDevice) return `Cannot find device "${error.message}"`;
    throw error;
  }
  if (answer?.errno === 0) {
    place.grant();
    return undefined;
  }
  return answer === undefined ? 'No answer from the kernel' : said(answer, 'RTNETLINK answers');
}

class NoDevice extends Error {}

function indexOf(place: Place, where: 'node' | 'pod', device: string): number {
  const key = `${where} ${device}`;
  const known = place.indexes.get(key);
  if (known !== undefined) return known;
  const answer = ask(place, place.sockets[where], linkQuestion(device));
  if (answer?.type !== NEW_LINK) throw new NoDevice(device);
  const index = new DataView(answer.body.buffer, answer.body.byteOffset).getInt32(4, true);
  place.indexes.set(key, index);
  return index;
}

/** The kernel has answered when a request was sent; answers to others (a killed caller's) are not ours. */
function ask(place: Place, socket: NetlinkSocket, message: Message): Answer | undefined {
  const sequence = ++place.sequence;
  socket.send(new Uint8Array(message.finish(sequence)));
  for (let datagram = socket.receive(); datagram !== undefined; datagram = socket.receive()) {
    const answer = answersIn(datagram).find((one) => one.sequence === sequence);
    if (answer !== undefined) return answer;
  }
  return undefined;
}

/** Created, and replaced only where tables are left from before: replacing waits for a grace period of the kernel. */
function runTransaction(place: Place, made: Transaction, text: string): string | undefined {
  const first = commit(place, made);
  if (first?.errno !== EEXIST) return first === undefined ? undefined : said(first, 'Error');
  const again = transactionOf(text, true);
  const second = again === undefined ? first : commit(place, again);
  return second === undefined ? undefined : said(second, 'Error');
}

/** The first error of a transaction, of which nothing is done then. */
function commit(place: Place, { bytes, last }: Transaction): Answer | undefined {
  const socket = place.sockets.podNetfilter;
  socket.send(bytes);
  let acknowledged = false;
  for (let datagram = socket.receive(); datagram !== undefined; datagram = socket.receive()) {
    for (const answer of answersIn(datagram)) {
      if (answer.errno !== 0) return answer;
      if (answer.sequence === last) acknowledged = true;
    }
  }
  if (!acknowledged) throw new Error('the kernel did not answer a transaction of nftables');
  place.grant();
  return undefined;
}

function writeAll(sysctls: readonly (readonly [string, string])[]): string | undefined {
  for (const [path, value] of sysctls) {
    try {
      writeFileSync(`/proc/sys/${path}`, value);
    } catch (error) {
      return `cannot set ${path} to ${value}: ${error instanceof Error ? error.message : String(error)}\n`;
    }
  }
  return undefined;
}

function missing(path: string, value: string): string | undefined {
  const found = readIfPresent(`/proc/sys/${path}`)?.trim();
  return found === value ? undefined : `${path} is ${found ?? 'not there'}\n`;
}

const EEXIST = 17;
/** Of a link whose driver is missing: the words since Linux 4.20, and before. */
const UNKNOWN_KIND = /Unknown device type|Operation not supported/;

/** The C library's words for what rtnetlink and nfnetlink answer. */
const errors: Record<number, string> = {
  1: 'Operation not permitted',
  2: 'No such file or directory',
  3: 'No such process',
  5: 'Input/output error',
  12: 'Cannot allocate memory',
  13: 'Permission denied',
  16: 'Device or resource busy',
  17: 'File exists',
  19: 'No such device',
  22: 'Invalid argument',
  28: 'No space left on device',
  34: 'Numerical result out of range',
  95: 'Operation not supported',
  98: 'Address already in use',
  99: 'Cannot assign requested address',
  100: 'Network is down',
  101: 'Network is unreachable',
  105: 'No buffer space available',
  113: 'No route to host',
};

function said({ errno, words }: Answer, who: string): string {
  if (words !== '') return `Error: ${words}.`;
  return `${who}: ${errors[errno] ?? `error ${errno}`}`;
}
