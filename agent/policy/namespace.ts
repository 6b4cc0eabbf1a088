// The policy's table in one pod's namespace, through a socket that stays open while the pod lives.

import { POLICY_TABLE } from '../host/names.ts';
import { Conversation, commit, type Refusal } from '../kernel/conversation.ts';
import { header, SUBSYSTEM, setsTransaction, tableRemoval, tablesTransaction } from '../kernel/encode-nft.ts';
import { TableListing } from '../kernel/is-there-nft.ts';
import { answersIn, Message, REQUEST } from '../kernel/message.ts';
import type { SetChange, Table } from '../kernel/operation.ts';
import { SystemCallError } from '../port/libc.ts';
import { openNetfilter } from '../port/netlink.ts';
import { standsAs } from './standing.ts';

export interface PolicyNamespace {
  /** Writes the table in one transaction, all or nothing; the earlier table decides until then. Undefined: no table. */
  put(table: Table | undefined): Refusal | undefined;
  change(sets: readonly SetChange[]): Refusal | undefined;
  /** Changes with each transaction of any process in this namespace. @throws SystemCallError */
  generation(): number;
  /**
   * Whether this table is the one in the kernel. Asked only when another process has changed something, since it lists all
   * elements. @throws SystemCallError
   */
  holds(table: Table | undefined): boolean;
  /** Packets counted by the last rule of each chain: packets that nothing let through. */
  denied(): ReadonlyMap<string, number>;
  close(): void;
}

/** A transaction holds the sets of all rules of a pod: 100,000 addresses take 3 MB. */
const MOST_BYTES = 64 * 2 ** 20;
const ENOENT = 2;
const EIO = 5;
const NEW_GENERATION = SUBSYSTEM + 15;
const GET_GENERATION = SUBSYSTEM + 16;

/** @throws SystemCallError, or Node's error when the path cannot be opened. */
export function openPolicyNamespace(netns: string): PolicyNamespace {
  const socket = openNetfilter(netns, MOST_BYTES);
  const name = { kind: 'table', family: 'inet', name: POLICY_TABLE } as const;
  return {
    put(table) {
      if (table !== undefined) return commit(socket, tablesTransaction([table], true));
      const refused = commit(socket, tableRemoval(name));
      return refused?.errno === ENOENT ? undefined : refused;
    },
    change: (sets) => commit(socket, setsTransaction(name, sets)),
    generation() {
      socket.send(new Uint8Array(header(new Message(GET_GENERATION, REQUEST), 0).finish(1)));
      const answer = answersIn(socket.receive() ?? new Uint8Array()).find(
        ({ type, sequence }) => type === NEW_GENERATION && sequence === 1,
      );
      if (answer === undefined) throw new SystemCallError('recv, of the generation of nftables', EIO);
      // After the headers of nfnetlink and of the attribute, in network byte order.
      return new DataView(answer.body.buffer, answer.body.byteOffset).getUint32(8);
    },
    holds: (table) => standsAs(new TableListing(new Conversation(socket)), table),
    denied: () => {
      const packets = new TableListing(new Conversation(socket)).packets('inet', POLICY_TABLE);
      return new Map([...packets].map(([chain, counted]) => [chain, counted.at(-1) ?? 0]));
    },
    close: () => socket.close(),
  };
}
