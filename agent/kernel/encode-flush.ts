// A flush as messages of rtnetlink: one dump request, then one request for each object to remove. Numbers are those of
// linux/rtnetlink.h and if_addr.h.
import { ROUTE_PROTOCOL } from '../host/names.ts';
import { AF_INET, AF_INET6 } from './bytes.ts';
import { MAIN_TABLE, RTA, routeRemoval, tableNumber, tableOf } from './encode.ts';
import { ACK, attributesIn, DUMP, le32, Message, numberAt, numberIn, REQUEST } from './message.ts';
import type { KernelOperation } from './operation.ts';

const DEL_ADDRESS = 21;
const GET_ADDRESS = 22;
const GET_ROUTE = 26;
const LINK_SCOPE = 253;
const UNREACHABLE = 7;
/** RTM_F_CLONED: the kernel has derived this route from one of a table; the route itself is in no table. */
const CLONED = 0x200;

/** Kernels before 4.20 ignore the filter in a dump request and list everything, so `removal` checks each object. */
export interface Flush {
  question: Message;
  /** The request that removes the object found; undefined when the flush is not for this object. */
  removal(found: Uint8Array): Message | undefined;
}

/** @param index returns the index of a device; throws when there is none. */
export function encodeFlush(
  { what }: Extract<KernelOperation, { do: 'flush' }>,
  index: (device: string) => number,
): Flush {
  if (what.kind === 'addresses') return addressFlush(index(what.device), what.scope);
  const family = what.family === 6 ? AF_INET6 : AF_INET;
  if ('device' in what) return deviceFlush(family, index(what.device));
  return routeFlush(family, tableNumber(what.table), what.type === undefined ? 0 : UNREACHABLE);
}

function addressFlush(index: number, scope: 'link' | 'any'): Flush {
  return {
    question: new Message(GET_ADDRESS, REQUEST | DUMP).u8(0, 0, 0, 0).u32(index),
    removal(found) {
      if (numberAt(found, 4) !== index || (scope === 'link' && found[3] !== LINK_SCOPE)) return undefined;
      return new Message(DEL_ADDRESS, REQUEST | ACK).u8(...found);
    },
  };
}

/** @param type 0 for routes of any type. */
function routeFlush(family: number, table: number, type: number): Flush {
  return {
    question: new Message(GET_ROUTE, REQUEST | DUMP)
      .u8(family, 0, 0, 0)
      .u8(table < 256 ? table : 0, ROUTE_PROTOCOL, 0, type)
      .u32(0)
      .attribute(RTA.table, le32(table)),
    removal(found) {
      if (found[5] !== ROUTE_PROTOCOL || (type !== 0 && found[7] !== type)) return undefined;
      return tableOf(found) === table ? routeRemoval(found) : undefined;
    },
  };
}

/** Removes the same routes as `ip route flush dev`. */
function deviceFlush(family: number, index: number): Flush {
  return {
    question: new Message(GET_ROUTE, REQUEST | DUMP)
      .u8(family, 0, 0, 0)
      .u8(0, 0, 0, 0)
      .u32(0)
      .attribute(RTA.table, le32(MAIN_TABLE))
      .attribute(RTA.oif, le32(index)),
    removal(found) {
      const attributes = attributesIn(found, 12);
      const isIts = numberIn(attributes, RTA.oif) === index && (numberAt(found, 8) & CLONED) === 0;
      return isIts && tableOf(found, attributes) === MAIN_TABLE ? routeRemoval(found) : undefined;
    },
  };
}
