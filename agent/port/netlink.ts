// The kernel's netlink sockets and network namespaces, for which JavaScript has no calls: libc through the foreign calls of the
// compiled runtime.
import { closeSync, openSync } from 'node:fs';
import { statIfPresent } from './fs.ts';
import { loadCalls, SystemCallError } from './libc.ts';

/** Numbers of linux/socket.h and linux/netlink.h; the same on every CPU. */
const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 0x80003;
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const CLONE_NEWNET = 0x40000000;
const MSG_DONTWAIT = 0x40;
/** recv then returns the datagram's own length, also when the buffer was too short. */
const MSG_TRUNC = 0x20;
/**
 * A datagram has up to 32 KiB, and more for a device whose alternative names alone take up to 64 KiB (rtnl_alt_ifname in
 * net/core/rtnetlink.c). A pod with NET_ADMIN can give its devices that many.
 */
const DATAGRAM = 128 * 1024;
const protocols = { route: 0, netfilter: 12 } as const;
const EINTR = 4;
const EAGAIN = 11;
const EMSGSIZE = 90;

type Libc = ReturnType<typeof load>;

/** A socket stays for good in the namespace in which it was made. */
export interface NetlinkSocket {
  /** Sends one buffer. When this returns, the kernel has done what the buffer asks. */
  send(bytes: Uint8Array): void;
  /** One datagram of the kernel's answers, undefined when there is no more. Valid until the next call. */
  receive(): Uint8Array | undefined;
}

export interface TwoNamespaces {
  /** A routing socket (NETLINK_ROUTE) in the namespace of this process. */
  node: NetlinkSocket;
  pod: NetlinkSocket;
  podNetfilter: NetlinkSocket;
  /** A descriptor of the pod's namespace. */
  podFd: number;
}

/**
 * Runs `work` with sockets in both namespaces. Meanwhile this thread is in the pod's namespace: what `work` writes below
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
      // What comes next belongs to the node, so a process that cannot go back to its namespace must not go on.
      if (libc.setns(ownFd, CLONE_NEWNET) !== 0) process.abort();
    }
  });
}

/**
 * Whether a path leads to a namespace. All namespaces are files of one file system; the file that an unmounted namespace leaves
 * is not.
 */
export function isNamespace(path: string): boolean {
  return statIfPresent(path)?.dev === statIfPresent('/proc/self/ns/net')?.dev;
}

/** A netfilter socket (NETLINK_NETFILTER) that stays open in a pod's namespace, for transactions of up to `mostBytes`. */
export interface OpenSocket extends NetlinkSocket {
  close(): void;
}

/** @throws SystemCallError, or Node's error when the path cannot be opened. */
export function openNetfilter(netns: string, mostBytes: number): OpenSocket {
  let opened: { fd: number; socket: NetlinkSocket } | undefined;
  withDescriptors((libc, keep) => {
    const podFd = keep(openSync(netns, 'r'));
    const ownFd = keep(openSync('/proc/self/ns/net', 'r'));
    check(libc, 'setns', libc.setns(podFd, CLONE_NEWNET));
    try {
      let fd = -1;
      const socket = openSocket(libc, 'netfilter', (made) => {
        fd = made;
        return made;
      });
      libc.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, new Uint8Array(new Uint32Array([mostBytes]).buffer), 4);
      opened = { fd, socket };
    } finally {
      if (libc.setns(ownFd, CLONE_NEWNET) !== 0) process.abort();
    }
  });
  if (opened === undefined) throw new Error('no socket was opened');
  const { fd, socket } = opened;
  return { ...socket, close: () => closeSync(fd) };
}

/** Runs `work` with a routing socket (NETLINK_ROUTE) in the namespace of this process. @throws SystemCallError */
export function inOwnNamespace<T>(work: (node: NetlinkSocket) => T): T {
  return withDescriptors((libc, keep) => work(openSocket(libc, 'route', keep)));
}

/** Closes every descriptor that `work` keeps. */
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
  // The kernel then says in words what is wrong with a message, and does not repeat the message.
  const on = new Uint8Array([1, 0, 0, 0]);
  libc.setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, on, 4);
  libc.setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, on, 4);
  // The kernel then answers a question with what the question names, and not with everything there is.
  if (protocol === 'route') libc.setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, on, 4);
  const buffer = new Uint8Array(DATAGRAM);
  return {
    send(bytes) {
      check(libc, 'send', libc.send(fd, bytes, bytes.length, 0));
    },
    receive() {
      for (;;) {
        const got = libc.recv(fd, buffer, buffer.length, MSG_DONTWAIT | MSG_TRUNC);
        if (got > buffer.length) throw new SystemCallError('recv', EMSGSIZE);
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
