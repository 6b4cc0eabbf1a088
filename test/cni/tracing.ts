// `eniboot trace` as tests call it, on a pod with known parts, and commands that remove each part.
import * as assert from 'uvu/assert';
import { type Attachment, attachmentOf } from '../../agent/attachment/attachment.ts';
import { limitOf } from '../../agent/attachment/limits.ts';
import { type Part, partsOf } from '../../agent/attachment/parts.ts';
import type { Step, Way } from '../../agent/cli/trace-paths.ts';
import type { NodeFile } from '../../agent/host/node-file.ts';
import { conf, type Pod, type PodNode, variablesOf } from './rig.ts';

export interface Trace {
  exit: number | null;
  ways: Way[];
  steps: Step[];
  faults: Step[];
  out: string;
}

/** A pod with bandwidth limits, so that their parts are checked, too. */
export interface Subject {
  readonly pod: Pod;
  /** The parts that ADD made. */
  parts(): { base: Part[]; six: Part[] };
  checkIsContent(): Promise<boolean>;
  /** Makes the pod again; it has another address then. */
  renew(): Promise<void>;
  /** Removes one part after the other: trace and CHECK name each, and the command that trace gives restores it. */
  loseEach(parts: () => Part[]): Promise<void>;
}

const limited = { ...conf, runtimeConfig: { bandwidth: { ingressRate: 50e6, egressRate: 40e6 } } };

export async function addSubject(node: PodNode, id: string): Promise<Subject> {
  let pod = await node.addPod(id, {}, limited);
  const self: Subject = {
    get pod() {
      return pod;
    },
    parts() {
      const facts = JSON.parse(node.instance.read('/run/eniboot/node.json') ?? '') as NodeFile;
      const [eni] = facts.podEnis;
      if (eni === undefined) throw new Error('no pod ENI');
      const limits = { ingress: limitOf(50e6), egress: limitOf(40e6) };
      const device = node.instance.deviceOf(eni.eniId) ?? '';
      const attachment: Attachment = { ...attachmentOf(facts, pod.address, eni, 'eth0'), limits };
      return partsOf(attachment, { eniDevice: device, ipv6: true }, pod.netns);
    },
    async checkIsContent() {
      const prevResult = pod.result;
      return (await node.cni('CHECK', variablesOf(id, pod.netns), { ...conf, prevResult })).exit === 0;
    },
    async renew() {
      await node.cni('DEL', variablesOf(id, pod.netns));
      await node.sh(`ip netns del ${id}`);
      pod = await node.addPod(id, {}, limited);
    },
    async loseEach(parts) {
      const { length } = parts();
      for (let at = 0; at < length; at += 1) {
        // The parts are computed each time: a pod that was replaced has another address.
        const part = parts()[at];
        if (part === undefined) throw new Error('fewer objects than before');
        await node.sh(harmful(part, pod.netns));
        const { faults, exit } = await traced(node, id);
        assert.is(exit, 1, part.text);
        const fault = faults.find((step) => step.where === part.side && step.text === part.text);
        assert.ok(fault, `${part.text} is not named: ${JSON.stringify(faults)}`);
        assert.is(await self.checkIsContent(), false, `CHECK does not see that ${part.text} is gone`);
        if (part.command === undefined) {
          assert.match(fault?.remedy ?? '', /^delete the pod/);
          await self.renew();
        } else {
          // The kernel removes the routes that name an address with it: all missing parts are restored.
          const commands = faults.map((step) => /^`(.*)`/.exec(step.remedy ?? '')?.[1] ?? 'false');
          for (const command of new Set(commands)) await node.sh(command);
        }
        assert.equal((await traced(node, id)).faults, [], `after ${part.text} was put back`);
      }
    },
  };
  return self;
}

/** `eniboot trace ARGS --json`; asserts that its counts and exit code agree with its list. */
export async function traced(node: PodNode, ...args: string[]): Promise<Trace> {
  const result = await node.tool(['trace', ...args, '--json']);
  const { exitCode, stdout, stderr } = result;
  if (stdout === '') throw new Error(`trace ${args.join(' ')} said nothing: ${JSON.stringify(result)}`);
  const {
    ways = [],
    objects,
    faults,
  } = JSON.parse(stdout) as { ways?: Way[]; objects: number; faults: number };
  const steps = ways.flatMap((way) => way.steps);
  const wrong = steps.filter((step) => step.state === 'missing' || step.state === 'wrong');
  if (ways.length > 0) {
    assert.ok(objects > 5 && objects <= steps.length);
    assert.is(faults > 0, wrong.length > 0);
    assert.is(exitCode, faults === 0 ? 0 : 1, stderr);
  }
  return { exit: exitCode, ways, steps, faults: wrong, out: stdout };
}

/** Runs `--to` for each address from a healthy pod: asserts one way, its name, and these words of the kernel's decision. */
export async function leadsTo(
  node: PodNode,
  id: string,
  cases: readonly (readonly [to: string, way: string, decided: RegExp])[],
): Promise<void> {
  for (const [to, name, decided] of cases) {
    const { ways, faults, steps } = await traced(node, id, '--to', to);
    assert.equal(
      ways.map((way) => way.name),
      [name],
      to,
    );
    assert.equal(faults, [], to);
    const decisions = steps.filter((step) => step.what === 'decision' || step.what === 'verdict');
    assert.ok(
      decisions.some((step) => decided.test(step.text)),
      `${to}: ${JSON.stringify(decisions)}`,
    );
  }
}

/** The command that removes a part, or replaces it by another. */
function harmful(part: Part, netns: string): string {
  const inside = part.side === 'pod' ? `nsenter --net=${netns} ` : '';
  const { command = '', what } = part;
  switch (what.kind) {
    case 'link':
      return `${inside}ip link del ${what.end.name}`;
    case 'address':
      return command.replace('address replace', 'address del').replace(/ nodad$/, '');
    case 'route':
      return command.replace('route replace', 'route del');
    case 'neighbour':
      return `${inside}ip neigh del ${what.address} dev ${what.device}`;
    case 'rule':
      return command.replace('rule add', 'rule del');
    case 'setting':
      return `${inside}sysctl -qw ${what.path}=${what.value === '0' ? '1' : '0'}`;
    case 'chain':
      return `${inside}nft flush chain ${what.table.family} eniboot ${what.chain.name}`;
    case 'limit':
      return `${inside}tc qdisc del dev ${what.device} root`;
  }
}
