// `eniboot trace` as tests call it, and how the objects it looks for go away.
import * as assert from 'uvu/assert';
import type { Step, Way } from '../../agent/cli/trace-paths.ts';
import type { Part } from '../../agent/host/attachment-parts.ts';
import type { PodNode } from './rig.ts';

export interface Trace {
  exit: number | null;
  ways: Way[];
  steps: Step[];
  faults: Step[];
  out: string;
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

/** How each kind of object goes away, or another takes its place. */
export function harmful(part: Part, netns: string): string {
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
