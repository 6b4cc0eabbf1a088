import { requireBooted } from '../boot/facts/booted.ts';
import { Failure } from '../messages/failure.ts';
import { notedNamespace } from '../pool/lease-note.ts';
import { requireRoot } from '../port/runtime.ts';
import { parse } from './arguments.ts';
import type { Command } from './command.ts';
import { findPod, podNameOf } from './find-pod.ts';
import { paint } from './table.ts';
import type { Step, Way } from './trace-paths.ts';

const help = `Usage: eniboot trace POD [--to ADDRESS] [--json]

The paths a pod's packets take: to the VPC, to the node, to a Service, to the Internet, from outside (NodePort,
hostPort), to the instance metadata service; over IPv6 as well if the pod has it. Each path is shown as the objects a
packet meets, in that order, and whether each is there; what is MISSING or wrong comes with what to do about it.
Read-only; the pod notices nothing. It asks the kernel, /run/eniboot and once IMDS, but neither EC2 nor the API server.
Obstacles of other programs (a firewall's chain, a VPN's policy rule) are named too. Does not tell where kube-proxy
sends a Service, what the rules of security groups are, or what listens in the pod.

POD           its address, its container ID or an unambiguous beginning of it, or NAMESPACE/NAME (\`eniboot pods\`)
--to ADDRESS  only the path to this address, with what the kernel decides for it (ip route get) and, if it leaves
              through the node, the egress table's verdict
--json        one object: { "pod": { "address", "eniId", "containerId", "ifName", "name"?, "netns"? }, "to"?, "ways":
              [ { "name", "title", "steps": [ { "where", "what", "text", "state", "found"?, "remedy"? } ] } ],
              "objects", "faults" }. A state is present, missing, wrong, or unknown where it could not be looked at

  eniboot trace 10.0.64.17
  eniboot trace shop/web-1 --to 10.8.3.4

Exit codes: 0 everything is there; 1 something is missing or wrong, or failed with a code; 2 wrong usage.
`;

export const traceCommand: Command = {
  help,
  async run(args, io) {
    const { values, positionals } = parse(
      'trace',
      args,
      { to: { type: 'string' }, json: { type: 'boolean' } },
      1,
    );
    const [name] = positionals;
    if (name === undefined) throw new Failure('USAGE', 'eniboot trace: which pod? See `eniboot pods`');
    const host = values.to === undefined ? undefined : await hostAt(values.to);
    requireRoot('trace');
    requireBooted('it has no pods');
    const lease = findPod(name);
    const netns = notedNamespace(lease);
    const ways = await look(lease, netns ?? '', host);
    const steps = distinct(ways);
    const faults = steps.filter((step) => step.state === 'missing' || step.state === 'wrong');
    const pod = {
      address: lease.address,
      eniId: lease.eniId,
      ...lease.owner,
      name: podNameOf(lease),
      netns,
    };
    if (values.json === true) {
      const counts = { objects: steps.length, faults: faults.length };
      io.stdout(`${JSON.stringify({ pod, to: values.to, ways, ...counts })}\n`);
    } else {
      const title = `${pod.address} of ${pod.name ?? pod.containerId}, ${pod.ifName} on ${pod.eniId}`;
      io.stdout(`${paint('bold', title, io.isTTY)}\n`);
      for (const way of ways) io.stdout(`\n${show(way, io.isTTY)}`);
      io.stdout(`\n${summary(steps, faults, io.isTTY)}`);
    }
    return faults.length === 0 ? 0 : 1;
  },
};

async function hostAt(to: string): Promise<string> {
  const { hostOf } = await import('./trace-to.ts');
  const host = hostOf(to);
  if (host === undefined)
    throw new Failure('USAGE', `eniboot trace: --to ${to} is not the address of a host`);
  return host;
}

/** Modules that look at the machine are loaded only after the arguments are checked. */
async function look(
  lease: Parameters<typeof podNameOf>[0],
  netns: string,
  host: string | undefined,
): Promise<Way[]> {
  const [{ waysOf }, { lookAtPod }, { carrierOf, decisionsOf, wayTo }] = await Promise.all([
    import('./trace-paths.ts'),
    import('./trace-look.ts'),
    import('./trace-to.ts'),
  ]);
  const seen = await lookAtPod(lease, host);
  if (host === undefined) return waysOf(seen);
  if (host === lease.address || host === seen.attachment.ipv6?.address)
    throw new Failure('USAGE', `eniboot trace: --to ${host} is the pod itself`);
  const { readBootedConfig } = await import('../boot/facts/config.ts');
  const name = wayTo(host, seen.attachment, readBootedConfig().kubernetes.serviceCidrs);
  const ways = waysOf(seen, carrierOf(host, seen.attachment)).filter((way) => way.name === name);
  if (ways.length === 0)
    throw new Failure('USAGE', `eniboot trace: --to ${host}: the pod has no IPv6 address`);
  const decisions = await decisionsOf(host, name, seen, netns);
  return ways.map((way) => ({ ...way, steps: [...way.steps, ...decisions] }));
}

/** An object that is on several paths counts once. */
function distinct(ways: Way[]): Step[] {
  const steps = ways.flatMap((way) => way.steps);
  return [...new Map(steps.map((step) => [`${step.where} ${step.what} ${step.text}`, step])).values()];
}

const marks = {
  present: ['ok', 'green'],
  missing: ['MISSING', 'red'],
  wrong: ['WRONG', 'red'],
  unknown: ['?', 'yellow'],
} as const;

function show(way: Way, colour: boolean): string {
  const rows = merge(way.steps);
  const width = (cell: (step: Step) => string) => Math.max(...rows.map((step) => cell(step).length));
  const what = width((step) => step.what);
  const lines = rows.flatMap((step) => {
    const [mark, style] = marks[step.state];
    const found = step.found === undefined ? '' : `: ${step.found}`;
    const head = `  ${paint(style, mark.padEnd(7), colour)}  ${step.where.padEnd(4)}  ${step.what.padEnd(what)}  ${step.text}${found}`;
    return step.remedy === undefined ? [head] : [head, `           what to do: ${step.remedy}`];
  });
  return [paint('bold', way.title, colour), ...lines, ''].join('\n');
}

/** Neighbouring objects of one kind that are all present share a line: a VPC may have many CIDRs. */
function merge(steps: Step[]): Step[] {
  const merged: Step[] = [];
  for (const step of steps) {
    const before = merged.at(-1);
    const alike = (one: Step) =>
      one.state === 'present' && one.what === step.what && one.where === step.where;
    if (before !== undefined && MERGED.has(step.what) && alike(step) && alike(before))
      merged[merged.length - 1] = { ...before, text: `${before.text}; ${step.text}` };
    else merged.push(step);
  }
  return merged;
}

const MERGED = new Set(['route', 'setting', 'chain']);

function summary(steps: Step[], faults: Step[], colour: boolean): string {
  const unknown = steps.filter((step) => step.state === 'unknown').length;
  const rest = unknown === 0 ? '' : `; ${unknown} could not be looked at`;
  if (faults.length === 0)
    return `${paint('green', `all ${steps.length - unknown} objects are there`, colour)}${rest}\n`;
  const word = faults.length === 1 ? 'is' : 'are';
  return `${paint('red', `${faults.length} of ${steps.length} objects ${word} missing or wrong`, colour)}${rest}\n`;
}
