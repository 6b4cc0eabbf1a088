// Plays operations on a node and compares it with the model after each. The actions of a runtime, a timer or EC2 are here; the
// required results are in model.ts.
import { conf, variablesOf } from '../cni/rig.ts';
import { assignedBy, type Look } from './look.ts';
import type { Called, Machine } from './machine.ts';
import { type Effects, Model, marks, noEffects, type Pod } from './model.ts';
import type { Operation } from './operations.ts';

export interface Played {
  /** Number of operations, by kind; those that were killed in time count again as `<kind> killed`. */
  counts: Record<string, number>;
  /** ADDs that got an address, and ADDs that found none. */
  added: number;
  exhausted: number;
  /** Differences after the last operation; empty when there was none. */
  problems: string[];
  /** The last operations, in words. */
  trace: string[];
}

/** Plays the operations and then brings the node to rest. Stops at the first difference. */
export async function play(
  operations: Operation[],
  machine: Machine,
  onStep: (done: number, last: string) => void = () => {},
): Promise<Played> {
  const player = await createPlayer(machine);
  const { played } = player;
  for (const [at, operation] of operations.entries()) {
    const started = performance.now();
    const problems = await player.step(operation);
    const words = `${at}: ${JSON.stringify(operation)} → ${player.said()} (${Math.round(performance.now() - started)} ms)`;
    played.trace.push(words);
    if (played.trace.length > 40) played.trace.shift();
    onStep(at + 1, words);
    if (problems.length > 0) return { ...played, problems };
  }
  return { ...played, problems: await player.rest() };
}

interface Player {
  played: Played;
  step(operation: Operation): Promise<string[]>;
  /** The last step and its outcome, in words. */
  said(): string;
  /** Ends every pod, lets refill and collect converge, and returns what is left or missing. */
  rest(): Promise<string[]>;
}

async function createPlayer(machine: Machine): Promise<Player> {
  const { cloud, instance } = machine;
  const model = new Model(await machine.look([]), cloud.vpc.cidrs);
  const played: Played = { counts: {}, added: 0, exhausted: 0, problems: [], trace: [] };
  let words: string[] = [];
  let serial = 0;

  const say = (text: string) => words.push(text);
  const count = (what: string) => {
    played.counts[what] = (played.counts[what] ?? 0) + 1;
  };
  const anyOf = <T>(list: T[], pick: number): T | undefined => list[Math.floor(pick * list.length)];

  function cni(
    command: string,
    pod: Pod | undefined,
    more: object = {},
    netns = true,
    killAfterMs?: number,
  ): Promise<Called> {
    const path = netns && pod !== undefined ? `/run/netns/${pod.id}` : '';
    const variables = pod === undefined ? {} : variablesOf(pod.id, path);
    return machine.cni(command, variables, { ...conf, ...more }, killAfterMs);
  }

  async function addPods(
    amount: number,
    kill: number | undefined,
    hasty: boolean,
    alone: boolean,
    effects: Effects,
  ): Promise<{ problems: string[]; after: Look }> {
    const problems: string[] = [];
    const pods = Array.from({ length: amount }, () => model.newPod(`p${(serial += 1)}`));
    await machine.addNamespaces(pods.map((pod) => pod.id));
    // Of several calls at once, every second one is killed.
    const kills = pods.map((_, at) => (at % 2 === 0 ? kill : undefined));
    const calls = await Promise.all(pods.map((pod, at) => cni('ADD', pod, {}, true, kills[at])));
    const answered: { pod: Pod; json: any }[] = [];
    for (const [at, pod] of pods.entries()) {
      const called = calls[at] as Called;
      if (called.killed) {
        count('add killed');
        effects.unsure.add(pod.id);
        say(`${pod.id} killed`);
        if (!hasty) continue;
        effects.brief += 1;
        const deleted = await cni('DEL', pod);
        if (deleted.exit !== 0) problems.push(`DEL of ${pod.id}: ${deleted.stdout}${deleted.stderr}`);
        continue;
      }
      const json = parse(called.stdout);
      if (called.stderr !== '') problems.push(`ADD of ${pod.id} wrote to stderr: ${called.stderr}`);
      answered.push({ pod, json });
    }
    if (calls.some((called) => called.killed)) await machine.settle();
    const after = await machine.look(pods.map((pod) => pod.id));
    const firsts = new Set(model.momentsUntil(after.nowMs).flatMap((at) => model.firsts(at)));
    const rested = model.candidates(model.now.nowMs).length;
    for (const { pod, json } of answered) {
      const address = String(json?.ips?.[0]?.address ?? '').split('/')[0] ?? '';
      if (address !== '') {
        played.added += 1;
        const eniId = after.entries.find((one) => one.rest === `${pod.id},eth0`)?.eniId ?? 'no ENI';
        say(`${pod.id} got ${address}`);
        problems.push(...model.whyNot(eniId, address, after));
        for (const [id, other] of effects.added)
          if (other.address === address) problems.push(`${address} went to ${id} and ${pod.id}`);
        if (alone && amount === 1 && !firsts.has(address))
          problems.push(`${pod.id} got ${address}, its turn was ${[...firsts].join(' or ')}'s`);
        effects.added.set(pod.id, { eniId, address });
        Object.assign(pod, { state: 'live', sure: true, result: json });
        continue;
      }
      say(`${pod.id} got ${json?.msg ?? 'no answer'}`);
      // The pod's parts are all known: none may be left, in the pool or in the kernel.
      pod.sure = true;
      if (json?.code === 11 && /ADDRESS_IN_USE/.test(json.msg)) continue;
      played.exhausted += 1;
      if (json?.code !== 11) problems.push(`ADD of ${pod.id}: ${JSON.stringify(json)}`);
      else if (alone && rested >= amount)
        problems.push(`ADD of ${pod.id} found nothing, ${rested} have rested`);
    }
    return { problems, after };
  }

  async function delPod(
    pod: Pod,
    path: boolean,
    kill: number | undefined,
    effects: Effects,
  ): Promise<string[]> {
    const problems: string[] = [];
    const called = await cni('DEL', pod, {}, path, kill);
    if (called.killed) {
      count('del killed');
      effects.unsure.add(pod.id);
      Object.assign(pod, { state: 'owed', sure: false });
      say(`${pod.id} killed`);
      await machine.settle();
      return [];
    }
    say(`${pod.id} ended`);
    effects.unsure.delete(pod.id);
    effects.ended.add(pod.id);
    if (called.exit !== 0 || called.stdout !== '' || called.stderr !== '')
      problems.push(`DEL of ${pod.id}: exit ${called.exit}: ${called.stdout}${called.stderr}`);
    if (pod.namespace) {
      const inside = await machine.endNamespace(pod.id);
      // Without the path, DEL finds the pod by the note of an ADD that has ended. Without a lease DEL does nothing: parts that
      // children of a killed ADD have made in the namespace end with it.
      if (inside.length > 0 && pod.lease !== undefined && (path || pod.sure))
        problems.push(`after DEL, ${pod.id} has ${inside.join(', ')}`);
    }
    forgotten.push(pod.id);
    return problems;
  }

  /** Pods whose DEL was answered: no further call comes from the runtime. Removed when the look has no part of them. */
  let forgotten: string[] = [];

  /** Runs calls of other pods while a program holds the lock. */
  async function meanwhile(amount: number, effects: Effects): Promise<string[]> {
    const problems: string[] = [];
    for (let at = 0; at < amount; at += 1) {
      await machine.pause(60 * at);
      const victim =
        at % 2 === 0
          ? model
              .podsIn('live')
              .find((pod) => pod.sure && !effects.ended.has(pod.id) && !effects.added.has(pod.id))
          : undefined;
      if (victim !== undefined) problems.push(...(await delPod(victim, true, undefined, effects)));
      else problems.push(...(await addPods(1, undefined, false, false, effects)).problems);
    }
    return problems;
  }

  /** Runs one of eniboot's programs that take the lock. */
  async function locked(args: string[], kill: number | undefined, pods: number, effects: Effects) {
    const [called, problems] = await Promise.all([
      machine.eniboot([...args, '--json'], kill),
      meanwhile(pods, effects),
    ]);
    if (called.killed) count(`${args.at(-1)} killed`);
    await cloud.settled();
    const json = called.killed ? undefined : parse(called.stdout);
    say(called.killed ? 'killed' : `exit ${called.exit} ${called.stdout.trim().slice(0, 400)}`);
    return { called, json, problems };
  }

  async function finish(
    effects: Effects,
    problems: string[],
    sees: (after: Look) => string[] = () => [],
    seen?: Look,
  ): Promise<string[]> {
    // Namespaces, and devices in them, disappear a moment after the end of the program that deleted them.
    for (let tries = 0; ; tries += 1) {
      const checked = [...model.pods.values()].filter((pod) => effects.added.has(pod.id) && pod.namespace);
      const after = (tries === 0 ? seen : undefined) ?? (await machine.look(checked.map((pod) => pod.id)));
      const found = [...problems, ...sees(after), ...model.compare(after, effects)];
      for (const pod of checked) {
        const wanted = model.insideOf(pod);
        const has = after.inside.get(pod.id);
        if (
          found.length === 0 &&
          wanted !== undefined &&
          JSON.stringify(has?.sort()) !== JSON.stringify(wanted)
        )
          found.push(`inside ${pod.id} is ${has?.join(', ')}, not ${wanted.join(', ')}`);
      }
      if (found.length === 0 || tries === 4) {
        if (found.length === 0) for (const id of forgotten) model.pods.delete(id);
        forgotten = [];
        return found;
      }
      await machine.pause(200);
    }
  }

  async function refill(operation: Extract<Operation, { kind: 'refill' }>): Promise<string[]> {
    const effects = { ...noEffects(), poolMoved: true };
    if (operation.fault !== undefined) cloud.faults.ec2.add({ ...operation.fault, instanceId: instance.id });
    const callsBefore = cloud.calls.length;
    const { called, json, problems } = await locked(
      ['pool', 'refill'],
      operation.kill,
      operation.pods,
      effects,
    );
    const asked = cloud.calls
      .slice(callsBefore)
      .some((call) => call.action === 'DescribeNetworkInterfaces' && call.accepted);
    cloud.faults.ec2.clear();
    const quiet = !called.killed && called.exit === 0 && operation.fault === undefined;
    if (!called.killed && operation.fault === undefined && called.exit !== 0)
      problems.push(`refill: exit ${called.exit}: ${called.stdout}${called.stderr}`);
    if (!quiet && model.egress === 'intact') model.egress = 'covers';
    else if (quiet && asked && model.egress === 'covers') model.egress = 'intact';
    const waits = (json?.waiting ?? []).length > 0;
    return finish(effects, problems, (after) => {
      if (!quiet) return [];
      const wrong: string[] = [];
      const settled = (keys: string[]) =>
        keys
          .filter((key) => !after.leaving.has(key))
          .sort()
          .join(' ');
      if (asked && !waits && settled(after.owned) !== settled(after.ec2))
        wrong.push(`after refill the pool has ${settled(after.owned)}, EC2 ${settled(after.ec2)}`);
      if (after.unfinished.length > 0) wrong.push(`refill leaves ${after.unfinished.join(', ')}`);
      const stuck = after.entries.filter(
        (entry) =>
          entry.state === 'retiring' &&
          ![...after.leaving.keys()].some((key) => sameEniAndPrefix(key, entry)),
      );
      if (stuck.length > 0)
        wrong.push(`refill leaves ${stuck.length} addresses retired: ${stuck[0]?.address}`);
      if (waits || operation.pods > 0) return wrong;
      const ready = new Model(after, []).candidates(after.nowMs).length;
      const leased = after.entries.filter((entry) => entry.state === 'leased').length;
      if (ready < Math.min(marks.lowWater, maxPods - leased))
        wrong.push(`after refill ${ready} are ready, ${leased} leased`);
      if (after.owned.length * 16 < marks.target)
        wrong.push(`after refill the pool is ${after.owned.join(', ')}`);
      return wrong;
    });
  }

  async function collect(operation: Extract<Operation, { kind: 'collect' }>): Promise<string[]> {
    const effects = noEffects();
    const from = model.now.nowMs;
    await machine.sandboxes(model.podsIn('live', 'owed').map((pod) => pod.id));
    const { called, json, problems } = await locked(
      ['pool', 'collect'],
      operation.kill,
      operation.pods,
      effects,
    );
    if (!called.killed && called.exit !== 0)
      problems.push(`collect: exit ${called.exit}: ${called.stdout}${called.stderr}`);
    const after = await machine.look([]);
    const { must, may } = model.suspect(from, after.nowMs, called.killed);
    const freed: string[] = (json?.freed ?? []).map((one: any) => one.owner.containerId);
    for (const pod of must)
      if (!freed.includes(pod.id)) problems.push(`collect keeps ${pod.id}, which ended long ago`);
    for (const id of freed)
      if (!may.some((pod) => pod.id === id)) problems.push(`collect frees ${id} too early`);
    for (const pod of may) {
      if (called.killed) effects.unsure.add(pod.id);
      else if (freed.includes(pod.id)) {
        effects.ended.add(pod.id);
        forgotten.push(pod.id);
      }
      if (called.killed) pod.sure = false;
    }
    // A killed collect may leave an address out of circulation; refill restores it.
    effects.poolMoved = called.killed;
    const found = await finish(effects, problems, undefined, after);
    if (!called.killed && operation.pods === 0 && found.length === 0) model.swept('collect');
    return found;
  }

  async function gc(kill: number | undefined): Promise<string[]> {
    const effects = noEffects();
    // GC does not touch a lease of the last seconds, because its list may be older.
    await machine.wait(6);
    const valid = model.podsIn('live', 'owed').map(({ id }) => ({ containerID: id, ifname: 'eth0' }));
    const called = await cni('GC', undefined, { 'cni.dev/valid-attachments': valid }, true, kill);
    const problems: string[] = [];
    if (called.killed) {
      count('gc killed');
      await machine.settle();
    } else if (called.exit !== 0) problems.push(`GC: ${called.stdout}${called.stderr}`);
    for (const pod of model.podsIn('abandoned')) {
      effects[called.killed ? 'unsure' : 'ended'].add(pod.id);
      if (called.killed) pod.sure = false;
      else forgotten.push(pod.id);
    }
    say(called.killed ? 'killed' : `ended ${[...effects.ended].join(' ')}`);
    const found = await finish(effects, problems);
    if (!called.killed && found.length === 0) model.swept('gc');
    return found;
  }

  async function step(operation: Operation): Promise<string[]> {
    words = [];
    if (machine.lacks.has(operation.kind)) return [];
    count(operation.kind);
    const effects = noEffects();
    const problems: string[] = [];
    const pickOf = (...states: Pod['state'][]) =>
      'pick' in operation ? anyOf(model.podsIn(...states), operation.pick) : undefined;
    switch (operation.kind) {
      case 'add': {
        const { problems, after } = await addPods(
          operation.count,
          operation.kill,
          operation.hasty,
          true,
          effects,
        );
        return finish(effects, problems, undefined, after);
      }
      case 'add-again': {
        const pod = pickOf('live');
        if (pod === undefined || !pod.namespace) return [];
        const { stdout } = await cni('ADD', pod);
        if (parse(stdout)?.code !== 101) problems.push(`a second ADD of ${pod.id} says ${stdout}`);
        return finish(effects, problems);
      }
      case 'del':
      case 'del-owed': {
        const pod = operation.kind === 'del' ? pickOf('live') : pickOf('owed');
        if (pod === undefined) return [];
        const path = operation.kind === 'del-owed' || operation.path;
        return finish(effects, await delPod(pod, path, operation.kill, effects));
      }
      case 'check': {
        const pod = pickOf('live');
        if (pod === undefined) return [];
        const { exit, stdout } = await cni('CHECK', pod, { prevResult: pod.result });
        const code = exit === 0 ? 0 : parse(stdout)?.code;
        if (code !== (pod.namespace ? 0 : 102)) problems.push(`CHECK of ${pod.id}: ${stdout}`);
        return finish(effects, problems);
      }
      case 'gc':
        return gc(operation.kill);
      case 'status': {
        const { exit, stdout } = await cni('STATUS', undefined);
        if (exit !== 0) problems.push(`STATUS: ${stdout}`);
        return problems;
      }
      case 'refill':
        return refill(operation);
      case 'collect':
        return collect(operation);
      case 'repair': {
        const { called, problems } = await locked(['repair'], operation.kill, operation.pods, effects);
        if (!called.killed && called.exit !== 0)
          problems.push(`repair: exit ${called.exit}: ${called.stdout}${called.stderr}`);
        if (!called.killed) model.egress = 'intact';
        return finish(effects, problems);
      }
      case 'reboot': {
        await machine.reboot(operation.kill);
        await cloud.settled();
        effects.rebooted = true;
        const found = await finish(effects, problems);
        model.egress = 'intact';
        model.pods.clear();
        return found;
      }
      case 'lose-namespace':
      case 'abandon': {
        const pod = operation.kind === 'abandon' ? pickOf('live', 'owed') : pickOf('live');
        if (pod === undefined || (!pod.namespace && operation.kind === 'lose-namespace')) return [];
        if (pod.namespace) await machine.endNamespace(pod.id);
        pod.namespace = false;
        if (operation.kind === 'abandon') pod.state = 'abandoned';
        say(pod.id);
        return finish(effects, problems);
      }
      case 'flush-nft':
        await machine.flushNft();
        model.egress = 'unknown';
        return [];
      case 'lose-prefix': {
        const prefix = anyOf(assignedBy(instance), operation.pick);
        if (prefix === undefined) return [];
        const [eniId, cidr = ''] = prefix.split(' ');
        cloud.ec2.send('UnassignPrivateIpAddresses', { NetworkInterfaceId: eniId, Ipv4Prefixes: [cidr] });
        await cloud.settled();
        model.prefixLost(prefix);
        say(prefix);
        return finish(effects, problems);
      }
      case 'gain-prefix': {
        const eni = anyOf(
          instance.enis.filter(
            (one) => one.tags.get('eniboot:role') === 'pods' && one.attachment?.status === 'attached',
          ),
          operation.pick,
        );
        if (eni === undefined || eni.prefixes.length >= 3) return [];
        cloud.ec2.send('AssignPrivateIpAddresses', { NetworkInterfaceId: eni.id, Ipv4PrefixCount: 1 });
        await cloud.settled();
        say(`${eni.id} ${eni.prefixes.at(-1)}`);
        return finish(effects, problems);
      }
      case 'imds-lag':
        cloud.latency.imdsLagMs = operation.ms;
        return [];
      case 'wait':
        await machine.wait(operation.seconds);
        return finish(effects, problems);
    }
  }

  async function rest(): Promise<string[]> {
    cloud.latency.imdsLagMs = 10;
    const ends: Operation[] = [
      ...[...model.pods.values()].map(
        (): Operation => ({ kind: 'del', pick: 0, path: true, kill: undefined }),
      ),
      ...[...model.pods.values()].map((): Operation => ({ kind: 'del-owed', pick: 0, kill: undefined })),
      { kind: 'gc', kill: undefined },
      { kind: 'repair', pods: 0, kill: undefined },
      ...Array.from({ length: 8 }, (): Operation[] => [
        { kind: 'wait', seconds: 400 },
        { kind: 'collect', pods: 0, kill: undefined },
        { kind: 'refill', fault: undefined, pods: 0, kill: undefined },
      ]).flat(),
    ];
    for (const operation of ends) {
      const problems = await step(operation);
      if (problems.length > 0)
        return problems.map((problem) => `coming to rest, ${operation.kind}: ${problem}`);
    }
    await cloud.settled();
    const { now } = model;
    const left: string[] = [];
    for (const entry of now.entries.filter((one) => one.state === 'leased' || one.state === 'retiring'))
      left.push(`${entry.address} is still ${entry.state} ${entry.rest}`);
    for (const [address, names] of now.kernel) left.push(`${address} still has ${[...names].join(', ')}`);
    if (now.leavingEnis.length > 0) left.push(`still leaving: ${now.leavingEnis.join(', ')}`);
    if (now.owned.join(' ') !== [...now.ec2].sort().join(' '))
      left.push(`the pool has ${now.owned.join(', ')}, EC2 ${now.ec2.join(', ')}`);
    if (now.entries.length > marks.lowWater + marks.surplus)
      left.push(`${now.entries.length} addresses are leased to no pod`);
    left.push(...cloud.leakReport().map((leak) => JSON.stringify(leak)));
    return left;
  }

  return { played, step, said: () => words.join('; '), rest };
}

/** t3.small: two pod ENIs of three prefixes. */
const maxPods = 96;

function sameEniAndPrefix(key: string, { eniId, address }: { eniId: string; address: string }): boolean {
  const [id, cidr = ''] = key.split(' ');
  const last = Number(address.split('.')[3]);
  return id === eniId && cidr === `${address.replace(/\d+$/, String(last - (last % 16)))}/28`;
}

function parse(text: string): any {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
