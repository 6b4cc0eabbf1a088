// The bytes that the kernel gets for each operation. golden/bytes.txt was made from the same texts by the earlier parser, and was
// then compared with the bytes that `ip` and `nft` send.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { attachmentPlan, linkRemoval, nodeRemoval, podRemoval } from '../../agent/attachment/plan.ts';
import { encode, type RoutingOperation } from '../../agent/kernel/encode.ts';
import { encodeFlush } from '../../agent/kernel/encode-flush.ts';
import { encodeTables, tableRemoval, tablesTransaction } from '../../agent/kernel/encode-nft.ts';
import type { Message } from '../../agent/kernel/message.ts';
import type { KernelOperation, Route, Rule, Tables } from '../../agent/kernel/operation.ts';
import { render, tablesText } from '../../agent/kernel/render.ts';
import { NETNS, variants } from './variants.ts';

const devices: Record<string, number> = { lo: 1, eth1: 7, eth0: 8, veth0: 9 };
const bindings = { index: (device: string) => devices[device] ?? 10, podFd: 11 };
const bySource: Route = {
  ...{ kind: 'route', type: 'unreachable', to: '::/0' },
  ...{ from: '100::1/128', table: 140 },
};
const replies: Rule = { kind: 'rule', family: 4, priority: 512, mark: 0x80, table: 'main' };
const hex = (message: Message) =>
  Buffer.concat([Uint8Array.from(message.finish(1)), message.tail]).toString('hex');

/** The texts and messages of an operation. */
function messagesOf(operation: KernelOperation): [string, string][] {
  if (operation.do === 'make' && operation.what.kind === 'setting') return [];
  if (operation.do === 'make' && operation.what.kind === 'tables') return tableMessages(operation.what);
  const text = render(operation, NETNS);
  if (operation.do === 'flush') return [[text, hex(encodeFlush(operation, bindings.index).question)]];
  if (operation.do === 'remove' && operation.what.kind === 'table')
    return [[text, Buffer.from(tableRemoval(operation.what).bytes).toString('hex')]];
  return [[text, hex(encode(operation as RoutingOperation, bindings))]];
}

/** The texts and messages of each table, chain and rule. */
function tableMessages({ tables }: Tables): [string, string][] {
  return tables.flatMap((table) =>
    table.chains.flatMap((chain) =>
      chain.rules.flatMap((rule): [string, string][] => {
        const alone = [{ ...table, chains: [{ ...chain, rules: [rule] }] }];
        const lines = tablesText({ kind: 'tables', tables: alone }).split('\n');
        const [ofTable = '', ofChain = '', hook = '', ofRule = ''] = lines.map((line) => line.trim());
        const [made = '', chained = '', ...ruled] = encodeTables(alone).map(hex);
        return [
          [ofTable, made],
          [`${ofTable} ${ofChain} ${hook}`, chained],
          [`${ofTable} ${ofChain} ${ofRule}`, ruled.join('\n  ')],
        ];
      }),
    ),
  );
}

function transactionText(name: string, { tables }: Tables): string[] {
  return [false, true].flatMap((again) => {
    const { bytes, last } = tablesTransaction(tables, again);
    const digest = createHash('sha256').update(bytes).digest('hex');
    return [`${name}, ${again ? 'again' : 'new'}`, `  ${last} messages, ${digest}`];
  });
}

/** Operations of boot only; compared with the bytes that `ip` 6.1 sends (`strace -e sendmsg,sendto`). */
const ofBoot: KernelOperation[] = [
  { on: 'node', do: 'remove', what: bySource },
  { on: 'node', do: 'make', what: replies, ifThere: 'keep' },
  ...([4, 6] as const).map(
    (family): KernelOperation => ({
      on: 'node',
      do: 'flush',
      what: { kind: 'routes', family, device: 'eth1' },
    }),
  ),
  { on: 'node', do: 'flush', what: { kind: 'addresses', device: 'eth1', scope: 'any' } },
];

/** The kernel's message (rtmsg) about a route through a device. */
function listedRoute(device: number, table = 254, flags = 0): Uint8Array {
  const rtmsg = [2, 16, 0, 0, table, 16, 0, 1, flags & 255, flags >> 8, 0, 0];
  return Uint8Array.from([...rtmsg, 8, 0, 4, 0, device, 0, 0, 0]);
}

test('a removal applies only to the intended objects of a listing', () => {
  const what = { kind: 'routes', family: 4, device: 'eth1' } as const;
  const { removal } = encodeFlush({ on: 'node', do: 'flush', what }, bindings.index);
  assert.ok(removal(listedRoute(7)));
  assert.is(removal(listedRoute(8)), undefined, 'of another device');
  assert.is(removal(listedRoute(7, 77)), undefined, 'of another table');
  assert.is(removal(listedRoute(7, 254, 0x200)), undefined, 'learned by a route');
});

test('every operation has the same bytes as before', () => {
  const plans = variants.map(({ name, attachment, ...place }) => ({
    name,
    plan: attachmentPlan(attachment, place),
  }));
  const operations: KernelOperation[] = [
    ...plans.flatMap(({ plan }) => {
      const tables = plan.always.filter(isTables);
      const rest = plan.always.filter((one) => !tables.includes(one));
      const [node, pod] = (['node', 'pod'] as const).map((side) => rest.filter(({ on }) => on === side));
      return [...(node ?? []), ...(pod ?? []), ...plan.whereIpv6, ...tables];
    }),
    ...nodeRemoval('10.0.64.9'),
    ...podRemoval.filter((one) => render(one, NETNS).startsWith('ip')),
    linkRemoval(5),
    { on: 'pod', do: 'set', device: 'veth0', mtu: 1400 },
    ...podRemoval.filter((one) => render(one, NETNS).startsWith('nft')),
    ...ofBoot,
  ];
  const bytes = new Map(operations.flatMap(messagesOf));
  const whole = plans.flatMap(({ name, plan }) =>
    plan.always.flatMap((one) =>
      one.do === 'make' && one.what.kind === 'tables' ? transactionText(name, one.what) : [],
    ),
  );
  const lines = [...[...bytes].map(([text, made]) => `${text}\n  ${made}`), ...whole];
  const golden = readFileSync(join(import.meta.dirname, 'golden/bytes.txt'), 'utf8');
  assert.fixture(`${lines.join('\n')}\n`, golden);
});

function isTables(one: KernelOperation): boolean {
  return one.do === 'make' && one.what.kind === 'tables';
}

test.run();
