// Random clusters whose rules are in a real kernel, in a pod's namespace: compares the fate of every packet with the oracle.
// packets.test.ts starts it with the compiled runtime, which has the foreign calls. Prints one line of JSON.
//   bun packets-main.ts RUNS SEED
import { execFileSync, spawn } from 'node:child_process';
import fc from 'fast-check';
import { POLICY_TABLE } from '../../agent/host/names.ts';
import { createDecision } from '../../agent/policy/decide.ts';
import { createEnforcer } from '../../agent/policy/enforce.ts';
import { openPolicyNamespace } from '../../agent/policy/namespace.ts';
import { policyTable } from '../../agent/policy/pod-table.ts';
import { standingOf } from '../../agent/policy/standing.ts';
import { endAt, lets, type World } from './oracle.ts';
import { prober } from './prober.ts';
import { addresses4, addresses6, type Step, step, take } from './random-cluster.ts';

const [runs = '10', seed = '1'] = process.argv.slice(2);
const POD = 'eniboot-policy-pod';
const OTHERS = 'eniboot-policy-others';
const own = ['10.0.0.1', '2001:db8::1'];
const foreign = [...addresses4, ...addresses6].filter((one) => !own.includes(one));
const ports = [53, 80, 81, 8080, 9];

const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
const inside = (netns: string, ...args: string[]) => ip('-n', netns, ...args);

function prepare(): void {
  for (const name of [POD, OTHERS]) {
    ip('netns', 'add', name);
    inside(name, 'link', 'set', 'lo', 'up');
  }
  inside(POD, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', OTHERS);
  for (const [name, addresses] of [
    [POD, own],
    [OTHERS, foreign],
  ] as const) {
    for (const one of addresses)
      inside(
        name,
        'address',
        'add',
        `${one}/${one.includes(':') ? 32 : 8}`,
        'dev',
        'eth0',
        ...(one.includes(':') ? ['nodad'] : []),
      );
    inside(name, 'link', 'set', 'eth0', 'up');
    inside(name, 'route', 'add', 'default', 'dev', 'eth0');
  }
}

function clean(): void {
  for (const name of [POD, OTHERS]) {
    try {
      ip('netns', 'del', name);
    } catch {
      // The namespace was never made.
    }
  }
}

const proberIn = (netns: string) =>
  prober((file, args) =>
    spawn('ip', ['netns', 'exec', netns, file, ...args], { stdio: ['pipe', 'pipe', 'inherit'] }),
  );

clean();
prepare();
const [pod, others] = [proberIn(POD), proberIn(OTHERS)];
try {
  await pod.call({ listen: { ports, addresses: own } });
  await others.call({ listen: { ports, addresses: foreign } });
  const network = {
    ifName: 'eth0',
    veth: 'veth0',
    node: ['10.0.0.4'],
    services: ['172.20.0.0/16'],
    logs: true as const,
  };
  const tried = { let: 0, denied: 0 };
  const wrong: string[] = [];
  const scenario = fc.array(step, { minLength: 20, maxLength: 40 });
  for (const steps of fc.sample(scenario, { numRuns: Number(runs), seed: Number(seed) })) {
    const world: World = { namespaces: [], pods: [], policies: [] };
    const decision = createDecision();
    const local = new Set<string>();
    const enforcer = createEnforcer(
      decision,
      openPolicyNamespace,
      { netns: `/run/netns/${OTHERS}`, addresses: [] },
      () => false,
      (event) => {
        if (event.kind === 'refused') wrong.push(`refused: ${event.why}`);
      },
      { denied: () => undefined, forget: () => undefined },
      () => 0,
    );
    const here: Step[] = [
      { put: 'namespace', object: { metadata: { name: 'x', labels: { app: 'a' } } } },
      {
        put: 'pod',
        object: {
          metadata: {
            name: 'own',
            namespace: 'x',
            labels: { app: 'a' },
            creationTimestamp: '2026-12-01T00:00:00Z',
          },
          spec: { containers: [{ ports: [{ name: 'http', containerPort: 81 }] }] },
          status: { phase: 'Running', podIPs: own.map((ip) => ({ ip })) },
        },
      },
      { local: ['x/own'] },
    ];
    for (const one of [...here, ...steps])
      if (!('local' in one) || one.local[0] === 'x/own') take(one, world, decision, local);
    enforcer.setPods([
      { id: 'own', key: 'x/own', netns: `/run/netns/${POD}`, network, hostLink: 'enb0', addresses: own },
    ]);
    enforcer.apply();
    // Later changes arrive as elements of sets.
    for (const one of steps.slice(0, 5))
      if ('put' in one && one.put === 'pod') take(one, world, decision, local);
    enforcer.apply();
    for (const direction of ['ingress', 'egress'] as const) {
      const probes = foreign.flatMap((other) =>
        ['TCP', 'UDP'].flatMap((protocol) =>
          ports.map((port) => {
            const mine = own[other.includes(':') ? 1 : 0] ?? '';
            return { protocol, port, mine, other };
          }),
        ),
      );
      const [from, to] =
        direction === 'ingress' ? (['other', 'mine'] as const) : (['mine', 'other'] as const);
      const reached = await (direction === 'ingress' ? others : pod).call<boolean[]>({
        reach: probes.map((one) => [one.protocol, one[from], one[to], one.port]),
        ms: 250,
      });
      for (const [at, { protocol, port, mine, other }] of probes.entries()) {
        const wanted = lets(world, direction, endAt(world, mine), endAt(world, other), protocol, port);
        tried[wanted ? 'let' : 'denied'] += 1;
        if (reached[at] !== wanted)
          wrong.push(
            `${direction} ${protocol} ${other} ${port}: ${wanted ? 'denied' : 'let through'} ${JSON.stringify(world.policies)}`,
          );
      }
    }
    // standingOf() must say that the table in the kernel is the wanted one.
    const wanted = policyTable(network, decision.rulesOf('x/own') ?? {}, decision.membersOf);
    const standing = () => standingOf(`/run/netns/${POD}`, wanted).state;
    if (standing() !== 'in force') wrong.push(`${standing()} is said where all is as decided`);
    const members = wanted?.sets?.find((set) => set.family === 4 && 'addresses' in set);
    const blocks = wanted?.sets?.find((set) => 'ranges' in set);
    const nft = (...args: string[]) => execFileSync('ip', ['netns', 'exec', POD, 'nft', ...args]);
    const disturb = (what: string, ...command: string[]) => {
      nft(...command);
      if (standing() !== 'differs') wrong.push(`${what} goes unnoticed`);
      enforcer.inspect();
      if (standing() !== 'in force') wrong.push(`${what} stays`);
    };
    if (members !== undefined)
      disturb('an element more', 'add', 'element', 'inet', POLICY_TABLE, members.name, '{ 203.0.113.9 }');
    if (blocks !== undefined)
      disturb('blocks that are gone', 'flush', 'set', 'inet', POLICY_TABLE, blocks.name);
    if (wanted !== undefined) disturb('a table that is gone', 'flush', 'ruleset');
    enforcer.close();
  }
  process.stdout.write(`${JSON.stringify({ runs: Number(runs), ...tried, wrong: wrong.slice(0, 10) })}\n`);
} finally {
  pod.end();
  others.end();
  clean();
}
