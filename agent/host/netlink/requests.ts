// Requests to one namespace and what the kernel answers, in the words of the programs that would have asked.
import { SystemCallError } from '../../port/libc.ts';
import type { NetlinkSocket } from '../../port/netlink.ts';
import type { Flush } from './flush.ts';
import { linkQuestion, NEW_LINK } from './ip.ts';
import { type Answer, answersIn, DONE, type Message, numberAt } from './message.ts';
import type { Transaction } from './nft.ts';

/** One half of a namespace, what `ip` or what `nft` talks to; devices, flushes and single requests are of the first. */
export class Routing {
  private readonly socket: NetlinkSocket;
  /** Of devices, by name. */
  private readonly indexes = new Map<string, number>();
  private sequence = 0;

  constructor(socket: NetlinkSocket) {
    this.socket = socket;
  }

  /** `message` may ask for an index. */
  perform(message: () => Message): Outcome {
    return withDevice(() => outcomeOf(this.ask(message())));
  }

  /** The first thing that cannot be taken away ends it; one that is gone by then is none. */
  flush({ question, removal }: Flush): Outcome {
    return withDevice(() => {
      const { found, outcome } = this.list(question((device) => this.index(device)));
      for (const one of found) {
        const request = removal(one);
        if (request === undefined) continue;
        const removed = this.perform(() => request);
        if (!isAbsent(removed)) return removed;
      }
      return outcome;
    });
  }

  /** Index of a device. Throws what `perform` and `flush` make a sentence of when there is none. */
  index(device: string): number {
    const known = this.indexes.get(device);
    if (known !== undefined) return known;
    const answer = this.ask(linkQuestion(device));
    if (answer?.type !== NEW_LINK) throw new NoDevice(device);
    const index = numberAt(answer.body, 4);
    this.indexes.set(device, index);
    return index;
  }

  /** What a question of many answers brings, as far as it came; `interrupted` where some may be left out. */
  list(question: Message): { found: Uint8Array[]; outcome: Outcome; interrupted: boolean } {
    const sequence = this.send(question);
    const found: Uint8Array[] = [];
    let interrupted = false;
    for (let datagram = this.socket.receive(); datagram !== undefined; datagram = this.socket.receive()) {
      for (const answer of answersIn(datagram)) {
        if (answer.sequence !== sequence) continue;
        interrupted ||= answer.interrupted;
        if (answer.errno !== 0 || answer.type === DONE)
          return { found, outcome: outcomeOf(answer), interrupted };
        // The buffer is the next datagram's.
        found.push(answer.body.slice());
      }
    }
    return { found, outcome: outcomeOf(undefined), interrupted };
  }

  /**
   * The same, asked again where things went on changing meanwhile.
   *
   * @returns whether it is all there was at one moment; what was found is there either way.
   */
  listWhole(question: () => Message): { found: Uint8Array[]; whole: boolean } {
    for (let left = 5; ; left -= 1) {
      const { found, outcome, interrupted } = this.list(question());
      if (!interrupted || left === 0) return { found, whole: !interrupted && outcome.errno === 0 };
    }
  }

  /** The kernel has answered when a request was sent; answers to others (a killed caller's) are not ours. */
  private ask(message: Message): Answer | undefined {
    const sequence = this.send(message);
    for (let datagram = this.socket.receive(); datagram !== undefined; datagram = this.socket.receive()) {
      const answer = answersIn(datagram).find((one) => one.sequence === sequence);
      if (answer !== undefined) return answer;
    }
    return undefined;
  }

  private send(message: Message): number {
    this.sequence += 1;
    this.socket.send(new Uint8Array(message.finish(this.sequence)));
    return this.sequence;
  }
}

/** What became of a request. */
export interface Outcome {
  /** 0: done. */
  errno: number;
  /** Why not, in the words of `ip`. */
  problem: string | undefined;
}

const ENOENT = 2;
const ESRCH = 3;
const EIO = 5;
const ENODEV = 19;
/** Of IPv6 where the kernel has none. */
const EAFNOSUPPORT = 97;
const EADDRNOTAVAIL = 99;

/** Whether, by what became of its removal, something is not there. */
export function isAbsent({ errno }: Outcome): boolean {
  return [0, ENOENT, ESRCH, ENODEV, EAFNOSUPPORT, EADDRNOTAVAIL].includes(errno);
}

function outcomeOf(answer: Answer | undefined): Outcome {
  if (answer === undefined) return { errno: EIO, problem: 'No answer from the kernel' };
  const { errno } = answer;
  return { errno, problem: errno === 0 ? undefined : said(answer, 'RTNETLINK answers') };
}

class NoDevice extends Error {}

function withDevice(work: () => Outcome): Outcome {
  try {
    return work();
  } catch (error) {
    if (error instanceof NoDevice) return { errno: ENODEV, problem: `Cannot find device "${error.message}"` };
    throw error;
  }
}

/**
 * The first error of a transaction of nftables, of which nothing is done then.
 *
 * @throws SystemCallError when the kernel's answer is lost: it may be done or not.
 */
export function commit(socket: NetlinkSocket, { bytes, last }: Transaction): Answer | undefined {
  socket.send(bytes);
  let acknowledged = false;
  for (let datagram = socket.receive(); datagram !== undefined; datagram = socket.receive()) {
    for (const answer of answersIn(datagram)) {
      if (answer.errno !== 0) return answer;
      if (answer.sequence === last) acknowledged = true;
    }
  }
  if (!acknowledged) throw new SystemCallError('recv, of the answer to a transaction of nftables', EIO);
  return undefined;
}

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
  97: 'Address family not supported by protocol',
  98: 'Address already in use',
  99: 'Cannot assign requested address',
  100: 'Network is down',
  101: 'Network is unreachable',
  105: 'No buffer space available',
  113: 'No route to host',
};

/** @param who speaks where the kernel has no words of its own: `RTNETLINK answers`, `Error`. */
export function said({ errno, words }: Answer, who: string): string {
  if (words !== '') return `Error: ${words}.`;
  return `${who}: ${errors[errno] ?? `error ${errno}`}`;
}
