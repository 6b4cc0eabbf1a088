// Listings of a kernel whose objects change while it lists them, as when all pods of a node start at once: an object that was seen
// exists, and an object that was not seen is not called missing.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Conversation } from '../../agent/kernel/conversation.ts';
import { encodeTables, NEW_CHAIN, SUBSYSTEM } from '../../agent/kernel/encode-nft.ts';
import { Listing } from '../../agent/kernel/is-there.ts';
import { TableListing } from '../../agent/kernel/is-there-nft.ts';
import { DUMP, Message, zeroEnded } from '../../agent/kernel/message.ts';
import type { Chain, Table } from '../../agent/kernel/operation.ts';
import { SystemCallError } from '../../agent/port/libc.ts';

const MULTI = 0x2;
const INTERRUPTED = 0x10;
const DONE = 3;
const NEW_LINK = 16;
const ENOBUFS = 105;
const ENOENT = 2;
const ERROR = 2;
const GET_CHAIN = SUBSYSTEM + 4;

const le = (value: number, bytes: number) =>
  Array.from({ length: bytes }, (_, at) => (value >> (8 * at)) & 255);

function message(type: number, flags: number, sequence: number, body: number[]): number[] {
  return [
    ...le(16 + body.length, 4),
    ...le(type, 2),
    ...le(flags, 2),
    ...le(sequence, 4),
    ...le(0, 4),
    ...body,
  ];
}

function link(index: number, name: string): number[] {
  const text = zeroEnded(name);
  const attribute = [...le(4 + text.length, 2), ...le(3, 2), ...text];
  while (attribute.length % 4 !== 0) attribute.push(0);
  return [0, 0, 0, 0, ...le(index, 4), ...le(1, 4), ...le(0, 4), ...attribute];
}

/**
 * A kernel with one link that answers every question in the same way. @param errno of its last answer. @param chain the
 * body of the only chain of nftables.
 */
function kernel(flags: number, errno = 0, chain?: Uint8Array) {
  let asked = 0;
  let waiting: Uint8Array[] = [];
  const socket = {
    send(bytes: Uint8Array) {
      asked += 1;
      const sequence = new DataView(bytes.buffer).getUint32(8, true);
      const type = new DataView(bytes.buffer).getUint16(4, true);
      const answers =
        type === NEW_LINK + 2 ? message(NEW_LINK, MULTI | flags, sequence, link(7, 'eth0')) : [];
      if (type === GET_CHAIN) {
        assert.is(new DataView(bytes.buffer).getUint16(6, true) & DUMP, 0, 'no listing of all chains');
        const found = chain === undefined ? message(ERROR, 0, sequence, le(-ENOENT, 4)) : undefined;
        waiting = [Uint8Array.from(found ?? message(NEW_CHAIN, 0, sequence, [...(chain ?? [])]))];
        return;
      }
      waiting = [Uint8Array.from([...answers, ...message(DONE, MULTI | flags, sequence, le(-errno, 4))])];
    },
    receive: () => waiting.shift(),
  };
  return { conversation: new Conversation(socket), asked: () => asked };
}

const route = { kind: 'route', to: '10.0.0.0/8', device: 'eth0' } as const;

test('an interrupted listing is repeated, and has the objects of all tries', () => {
  const { conversation, asked } = kernel(INTERRUPTED);
  const listing = new Listing(conversation);
  assert.is(listing.link('eth0')?.index, 7);
  assert.ok(asked() > 3, `${asked()} questions`);
  assert.is(listing.link(7)?.name, 'eth0');
  for (const look of [
    () => listing.link('eth1'),
    () => listing.link(8),
    () => listing.links(),
    () => listing.has(route),
    () => listing.isTaken(route),
    () => listing.bucketRate('eth0'),
  ])
    assert.throws(look, (error: unknown) => error instanceof SystemCallError && error.code === 'EINTR');
});

test('a complete listing is requested once', () => {
  const { conversation, asked } = kernel(0);
  const listing = new Listing(conversation);
  assert.is(listing.link('eth0')?.index, 7);
  assert.is(listing.link('eth1'), undefined);
  assert.is(asked(), 1);
  assert.is(listing.has(route), false);
  assert.is(listing.bucketRate('eth0'), undefined);
});

test('a refused request is not an empty listing', () => {
  const listing = new Listing(kernel(0, ENOBUFS).conversation);
  assert.throws(() => listing.link('eth0'), /No buffer space available/);
  assert.throws(() => listing.has(route), /No buffer space available/);
});

test('chains that change all the time are not called missing', () => {
  const chain: Chain = {
    ...{ name: 'c', type: 'filter', hook: 'output', priority: 'raw', policy: 'accept' },
    rules: [],
  };
  const table: Table = { family: 'ip', name: 'eniboot', chains: [chain] };
  assert.is(new TableListing(kernel(0).conversation).stateOf(table, chain), 'missing');
  const there = encodeTables([table]).find(({ type }) => type === NEW_CHAIN)?.body;
  assert.is(new TableListing(kernel(0, 0, there).conversation).stateOf(table, chain), 'present');
  const changing = kernel(INTERRUPTED, 0, there).conversation;
  assert.throws(() => new TableListing(changing).stateOf(table, chain), /changed/);
});

test('a conversation has more than 65,535 requests', () => {
  assert.equal(new Message(1, 1).finish(0x12345678).slice(8, 12), [0x78, 0x56, 0x34, 0x12]);
});

test.run();
