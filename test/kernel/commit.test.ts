// Transactions of nftables whose answers are many: the first refusal counts, and nothing is left for the socket's next use.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { commit } from '../../agent/kernel/conversation.ts';
import { tableRemoval } from '../../agent/kernel/encode-nft.ts';
import { le32 } from '../../agent/kernel/message.ts';
import { SystemCallError } from '../../agent/port/libc.ts';

const ERROR = 2;
const ENOENT = 2;
const ENOSPC = 28;
const ENOBUFS = 105;

/** An answer of the kernel to the message with this number, in a datagram of its own. */
const answer = (sequence: number, errno: number) =>
  Uint8Array.from([
    ...le32(36),
    ...[ERROR, 0, 0, 0],
    ...le32(sequence),
    ...le32(0),
    ...le32(-errno),
    ...new Uint8Array(16),
  ]);

/** A socket that answers the first transaction with `first` and each later one with an acknowledgement. */
function socketThatSays(first: readonly (Uint8Array | SystemCallError)[]) {
  const waiting: (Uint8Array | SystemCallError)[] = [];
  let sent = 0;
  return {
    send: () => {
      waiting.push(...(sent === 0 ? first : [answer(1, 0)]));
      sent += 1;
    },
    receive: () => {
      const next = waiting.shift();
      if (next instanceof SystemCallError) throw next;
      return next;
    },
  };
}

const transaction = tableRemoval({ kind: 'table', family: 'inet', name: 't' });
const full = new SystemCallError('recv', ENOBUFS);
const cases: [what: string, first: (Uint8Array | SystemCallError)[]][] = [
  ['one refusal', [answer(1, ENOENT)]],
  ['many refusals', [answer(1, ENOENT), answer(1, ENOSPC), answer(2, ENOSPC)]],
  // The kernel tells that it has dropped answers before it hands out those that it has kept.
  ['more refusals than the socket holds', [full, answer(1, ENOENT), answer(2, ENOSPC)]],
];
for (const [what, first] of cases) {
  test(`${what}: the first is returned, and the next transaction gets its own answer`, () => {
    const socket = socketThatSays(first);
    assert.is(commit(socket, transaction)?.errno, ENOENT);
    assert.is(commit(socket, transaction), undefined);
  });
}

test('a transaction of which no answer was kept is neither made nor refused', () => {
  const lost = (error: unknown) => error instanceof SystemCallError && error.code === 'EIO';
  assert.throws(() => commit(socketThatSays([full]), transaction), lost);
  assert.throws(() => commit(socketThatSays([]), transaction), lost);
});

test.run();
