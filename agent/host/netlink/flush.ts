// `route flush` and `address flush` for `ip -batch`, as messages of rtnetlink: a question of many answers, and a request
// for each. Numbers are those of linux/rtnetlink.h and if_addr.h.
import { RTA, tableOf } from './ip.ts';
import { ACK, DUMP, le32, Message, numberAt, REQUEST } from './message.ts';
import { AF_INET, AF_INET6, numberOf } from './values.ts';

const DEL_ADDRESS = 21;
const GET_ADDRESS = 22;
const DEL_ROUTE = 25;
const GET_ROUTE = 26;
const LINK_SCOPE = 253;
const tables: Record<string, number> = { main: 254 };
const types: Record<string, number> = { unreachable: 7 };

/** Kernels before 4.20 do not look at what a question says and answer with all there is, so each answer is looked at. */
export interface Flush {
  /** @param index of a device; throws when there is none. */
  question(index: (device: string) => number): Message;
  /** What takes away what was found; undefined for something that the line does not mean. */
  removal(found: Uint8Array): Message | undefined;
}

/** Undefined for a line of any other form. */
export function flushOf(text: string, inet6 = false): Flush | undefined {
  return text.startsWith('address ') ? addressFlush(text) : routeFlush(text, inet6);
}

/** `address flush dev D scope link`: of both families. */
function addressFlush(text: string): Flush | undefined {
  const [, device = ''] = /^address flush dev (\S+) scope link$/.exec(text) ?? [];
  if (device === '') return undefined;
  let index = 0;
  return {
    question(indexOf) {
      index = indexOf(device);
      return new Message(GET_ADDRESS, REQUEST | DUMP).u8(0, 0, 0, 0).u32(index);
    },
    removal(found) {
      if (numberAt(found, 4) !== index || found[3] !== LINK_SCOPE) return undefined;
      return new Message(DEL_ADDRESS, REQUEST | ACK).u8(...found);
    },
  };
}

/** `route flush table T [type unreachable] proto P` */
function routeFlush(text: string, inet6: boolean): Flush | undefined {
  const [, name = '', kind, number = ''] =
    /^route flush table (\w+)(?: type (\w+))? proto (\d+)$/.exec(text) ?? [];
  const table = tables[name] ?? numberOf(name);
  const type = kind === undefined ? 0 : types[kind];
  const protocol = numberOf(number);
  if (table === undefined || type === undefined || protocol === undefined) return undefined;
  return {
    question: () =>
      new Message(GET_ROUTE, REQUEST | DUMP)
        .u8(inet6 ? AF_INET6 : AF_INET, 0, 0, 0)
        .u8(table < 256 ? table : 0, protocol, 0, type)
        .u32(0)
        .attribute(RTA.table, le32(table)),
    removal(found) {
      if (found[5] !== protocol || (type !== 0 && found[7] !== type)) return undefined;
      return tableOf(found) === table ? routeRemoval(found) : undefined;
    },
  };
}

/** Takes a route away, as it was listed. */
export function routeRemoval(found: Uint8Array): Message {
  return new Message(DEL_ROUTE, REQUEST | ACK).u8(...found);
}
