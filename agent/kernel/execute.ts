// Executes operations over netlink, without changing them. In the CNI path, starting a program costs more than all work
// of a call.
import { writeFileSync } from 'node:fs';
import { readSysctl } from '../host/sysctl.ts';
import { hasCode } from '../port/fs.ts';
import { isSystemError, SystemCallError } from '../port/libc.ts';
import { inOwnNamespace, inTwoNamespaces, type NetlinkSocket } from '../port/netlink.ts';
import { Conversation, commit, NoDevice, type Refusal } from './conversation.ts';
import { encode, type RoutingObject, type RoutingOperation } from './encode.ts';
import { encodeFlush } from './encode-flush.ts';
import { tableRemoval, tablesTransaction } from './encode-nft.ts';
import { Listing } from './is-there.ts';
import { TableListing } from './is-there-nft.ts';
import type { KernelOperation, Setting, Side, Tables } from './operation.ts';

/** The operation that was not done, and why. */
export interface Problem extends Refusal {
  operation: KernelOperation;
}

/** The kernel, for the time of a session. */
export interface Kernel {
  /** Executes the operations in order and stops at the first that the kernel refuses. */
  run(operations: readonly KernelOperation[]): Problem | undefined;
  /**
   * A setting of the namespace that this thread is in, by its path below /proc/sys; undefined when there is no such
   * setting.
   */
  setting(path: string): string | undefined;
  /** The current objects of a side. */
  listing(side: Side): Listing;
  /** The current nftables of the pod. */
  tables(): TableListing;
}

/**
 * A session with the pod's namespace and the node's. During `work` this thread is in the pod's namespace, so `work`
 * must neither wait nor start a program.
 *
 * @throws SystemCallError, or Node's error, when the namespace cannot be entered.
 */
export function inPod<T>(netns: string, work: (kernel: Kernel) => T): T {
  return inTwoNamespaces(netns, ({ node, pod, podNetfilter, podFd }) =>
    work(new Session({ node: new Conversation(node), pod: new Conversation(pod) }, podNetfilter, podFd)),
  );
}

/** As inPod, but returns undefined when the path no longer leads to a namespace. */
export function inPodIfThere<T>(netns: string, work: (kernel: Kernel) => T): T | undefined {
  let entered = false;
  try {
    return inPod(netns, (kernel) => {
      entered = true;
      return work(kernel);
    });
  } catch (error) {
    const noNamespace = error instanceof SystemCallError && error.errno === EINVAL;
    if (!entered && (noNamespace || hasCode(error, 'ENOENT', 'ENOTDIR'))) return undefined;
    throw error;
  }
}

/** A session with the namespace that this process is in. @throws SystemCallError */
export function inNode<T>(work: (kernel: Kernel) => T): T {
  return inOwnNamespace((node) => work(new Session({ node: new Conversation(node) }, undefined, -1)));
}

const EIO = 5;
const EEXIST = 17;
const ENODEV = 19;
const EINVAL = 22;
/**
 * Errnos for an object that is not there: ENOENT, ESRCH, ENODEV, EADDRNOTAVAIL; for IPv6 on a kernel without it also
 * EAFNOSUPPORT.
 */
const ABSENT = [2, 3, ENODEV, 97, 99];

class Session implements Kernel {
  private readonly sides: Partial<Record<Side, Conversation>>;
  private readonly netfilter: NetlinkSocket | undefined;
  private readonly podFd: number;

  constructor(
    sides: Partial<Record<Side, Conversation>>,
    netfilter: NetlinkSocket | undefined,
    podFd: number,
  ) {
    this.sides = sides;
    this.netfilter = netfilter;
    this.podFd = podFd;
  }

  run(operations: readonly KernelOperation[]): Problem | undefined {
    for (const operation of operations) {
      const refusal = this.refusalOf(operation);
      if (refusal !== undefined) return { operation, ...refusal };
    }
    return undefined;
  }

  setting(path: string): string | undefined {
    return readSysctl(path);
  }

  listing(side: Side): Listing {
    return new Listing(this.side(side));
  }

  tables(): TableListing {
    return new TableListing(new Conversation(this.podNetfilter()));
  }

  /** When the answer was lost (EIO), the kernel may have executed the operation. */
  private refusalOf(operation: KernelOperation): Refusal | undefined {
    try {
      return this.perform(operation);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      return { errno: Math.abs(error.errno ?? EIO), words: error.message };
    }
  }

  private perform(operation: KernelOperation): Refusal | undefined {
    const { on } = operation;
    switch (operation.do) {
      case 'make': {
        const { what, ifThere } = operation;
        if (what.kind === 'setting') return writeSetting(what);
        if (what.kind === 'tables') return this.makeTables(what, ifThere === 'remake');
        return this.make(on, { do: 'make', what, ifThere });
      }
      case 'set':
        return this.ask(on, operation);
      case 'remove': {
        const { what } = operation;
        if (what.kind === 'table') return unlessAbsent(commit(this.podNetfilter(), tableRemoval(what)));
        return unlessAbsent(this.ask(on, { do: 'remove', what }));
      }
      case 'flush':
        return noDevice(() => this.flush(operation));
    }
  }

  private make(on: Side, operation: RoutingOperation & { what: RoutingObject }): Refusal | undefined {
    const refusal = this.ask(on, operation);
    const { what } = operation;
    if (refusal?.errno !== EEXIST || operation.do !== 'make') return refusal;
    if (operation.ifThere === 'keep') return undefined;
    if (operation.ifThere !== 'remake' || what.kind !== 'veth') return refusal;
    const device = what.end.name;
    this.ask(on, { do: 'remove', what: { kind: 'device', device } });
    // A device that is made again has another index.
    this.side(on).forget(device);
    return this.ask(on, operation);
  }

  /**
   * Creates tables, and replaces them only when a killed call has left some: replacing waits for a grace period of the
   * kernel.
   */
  private makeTables({ tables }: Tables, again: boolean): Refusal | undefined {
    const refusal = commit(this.podNetfilter(), tablesTransaction(tables, false));
    if (refusal?.errno !== EEXIST || !again) return refusal;
    return commit(this.podNetfilter(), tablesTransaction(tables, true));
  }

  /**
   * Stops at the first object that the kernel does not remove. An object that has gone in the meantime counts as
   * removed.
   */
  private flush(operation: Extract<KernelOperation, { do: 'flush' }>): Refusal | undefined {
    const side = this.side(operation.on);
    const { question, removal } = encodeFlush(operation, (device) => side.index(device));
    const { found, refusal } = side.list(question);
    for (const one of found) {
      const request = removal(one);
      const left = request === undefined ? undefined : unlessAbsent(side.ask(request));
      if (left !== undefined) return left;
    }
    return unlessAbsent(refusal);
  }

  private ask(on: Side, operation: RoutingOperation): Refusal | undefined {
    const side = this.side(on);
    return noDevice(() =>
      side.ask(encode(operation, { index: (device) => side.index(device), podFd: this.podFd })),
    );
  }

  private side(side: Side): Conversation {
    const found = this.sides[side];
    if (found === undefined) throw new Error(`this session has no ${side}`);
    return found;
  }

  private podNetfilter(): NetlinkSocket {
    if (this.netfilter === undefined) throw new Error('this session has no nftables');
    return this.netfilter;
  }
}

function writeSetting({ path, value }: Setting): undefined {
  writeFileSync(`/proc/sys/${path}`, value);
}

function noDevice(work: () => Refusal | undefined): Refusal | undefined {
  try {
    return work();
  } catch (error) {
    if (error instanceof NoDevice) return { errno: ENODEV, words: error.message };
    throw error;
  }
}

function unlessAbsent(refusal: Refusal | undefined): Refusal | undefined {
  return refusal === undefined || ABSENT.includes(refusal.errno) ? undefined : refusal;
}
