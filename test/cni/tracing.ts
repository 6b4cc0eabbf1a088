// `eniboot trace` as tests call it, on a pod whose objects are known, and how they go away.
import * as assert from 'uvu/assert';
import type { Step, Way } from '../../agent/cli/trace-paths.ts';
import { type Attachment, attachmentOf } from '../../agent/host/attachment.ts';
import type { Part, Place } from '../../agent/host/attachment-parts.ts';
import type { NodeFile } from '../../agent/host/node-file.ts';
import { limitOf } from '../../agent/host/pod-limits.ts';
import { conf, type Pod, type PodNode, variablesOf } from './rig.ts';

export interface Trace {
  exit: number | null;
  ways: Way[];
  steps: Step[];
  faults: Step[];
  out: string;
}

/** A pod with bandwidth limits, so that their objects are among those looked for. */
export interface Subject {
  readonly pod: Pod;
  /** What ADD made it by. */
  made(): { attachment: Attachment; place: Place };
  checkIsContent(): Promise<boolean>;
  /** The same pod anew; it has another address then. */
  renew(): Promise<void>;
  /** Takes one object after the other away: trace and CHECK name each, and what trace says to do puts it back. */
  loseEach(parts: () => Part[]): Promise<void>;
}

const limited = { ...conf, runtimeConfig: { bandwidth: { ingressRate: 50e6, egressRate: 40e6 } } };

export async function addSubject(node: PodNode, id: string): Promise<Subject> {
  let pod = await node.addPod(id, {}, limited);
  const self: Subject = {
    get pod() {
      return pod;
    },
    made() {
      const facts = JSON.parse(node.instance.read('/run/eniboot/node.json') ?? '') as NodeFile;
      const [eni] = facts.podEnis;
      if (eni === undefined) throw new Error('no pod ENI');
      const limits = { ingress: limitOf(50e6), egress: limitOf(40e6) };
      const device = node.instance.deviceOf(eni.eniId) ?? '';
      return {
        attachment: { ...attachmentOf(facts, pod.address, eni, 'eth0'), limits },
        place: { netns: pod.netns, eni: { device, mac: eni.mac }, ipv6: true },
      };
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
        // Anew each time: a pod that was replaced has another address.
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
          // An address takes the routes that name it along: all that is said to be missing is put back.
          const commands = faults.map((step) => /^`(.*)`/.exec(step.remedy ?? '')?.[1] ?? 'false');
          for (const command of new Set(commands)) await node.sh(command);
        }
        assert.equal((await traced(node, id)).faults, [], `after ${part.text} was put back`);
      }
    },
  };
  return self;
}

/** `eniboot trace ARGS --json`; its counts and its exit code agree with what it lists. */
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

/** `--to` each of these addresses of a healthy pod: one way, of that name, and among the kernel's words for it these. */
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

/** How each kind of object goes away, or another takes its place. */
function harmful(part: Part, netns: string): string {
  const inside = part.side === 'pod' ? `nsenter --net=${netns} ` : '';
  const command = part.command ?? '';
  switch (part.kind) {
    case 'link':
      return `${inside}ip link del ${part.name}`;
    case 'address':
      return command.replace('address replace', 'address del').replace(/ nodad$/, '');
    case 'route':
      return command.replace('route replace', 'route del');
    case 'neighbour':
      return `${inside}ip neigh del ${part.address} dev ${part.device}`;
    case 'rule':
      return command.replace('rule add', 'rule del');
    case 'setting':
      return `${inside}sysctl -qw ${part.path}=${part.value === '0' ? '1' : '0'}`;
    case 'chain': {
      const [, family = ''] = / of table (\S+) /.exec(part.text) ?? [];
      return `${inside}nft flush chain ${family} eniboot ${part.name}`;
    }
    case 'limit':
      return `${inside}tc qdisc del dev ${part.device} root`;
  }
}
