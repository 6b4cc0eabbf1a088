// The kernel's netlink sockets and network namespaces, which JavaScript has no call for: libc through the compiled
// runtime's own foreign calls. Where they are missing (Node) nothing here works, and callers use programs instead.
import { closeSync, openSync } from 'node:fs';
import { statIfPresent } from './fs.ts';
import { loadCalls, SystemCallError } from './libc.ts';

/** Numbers of linux/socket.h and linux/netlink.h; the same on every CPU. */
const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 0x80003;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const CLONE_NEWNET = 0x40000000;
const MSG_DONTWAIT = 0x40;
const protocols = { route: 0, netfilter: 12 } as const;
const EINTR = 4;
const EAGAIN = 11;

type Libc = ReturnType<typeof load>;

/** A socket belongs to the namespace its maker was in, for good. */
export interface NetlinkSocket {
  /** Sends one buffer; the kernel has done what it says when this returns. */
  send(bytes: Uint8Array): void;
  /** One datagram of its answers, undefined when there is no more. Valid until the next call. */
  receive(): Uint8Array | undefined;
}

export interface TwoNamespaces {
  /** Netlink of the namespace this process is in, of its routing half. */
  node: NetlinkSocket;
  pod: NetlinkSocket;
  podNetfilter: NetlinkSocket;
  /** A descriptor of the pod's namespace. */
  podFd: number;
}

/** Whether a path leads to a namespace. All of them are files of one file system: what an unmounted one leaves is not. */
export function isNamespace(path: string): boolean {
  return statIfPresent(path)?.dev === statIfPresent('/proc/self/ns/net')?.dev;
}

/**
 * Runs `work` with sockets in both namespaces. Meanwhile this thread is in the pod's: what `work` writes below
 * /proc/sys/net is the pod's. It must neither wait nor start anything. Everything is closed at the end.
 *
 * @throws SystemCallError, or Node's error when the path cannot be opened.
 */
export function inTwoNamespaces<T>(netns: string, work: (sockets: TwoNamespaces) => T): T {
  return withDescriptors((libc, keep) => {
    const podFd = keep(openSync(netns, 'r'));
    const ownFd = keep(openSync('/proc/self/ns/net', 'r'));
    const node = openSocket(libc, 'route', keep);
    check(libc, 'setns', libc.setns(podFd, CLONE_NEWNET));
    try {
      const pod = openSocket(libc, 'route', keep);
      const podNetfilter = openSocket(libc, 'netfilter', keep);
      return work({ node, pod, podNetfilter, podFd });
    } finally {
      // What comes next belongs to the node: a process that cannot go back must not go on.
      if (libc.setns(ownFd, CLONE_NEWNET) !== 0) process.abort();
    }
  });
}

/** Runs `work` with a socket of the namespace this process is in, of its routing half. @throws SystemCallError */
export function inOwnNamespace<T>(work: (node: NetlinkSocket) => T): T {
  return withDescriptors((libc, keep) => work(openSocket(libc, 'route', keep)));
}

/** Closes whatever `work` keeps. */
function withDescriptors<T>(work: (libc: Libc, keep: (fd: number) => number) => T): T {
  loaded ??= load();
  const libc = loaded;
  const open: number[] = [];
  try {
    return work(libc, (fd) => {
      open.push(fd);
      return fd;
    });
  } finally {
    for (const fd of open) closeSync(fd);
  }
}

let loaded: Libc | undefined;

function load() {
  return loadCalls({
    socket: { args: ['i32', 'i32', 'i32'], returns: 'i32' },
    setsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'u32'], returns: 'i32' },
    send: { args: ['i32', 'ptr', 'u32', 'i32'], returns: 'i32' },
    recv: { args: ['i32', 'ptr', 'u32', 'i32'], returns: 'i32' },
    setns: { args: ['i32', 'i32'], returns: 'i32' },
  });
}

function openSocket(
  libc: Libc,
  protocol: keyof typeof protocols,
  keep: (fd: number) => number,
): NetlinkSocket {
  const fd = libc.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocols[protocol]);
  check(libc, 'socket', fd);
  keep(fd);
  // The kernel says in words what is wrong with a message, and does not repeat the message.
  const on = new Uint8Array([1, 0, 0, 0]);
  libc.setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, on, 4);
  libc.setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, on, 4);
  // It answers a question with what the question names, and not with all there is.
  if (protocol === 'route') libc.setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, on, 4);
  const buffer = new Uint8Array(32_768);
  return {
    send(bytes) {
      check(libc, 'send', libc.send(fd, bytes, bytes.length, 0));
    },
    receive() {
      for (;;) {
        const got = libc.recv(fd, buffer, buffer.length, MSG_DONTWAIT);
        if (got >= 0) return buffer.subarray(0, got);
        const errno = libc.errno();
        if (errno === EAGAIN) return undefined;
        if (errno !== EINTR) throw new SystemCallError('recv', errno);
      }
    },
  };
}

function check(libc: Libc, call: string, result: number): void {
  if (result < 0) throw new SystemCallError(call, libc.errno());
}
