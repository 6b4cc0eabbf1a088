// Requests to one network namespace, and the kernel's answers.
import { SystemCallError } from '../port/libc.ts';
import type { NetlinkSocket } from '../port/netlink.ts';
import { linkQuestion, NEW_LINK } from './encode.ts';
import type { Transaction } from './encode-nft.ts';
import { type Answer, answersIn, DONE, type Message, numberAt } from './message.ts';

/** The kernel's reason for a refusal. */
export interface Refusal {
  errno: number;
  /** The kernel's own text, or the C library's text for the errno. */
  words: string;
}

/**
 * Speaks one of a namespace's two netlink protocols: rtnetlink, as `ip` does, or nfnetlink, as `nft` does. Devices and
 * single requests belong to rtnetlink.
 */
export class Conversation {
  private readonly socket: NetlinkSocket;
  /** Device indexes by name. */
  private readonly indexes = new Map<string, number>();
  private sequence = 0;

  constructor(socket: NetlinkSocket) {
    this.socket = socket;
  }

  ask(message: Message): Refusal | undefined {
    return refusalIn(this.answerTo(message));
  }

  /** Index of a device. @throws NoDevice */
  index(device: string): number {
    const known = this.indexes.get(device);
    if (known !== undefined) return known;
    const answer = this.answerTo(linkQuestion(device));
    if (answer?.type !== NEW_LINK) throw new NoDevice(`there is no device ${device}`);
    const index = numberAt(answer.body, 4);
    this.indexes.set(device, index);
    return index;
  }

  /** After this call the name may belong to a new device with another index. */
  forget(device: string): void {
    this.indexes.delete(device);
  }

  /**
   * What a dump request returned until it ended or failed. `interrupted`: objects changed during the dump, and some may
   * be missing. No more than `most` are kept, since a pod decides how many objects its namespace has.
   */
  list(
    question: Message,
    most = Number.POSITIVE_INFINITY,
  ): { found: Uint8Array[]; refusal: Refusal | undefined; interrupted: boolean } {
    const sequence = this.send(question);
    const found: Uint8Array[] = [];
    let interrupted = false;
    for (let datagram = this.socket.receive(); datagram !== undefined; datagram = this.socket.receive()) {
      for (const answer of answersIn(datagram)) {
        if (answer.sequence !== sequence) continue;
        interrupted ||= answer.interrupted;
        if (answer.errno !== 0 || answer.type === DONE)
          return { found, refusal: refusalIn(answer), interrupted };
        // The next datagram overwrites this buffer.
        if (found.length < most) found.push(answer.body.slice());
      }
    }
    return { found, refusal: refusalIn(undefined), interrupted };
  }

  /** The one object that a question names; undefined when it is not there. @throws SystemCallError when the kernel refuses. */
  one(question: Message): Uint8Array | undefined {
    const answer = this.answerTo(question);
    if (answer?.errno === 0) return answer.body.slice();
    const { errno, words } = refusalIn(answer) ?? { errno: EIO, words: '' };
    if (NOTHING.includes(errno)) return undefined;
    throw new SystemCallError(`a look: ${words}`, errno);
  }

  /** Repeats a dump that was interrupted, five times at most. @throws SystemCallError when the kernel refuses it. */
  listAll(question: () => Message, most?: number): All<Uint8Array> {
    for (let left = 5; ; left -= 1) {
      const { found, refusal, interrupted } = this.list(question(), most);
      if (refusal !== undefined && !NOTHING.includes(refusal.errno))
        throw new SystemCallError(`a listing: ${refusal.words}`, refusal.errno);
      if (!interrupted || left === 0) return new All(found, !interrupted);
    }
  }

  /**
   * The kernel has answered by the time the send returns. Answers to another caller's requests (one that was killed)
   * are skipped.
   */
  private answerTo(message: Message): Answer | undefined {
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

export class NoDevice extends Error {}

/**
 * The result of a dump. An object that was seen is there. That an object is absent is certain only when the dump was
 * not interrupted.
 */
export class All<T> {
  readonly seen: readonly T[];
  private readonly isWhole: boolean;

  constructor(seen: readonly T[], isWhole: boolean) {
    this.seen = seen;
    this.isWhole = isWhole;
  }

  /** @throws SystemCallError when nothing fits and the dump was interrupted. */
  find(fits: (one: T) => boolean): T | undefined {
    const found = this.seen.find(fits);
    if (found === undefined) this.whole();
    return found;
  }

  /** @throws SystemCallError when the dump was interrupted. */
  whole(): readonly T[] {
    if (!this.isWhole) throw new SystemCallError('a listing that changed each time', EINTR);
    return this.seen;
  }

  map<U>(to: (one: T) => U): All<U> {
    return new All(this.seen.map(to), this.isWhole);
  }

  filter(fits: (one: T) => boolean): All<T> {
    return new All(this.seen.filter(fits), this.isWhole);
  }
}

/**
 * Sends a transaction of nftables and returns its first error. On an error the kernel has changed nothing.
 *
 * @throws SystemCallError when the kernel's answer is lost: the kernel may have made the change or not.
 */
export function commit(socket: NetlinkSocket, { bytes, last }: Transaction): Refusal | undefined {
  socket.send(bytes);
  let acknowledged = false;
  let refusal: Refusal | undefined;
  // Each message that the kernel refuses has an answer. All are taken: the socket's next use would find those that are left.
  for (let datagram = nextAnswers(socket); datagram !== undefined; datagram = nextAnswers(socket)) {
    for (const answer of answersIn(datagram)) {
      refusal ??= answer.errno === 0 ? undefined : refusalIn(answer);
      if (answer.sequence === last) acknowledged = true;
    }
  }
  if (refusal !== undefined) return refusal;
  if (!acknowledged) throw new SystemCallError('recv, of the answer to a transaction of nftables', EIO);
  return undefined;
}

/** The kernel tells once that it has dropped answers for which the socket had no room. Those that it has kept come next. */
function nextAnswers(socket: NetlinkSocket): Uint8Array | undefined {
  try {
    return socket.receive();
  } catch (error) {
    if (error instanceof SystemCallError && error.errno === ENOBUFS) return socket.receive();
    throw error;
  }
}

const EIO = 5;
const ENOBUFS = 105;
const EINTR = 4;
/** ENOENT: the set is gone. EOPNOTSUPP and EAFNOSUPPORT: this kernel does not have this kind of object at all. */
const NOTHING = [2, 95, 97];

/** @param answer undefined when no answer came. */
function refusalIn(answer: Answer | undefined): Refusal | undefined {
  if (answer === undefined) return { errno: EIO, words: 'no answer from the kernel' };
  const { errno, words } = answer;
  return errno === 0
    ? undefined
    : { errno, words: words === '' ? (errors[errno] ?? `error ${errno}`) : words };
}

/** The C library's texts for the errnos that rtnetlink and nfnetlink answer. */
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
