// Operations on a real kernel, in the runtime that has foreign calls; execute.test.ts runs it in namespaces of its own. Prints a line
// for each case that fails.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { inNode, inPod, inPodIfThere, type Kernel } from '../../agent/kernel/execute.ts';
import type {
  FlushedAddresses,
  FlushedRoutes,
  KernelObject,
  KernelOperation,
  Route,
  Rule,
  Tables,
} from '../../agent/kernel/operation.ts';

const NETNS = '/run/netns/p';
// A new namespace has the setting of the machine, which other programs may have changed.
writeFileSync('/proc/sys/net/ipv4/ip_forward', '0');
execFileSync('ip', ['netns', 'add', 'p']);

const ENOENT = 2;
const EEXIST = 17;
const ENODEV = 19;
const ENETUNREACH = 101;

const rule: Rule = { kind: 'rule', family: 4, priority: 1024, mark: 0x40, table: 77 };
const route: Route = { kind: 'route', to: '10.9.0.0/16', via: '10.0.64.1', device: 'eth0' };
const veth = (name: string, peer: string): KernelObject => ({
  ...{ kind: 'veth', end: { name, mac: '02:e0:00:00:00:01', mtu: 1400 } },
  peer: { name: peer, mac: '02:e1:00:00:00:01', mtu: 1400, group: 9, inPod: true },
});
const tables = (policy: 'accept' | 'drop'): Tables => ({
  kind: 'tables',
  tables: [
    {
      ...{ family: 'ip', name: 'eniboot' },
      chains: [{ name: 'c', type: 'filter', hook: 'output', priority: 'mangle', policy, rules: [] }],
    },
  ],
});

/** The expected errno; undefined when the operation must succeed. */
type Case = [what: string, operation: KernelOperation, errno?: number];
const node = (what: KernelObject, ifThere: 'replace' | 'keep' | 'remake' | 'refuse'): KernelOperation => ({
  ...{ on: 'node', do: 'make', what },
  ifThere,
});
const pod = (what: KernelObject, ifThere: 'replace' | 'keep' | 'remake' | 'refuse'): KernelOperation => ({
  ...{ on: 'pod', do: 'make', what },
  ifThere,
});
const up = (on: 'node' | 'pod', device: string): KernelOperation => ({ on, do: 'set', device, up: true });
const address = (prefixLength: number): KernelObject => ({
  ...{ kind: 'address', device: 'eth0', address: '10.0.64.9' },
  prefixLength,
});

const cases: Case[] = [
  ['a link', node(veth('enb1', 'eth0'), 'refuse')],
  ['an existing link', node(veth('enb1', 'eth1'), 'refuse'), EEXIST],
  ['a link whose other end exists', node(veth('enb2', 'eth0'), 'remake'), EEXIST],
  ['an existing end is made again', node(veth('enb1', 'eth0'), 'remake')],
  // The link has another index now.
  ['the new link is set up', up('node', 'enb1')],
  ['its other end', up('pod', 'eth0')],
  ['a missing device', up('node', 'enb9'), ENODEV],
  ['an address', pod(address(20), 'replace')],
  ['the same address', pod(address(20), 'replace')],
  ['an existing address', pod(address(20), 'refuse'), EEXIST],
  ['a route', pod(route, 'refuse')],
  ['an existing route', pod(route, 'refuse'), EEXIST],
  ['a route replaces an existing one', pod({ ...route, via: '10.0.64.2' }, 'replace')],
  [
    'a route by an unreachable router',
    pod({ ...route, to: '10.8.0.0/16', via: '192.0.2.1' }, 'refuse'),
    ENETUNREACH,
  ],
  ['a rule', node(rule, 'keep')],
  ['an existing rule is kept', node(rule, 'keep')],
  ['an existing rule', node(rule, 'refuse'), EEXIST],
  ['tables', pod(tables('accept'), 'remake')],
  ['existing tables', pod(tables('drop'), 'refuse'), EEXIST],
  ['existing tables are made again', pod(tables('drop'), 'remake')],
  ['a setting', pod({ kind: 'setting', path: 'net/ipv4/ip_forward', value: '1' }, 'replace')],
  ['a setting that no kernel has', pod({ kind: 'setting', path: 'net/none', value: '1' }, 'replace'), ENOENT],
  ['removing a missing device', { on: 'node', do: 'remove', what: { kind: 'device', device: 'enb9' } }],
  ['removing a missing group', { on: 'pod', do: 'remove', what: { kind: 'group', group: 8 } }],
  ['removing a missing rule', { on: 'pod', do: 'remove', what: rule }],
  [
    'removing a missing table',
    { on: 'pod', do: 'remove', what: { kind: 'table', family: 'inet', name: 'eniboot' } },
  ],
  [
    'a flush of a table that never existed',
    { on: 'node', do: 'flush', what: { kind: 'routes', family: 4, table: 4711 } },
  ],
  [
    'a flush of a missing device',
    { on: 'pod', do: 'flush', what: { kind: 'addresses', device: 'x', scope: 'any' } },
    ENODEV,
  ],
];

const wrong: string[] = [];
const expect = (what: string, is: unknown, wanted: unknown) => {
  if (JSON.stringify(is) !== JSON.stringify(wanted))
    wrong.push(`${what}: ${JSON.stringify(is)}, not ${JSON.stringify(wanted)}`);
};

inPod(NETNS, (kernel) => {
  for (const [what, operation, errno] of cases) {
    const problem = kernel.run([operation]);
    expect(what, problem?.errno, errno);
    if (problem !== undefined) expect(`${what}: the operation`, problem.operation, operation);
  }
  lookAround(kernel);
  const [first, second] = [up('pod', 'nowhere'), pod(address(24), 'replace')];
  expect('the first refused operation ends the run', kernel.run([first, second])?.operation, first);
  expect(
    'operations after it are not done',
    addressesOf(kernel, 'eth0').filter((one) => !one.includes(':')).length,
    1,
  );
});

function addressesOf(kernel: Kernel, device: string): string[] {
  const listing = kernel.listing('pod');
  return listing.addressesOn(listing.link(device)?.index ?? 0);
}

/** The operations by which boot makes a device bare, of any configuration; routes of other devices stay. */
function makeBare(kernel: Kernel): void {
  const ip = (...args: string[]) => execFileSync('ip', args, { encoding: 'utf8' });
  ip('link', 'add', 'bare', 'type', 'veth', 'peer', 'name', 'other');
  for (const device of ['bare', 'other']) {
    ip('link', 'set', device, 'addrgenmode', 'none');
    ip('link', 'set', device, 'up');
  }
  for (const address of ['10.1.0.1/24', '10.1.0.2/24', '2001:db8:7::1/64'])
    ip('address', 'add', address, 'dev', 'bare', ...(address.includes(':') ? ['nodad'] : []));
  ip('address', 'add', 'fe80::7/64', 'dev', 'bare', 'nodad');
  ip('address', 'add', '10.2.0.1/24', 'dev', 'other');
  for (const device of ['bare', 'other'])
    for (const family of ['-4', '-6'])
      ip(
        family,
        'route',
        'add',
        family === '-4' ? '10.9.0.0/16' : '2001:db8:9::/48',
        ...['dev', device, 'metric', device === 'bare' ? '300' : '400', 'proto', 'dhcp'],
      );
  ip('route', 'add', '10.8.0.0/16', ...['dev', 'bare', 'table', '77']);
  const routes = () => ['-4', '-6'].map((family) => ip(family, 'route', 'show', 'dev', 'bare')).join('');
  const others = () => ip('route', 'show', 'dev', 'other') + ip('-6', 'route', 'show', 'dev', 'other');
  const before = others();
  for (const family of [4, 6] as const) {
    expect('there is a route', routes() !== '', true);
    expect(
      'a flush of its routes',
      kernel.run([flush({ kind: 'routes', family, device: 'bare' })]),
      undefined,
    );
  }
  expect('its routes are gone', routes(), '');
  expect('but routes of other tables are kept', ip('route', 'show', 'table', '77') !== '', true);
  expect('and routes of other devices are kept', others(), before);
  expect(
    'its own addresses',
    kernel.run([flush({ kind: 'addresses', device: 'bare', scope: 'link' })]),
    undefined,
  );
  const addresses = () =>
    ip('-o', 'address', 'show', 'dev', 'bare')
      .split('\n')
      .filter((line) => line !== '');
  expect('are gone', addresses().length, 3);
  expect(
    'all its addresses',
    kernel.run([flush({ kind: 'addresses', device: 'bare', scope: 'any' })]),
    undefined,
  );
  expect('are gone', addresses(), []);
}

function flush(what: FlushedAddresses | FlushedRoutes): KernelOperation {
  return { on: 'node', do: 'flush', what };
}

/** Removals of rules and routes, as boot and collect do them. */
function removeByName(kernel: Kernel): void {
  const tried: Route = { kind: 'route', type: 'unreachable', to: '::/0', from: '2001:db8::1/128', table: 78 };
  const remove = (what: Route | Rule): KernelOperation => ({ on: 'node', do: 'remove', what });
  expect('a route by source', kernel.run([node(tried, 'replace'), remove(tried)]), undefined);
  expect('is gone', kernel.listing('node').has(tried), false);
  expect('removing it again', kernel.run([remove(tried)]), undefined);
  const mine: Rule = { kind: 'rule', family: 4, priority: 1024, iif: 'lo', table: 2 ** 24 + 5 };
  expect('two rules', kernel.run([node(mine, 'keep'), node({ ...mine, iif: 'gone0' }, 'keep')]), undefined);
  execFileSync('ip', [
    'rule',
    'add',
    'priority',
    '1024',
    'iif',
    'lo',
    'lookup',
    String(mine.table),
    'protocol',
    'static',
  ]);
  const own = () =>
    kernel
      .listing('node')
      .ownRules()
      .filter(({ table }) => table === mine.table);
  const named = { kind: 'rule', family: 4, priority: 1024, table: mine.table };
  expect('the rules are listed', own(), [named, named]);
  expect('removed by their names', kernel.run(own().map(remove)), undefined);
  expect('the rules are gone', own(), []);
  const left = execFileSync('ip', ['rule', 'show', 'priority', '1024'], { encoding: 'utf8' });
  expect(
    'no other rule is removed',
    left.split('\n').filter((line) => line.includes(String(mine.table))).length,
    1,
  );
}

inNode((kernel) => {
  makeBare(kernel);
  removeByName(kernel);
});

function lookAround(kernel: Kernel): void {
  const [pods, own] = [kernel.listing('pod'), kernel.listing('node')];
  expect('the rule exists', own.has(rule), true);
  for (const other of [{ mark: 0x80 }, { table: 78 }, { priority: 9 }, { family: 6 as const }])
    expect('another rule does not exist', own.has({ ...rule, ...other }), false);
  expect('what it looks up', own.instead({ ...rule, table: 78 }), 'it looks up table 77');
  expect('the route', pods.instead(route), 'it is 10.9.0.0/16 via 10.0.64.2 dev eth0');
  expect('the existing route', pods.has({ ...route, via: '10.0.64.2' }), true);
  expect(
    'its routes',
    pods.routesBeside([route]).map(({ to }) => to),
    ['10.9.0.0/16'],
  );
  expect('no route beside it', pods.routesBeside([{ ...route, via: '10.0.64.2' }]), []);
  const wider = { kind: 'address', device: 'eth0', address: '10.0.64.9', prefixLength: 16 } as const;
  expect('the address', [pods.has(wider), pods.instead(wider)], [false, 'its prefix length is 20']);
  const { group, mtu, mac } = pods.link('eth0') ?? {};
  expect('the link', { group, mtu, mac }, { group: 9, mtu: 1400, mac: '02:e1:00:00:00:01' });
  expect(
    'the tables made again',
    [tables('drop'), tables('accept')].map((one) => kernel.tables().has(one)),
    [true, false],
  );
  expect('the setting is the pod’s', kernel.setting('net/ipv4/ip_forward'), '1');
}

expect(
  'the node has its own',
  inNode((kernel) => kernel.setting('net/ipv4/ip_forward')),
  '0',
);
const [found] = inPod(NETNS, (kernel) => kernel.listing('pod').routesBeside([]));
if (found !== undefined) {
  const removal: KernelOperation = { on: 'pod', do: 'remove', what: found };
  expect(
    'a found route is removed',
    inPod(NETNS, (kernel) => kernel.run([removal, removal])),
    undefined,
  );
}
expect(
  'no route is left',
  inPod(NETNS, (kernel) => kernel.listing('pod').routesBeside([])),
  [],
);
expect(
  'a path without a namespace',
  inPodIfThere('/run/netns/none', () => 1),
  undefined,
);
expect(
  'a path of another kind of file',
  inPodIfThere('/proc/self/ns/uts', () => 1),
  undefined,
);
process.stdout.write(wrong.map((line) => `${line}\n`).join(''));
