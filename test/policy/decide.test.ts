// Compares what agent/policy decides with the oracle: random clusters that change, each change put in by itself.
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createDecision } from '../../agent/policy/decide.ts';
import { closedPolicy, readPod, readPolicy } from '../../agent/policy/objects.ts';
import type { PodObject, PolicyObject, World } from './oracle.ts';
import { compare, type Kept, keep, step, take, valueOf } from './random-cluster.ts';

const runs = Number(process.env['ENIBOOT_RUNS'] ?? 1500);

test('what is decided is what the documentation says, in any cluster and after any change', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(step, fc.boolean()), { minLength: 5, maxLength: 40 }), (steps) => {
      const world: World = { namespaces: [], pods: [], policies: [] };
      const decision = createDecision();
      const kept: Kept = { rules: new Map(), members: new Map() };
      const local = new Set<string>();
      for (const [one, look] of steps) {
        take(one, world, decision, local);
        if (look) keep(kept, decision.takeChanges());
      }
      keep(kept, decision.takeChanges());
      compare(world, kept, local);
      assert.is(decision.takeChanges().pods.size, 0, 'a second look has nothing new');
    }),
    { numRuns: runs, ...(process.env['ENIBOOT_SEED'] && { seed: Number(process.env['ENIBOOT_SEED']) }) },
  );
});

const good: PolicyObject = {
  metadata: { name: 'n', namespace: 'x' },
  spec: { podSelector: {}, ingress: [{ from: [{ podSelector: {} }], ports: [{ port: 80 }] }] },
};
const badPolicies: [string, unknown, string][] = [
  ['an unknown field of a peer', { from: [{ podSelector: {}, fqdn: 'a' }] }, 'spec.ingress.0.from.0.fqdn'],
  ['a peer without a field', { from: [{}] }, 'spec.ingress.0.from.0'],
  [
    'an ipBlock beside a selector',
    { from: [{ podSelector: {}, ipBlock: { cidr: '10.0.0.0/8' } }] },
    'spec.ingress.0.from.0',
  ],
  ['no CIDR', { from: [{ ipBlock: { cidr: '10.0.0.0/33' } }] }, 'spec.ingress.0.from.0.ipBlock.cidr'],
  ['a block of few parts', { from: [{ ipBlock: { cidr: '10/8' } }] }, 'spec.ingress.0.from.0.ipBlock.cidr'],
  [
    'a hexadecimal block',
    { from: [{ ipBlock: { cidr: '0x10.0.0.0/8' } }] },
    'spec.ingress.0.from.0.ipBlock.cidr',
  ],
  [
    'a block of one interface',
    { from: [{ ipBlock: { cidr: 'fe80::1%eth0/64' } }] },
    'spec.ingress.0.from.0.ipBlock.cidr',
  ],
  ['a range that ends before it begins', { ports: [{ port: 80, endPort: 79 }] }, 'spec.ingress.0.ports.0'],
  ['a range of a named port', { ports: [{ port: 'http', endPort: 90 }] }, 'spec.ingress.0.ports.0'],
  ['an unknown protocol', { ports: [{ protocol: 'ICMP' }] }, 'spec.ingress.0.ports.0.protocol'],
  ['port 0', { ports: [{ port: 0 }] }, 'spec.ingress.0.ports.0.port'],
  [
    'an unknown operator',
    { from: [{ podSelector: { matchExpressions: [{ key: 'a', operator: 'Gt' }] } }] },
    'spec.ingress.0.from.0.podSelector.matchExpressions.0.operator',
  ],
  [
    'In without values',
    { from: [{ podSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] } }] },
    'spec.ingress.0.from.0.podSelector.matchExpressions.0',
  ],
  [
    'a label that is no text',
    { from: [{ podSelector: { matchLabels: { a: 1 } } }] },
    'spec.ingress.0.from.0.podSelector.matchLabels',
  ],
];
for (const [what, rule, path] of badPolicies) {
  test(`${what} is a policy that cannot be read, and the place is named`, () => {
    const object = { ...good, spec: { ...good.spec, ingress: [rule] } };
    const read = readPolicy(object);
    assert.ok('problem' in read && read.problem.startsWith(`${path}: `), JSON.stringify(read));
    const closed = closedPolicy(object);
    assert.equal(closed && [closed.ingress, closed.egress], [[], []], 'until then it lets nothing through');
  });
}

// As ParseCIDRSloppy and Contains of Go read them, by which the API server judges blocks. Source: KEP-4858.
const forms: [what: string, cidr: string, network: string][] = [
  ['host bits', '10.1.2.3/8', '10.0.0.0/8'],
  ['leading zeros', '010.0.0.0/08', '10.0.0.0/8'],
  ['more zeros', '000.00.0.0/0', '0.0.0.0/0'],
  ['a part that is no octal number', '10.0.0.08/32', '10.0.0.8/32'],
  ['IPv6', '2001:0DB8:0010::1/48', '2001:db8:10::/48'],
  ['an IPv4-mapped block', '::ffff:10.1.0.0/104', '10.0.0.0/8'],
  ['all IPv4-mapped addresses', '::FFFF:0:0/96', '0.0.0.0/0'],
  ['an IPv4-mapped address with leading zeros', '::ffff:010.0.0.010/128', '10.0.0.10/32'],
  ['a block that is wider than the IPv4-mapped addresses', '::ffff:10.0.0.0/80', '::/80'],
];
for (const [what, cidr, network] of forms) {
  test(`a block is read as the API server reads it: ${what}`, () => {
    const read = readPolicy({
      ...good,
      spec: { ingress: [{ from: [{ ipBlock: { cidr, except: [cidr] } }] }] },
    });
    const peers = valueOf(read).ingress?.[0]?.peers;
    assert.equal(peers?.blocks.list, [{ cidr: network, except: [network] }]);
    assert.equal(peers?.blocks.ranges, { 4: [], 6: [] });
  });
}

test('an exception with leading zeros is excluded, and an IPv4-mapped one', () => {
  for (const except of ['010.1.0.0/16', '::ffff:10.1.0.0/112']) {
    const ipBlock = { cidr: '10.0.0.0/8', except: [except] };
    const read = readPolicy({ ...good, spec: { ingress: [{ from: [{ ipBlock }] }] } });
    const blocks = valueOf(read).ingress?.[0]?.peers?.blocks;
    assert.equal([blocks?.covers('10.0.0.1'), blocks?.covers('10.1.0.1')], [true, false], except);
  }
});

test('no text in place of a block or an address is more than an object that cannot be read', () => {
  const part = fc.constantFrom(
    '0',
    '00',
    '010',
    '08',
    '255',
    '256',
    '0x1',
    'ffff',
    '00ff',
    ':',
    '::',
    '.',
    '/',
    '%',
    'e',
  );
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), fc.nat(130), (parts, length) => {
      const ip = parts.join('');
      for (const cidr of [ip, `${ip}/${length}`, `::ffff:${ip}/${length}`]) {
        const read = readPolicy({ ...good, spec: { ingress: [{ from: [{ ipBlock: { cidr } }] }] } });
        if ('value' in read) assert.ok(read.value.ingress?.[0]?.peers?.blocks.ranges);
      }
      readPod(podWith(ip));
    }),
    { numRuns: runs },
  );
});

const podWith = (ip: string) => ({
  metadata: { name: 'p', namespace: 'x', creationTimestamp: '2026-11-01T00:00:00Z' },
  spec: { containers: [{}] },
  status: { podIPs: [{ ip }] },
});
const addresses: [ip: string, read: string[]][] = [
  ['10.0.0.1', ['10.0.0.1']],
  ['010.0.0.010', ['10.0.0.10']],
  ['::ffff:10.0.0.1', ['10.0.0.1']],
  ['2001:DB8::0001', ['2001:db8::1']],
  ['10', []],
  ['fe80::1%eth0', []],
];
for (const [ip, read] of addresses) {
  test(`a pod's address is read as the API server reads it: ${ip}`, () =>
    assert.equal(valueOf(readPod(podWith(ip))).addresses, read));
}

/** Rules that have exactly 10,000 entries together with those that `more` adds. */
const blocks = (count: number) =>
  Array.from({ length: count }, (_, at) => ({ ipBlock: { cidr: `10.${at >> 8}.${at & 255}.0/32` } }));
const numbers = (count: number) => Array.from({ length: count }, (_, at) => ({ port: at + 1 }));
const sizes: [string, object][] = [
  ['blocks', { ingress: [{ from: blocks(10_000) }] }],
  ['ports', { ingress: [{ ports: numbers(10_000) }] }],
  ['both together', { egress: [{ to: blocks(5000), ports: numbers(5000) }] }],
  ['rules', { ingress: Array.from({ length: 10_000 }, () => ({})) }],
  [
    'exceptions',
    {
      ingress: [
        { from: [{ ipBlock: { cidr: '10.0.0.0/8', except: blocks(9999).map((one) => one.ipBlock.cidr) } }] },
      ],
    },
  ],
  [
    'values of a selector',
    {
      ingress: [
        {
          from: [
            {
              podSelector: {
                matchExpressions: [
                  { key: 'a', operator: 'In', values: numbers(9998).map(({ port }) => `${port}`) },
                ],
              },
            },
          ],
        },
      ],
    },
  ],
];
for (const [what, spec] of sizes) {
  test(`10,000 entries are taken, and more are named: ${what}`, () => {
    assert.ok('value' in readPolicy({ ...good, spec }));
    const more = { ...good, spec: { podSelector: { matchLabels: { app: 'a' } }, ...spec } };
    const read = readPolicy(more);
    assert.ok(
      'problem' in read && /^spec: 10001 .*at most 10000/.test(read.problem),
      JSON.stringify(read).slice(0, 200),
    );
    assert.is(closedPolicy(more)?.selector.length, 1, 'until then it closes what it selects');
  });
}

const tooLong: [path: string, spec: object][] = [
  ['spec.ingress', { ingress: Array.from({ length: 10_001 }, () => ({})) }],
  ['spec.ingress.0.from', { ingress: [{ from: Array.from({ length: 10_001 }, () => 'no peer') }] }],
  ['spec.egress.0.ports', { egress: [{ ports: numbers(10_001) }] }],
  [
    'spec.egress.0.to.0.ipBlock.except',
    { egress: [{ to: [{ ipBlock: { cidr: '10.0.0.0/8', except: Array(10_001).fill('no block') } }] }] },
  ],
];
for (const [path, spec] of tooLong) {
  test(`a list of more than 10,000 is named, and none of its entries is looked at: ${path}`, () => {
    const read = readPolicy({ ...good, spec });
    assert.equal(read, { problem: `${path}: a list of 10001; at most 10000 entries are taken` });
  });
}

test('a named port towards a block is what the pods in the block call it', () => {
  const named = (name: string, ip: string, containerPort: number): PodObject => ({
    metadata: { name, namespace: 'y', creationTimestamp: '2026-11-01T00:00:00Z' },
    spec: { containers: [{ ports: [{ name: 'http', containerPort }] }] },
    status: { phase: 'Running', podIPs: [{ ip }] },
  });
  const world: World = { namespaces: [], pods: [], policies: [] };
  const decision = createDecision();
  const local = new Set<string>();
  const rule = {
    to: [{ ipBlock: { cidr: '10.0.0.0/24', except: ['10.0.0.9/32'] } }],
    ports: [{ port: 'http' }],
  };
  for (const one of [
    { put: 'pod' as const, object: named('p1', '10.0.0.1', 80) },
    { put: 'pod' as const, object: named('p2', '10.0.0.2', 81) },
    { put: 'pod' as const, object: named('p3', '10.0.0.9', 80) },
    { put: 'pod' as const, object: named('p4', '10.0.1.1', 80) },
    {
      put: 'policy' as const,
      object: { metadata: { name: 'n', namespace: 'y' }, spec: { policyTypes: ['Egress'], egress: [rule] } },
    },
    { local: ['y/p4'] },
  ])
    take(one, world, decision, local);
  const kept: Kept = { rules: new Map(), members: new Map() };
  keep(kept, decision.takeChanges());
  compare(world, kept, local);
  assert.equal(
    [...(kept.members.get('y/n egress 0') ?? [])],
    [
      ['10.0.0.1', { peer: false, named: [{ protocol: 'TCP', port: 80 }] }],
      ['10.0.0.2', { peer: false, named: [{ protocol: 'TCP', port: 81 }] }],
    ],
  );
});

test('a policy whose selector cannot be read closes its whole namespace', () => {
  const closed = closedPolicy({ metadata: good.metadata, spec: { podSelector: { matchNothing: 1 } } });
  assert.equal(closed?.selector, []);
});

test('a sidecar is an init container that stays: its ports have names as those of other containers', () => {
  const read = readPod({
    metadata: { name: 'p', namespace: 'x', creationTimestamp: '2026-11-01T00:00:00Z' },
    spec: {
      containers: [{}],
      initContainers: [
        { restartPolicy: 'Always', ports: [{ name: 'proxy', containerPort: 15006 }] },
        { ports: [{ name: 'once', containerPort: 1 }] },
      ],
    },
  });
  assert.equal(valueOf(read).ports, [{ name: 'proxy', protocol: 'TCP', port: 15006 }]);
});

test.run();
