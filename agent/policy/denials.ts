// Denied packets one by one, for the journal: the log rules of pods' tables hand them to a listener in the pod's namespace.
// Source of the numbers: linux/netfilter/nfnetlink_log.h.
import { ipv6FromBytes } from '../host/ipv6.ts';
import { header } from '../kernel/encode-nft.ts';
import { answersIn, attributesIn, be32, Message, REQUEST, textOf } from '../kernel/message.ts';
import { type OpenSocket, openNetfilter } from '../port/netlink.ts';
import type { LocalPod } from './enforce.ts';
import { LOG_GROUP } from './pod-table.ts';

export interface Denial {
  /** `namespace/name` */
  pod: string;
  direction: string;
  from: string;
  to: string;
  /** The protocol's number, when its ports are not read. */
  protocol: string;
  port?: number;
}

const SUBSYSTEM = 4 * 256;
const PACKET = SUBSYSTEM;
const CONFIG = SUBSYSTEM + 1;
const COMMAND = { attribute: 1, bind: 1 };
const MODE = { attribute: 2, packet: 2 };
const PAYLOAD = 9;
const PREFIX = 10;
/** Enough for an IPv6 header and ports. */
const SNAP_BYTES = 64;
const SEND_BYTES = 4096;
const protocols: Record<number, string> = { 6: 'TCP', 17: 'UDP', 132: 'SCTP' };

export interface Denials {
  setPods(pods: readonly LocalPod[]): void;
  /** What was denied since the last call. */
  take(): Denial[];
  close(): void;
}

/** @param failed is called once for each pod whose denials the kernel cannot report. */
export function createDenials(failed: (pod: string, problem: unknown) => void): Denials {
  const heard = new Map<string, { key: string; socket: OpenSocket | undefined }>();
  const forget = (id: string) => {
    heard.get(id)?.socket?.close();
    heard.delete(id);
  };
  return {
    setPods(pods) {
      const ids = new Set(pods.map(({ id }) => id));
      for (const id of [...heard.keys()]) if (!ids.has(id)) forget(id);
      for (const { id, key, netns } of pods) {
        if (heard.has(id)) continue;
        let socket: OpenSocket | undefined;
        try {
          socket = listenIn(netns);
        } catch (error) {
          failed(key, error);
        }
        heard.set(id, { key, socket });
      }
    },
    take: () =>
      [...heard.values()].flatMap(({ key, socket }) => (socket === undefined ? [] : denialsIn(key, socket))),
    close: () => {
      for (const id of [...heard.keys()]) forget(id);
    },
  };
}

function listenIn(netns: string): OpenSocket {
  const socket = openNetfilter(netns, SEND_BYTES);
  for (const [attribute, value] of [
    [COMMAND.attribute, [COMMAND.bind]],
    [MODE.attribute, [...be32(SNAP_BYTES), MODE.packet, 0]],
  ] as const) {
    const message = header(new Message(CONFIG, REQUEST), 0, LOG_GROUP).attribute(attribute, value);
    socket.send(new Uint8Array(message.finish(1)));
    const refused = answersIn(socket.receive() ?? new Uint8Array()).find(({ errno }) => errno !== 0);
    if (refused !== undefined) {
      socket.close();
      throw new Error(`nfnetlink_log: error ${refused.errno}`);
    }
  }
  return socket;
}

function denialsIn(pod: string, socket: OpenSocket): Denial[] {
  const found: Denial[] = [];
  for (let datagram = next(socket); datagram !== undefined; datagram = next(socket))
    for (const { type, body } of answersIn(datagram)) {
      if (type !== PACKET) continue;
      const attributes = attributesIn(body, 4);
      const packet = attributes.get(PAYLOAD);
      const read = packet && readPacket(packet);
      if (read !== undefined) found.push({ pod, direction: textOf(attributes.get(PREFIX)), ...read });
    }
  return found;
}

/** Packets that did not fit into the socket's buffer are lost (ENOBUFS), which is acceptable for a log. */
function next(socket: OpenSocket): Uint8Array | undefined {
  try {
    return socket.receive();
  } catch {
    return undefined;
  }
}

/** Does not look behind extension headers of IPv6. */
function readPacket(bytes: Uint8Array): Omit<Denial, 'pod' | 'direction'> | undefined {
  const version = (bytes[0] ?? 0) >> 4;
  const length = version === 4 ? 4 * ((bytes[0] ?? 0) & 15) : 40;
  if ((version !== 4 && version !== 6) || bytes.length < length) return undefined;
  const number = bytes[version === 4 ? 9 : 6] ?? 0;
  const addresses = version === 4 ? [12, 16, 20] : [8, 24, 40];
  const [from = '', to = ''] = [0, 1].map((at) => {
    const part = bytes.slice(addresses[at], addresses[at + 1]);
    return version === 4 ? part.join('.') : ipv6FromBytes(part);
  });
  const protocol = protocols[number];
  if (protocol === undefined || bytes.length < length + 4) return { from, to, protocol: String(number) };
  return { from, to, protocol, port: 256 * (bytes[length + 2] ?? 0) + (bytes[length + 3] ?? 0) };
}
