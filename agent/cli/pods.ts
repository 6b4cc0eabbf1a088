import { listPodTraces } from '../attachment/remains.ts';
import { toNumber } from '../host/ipv4.ts';
import { listSandboxes, type Sandbox } from '../host/sandboxes.ts';
import { isFailure } from '../messages/failure.ts';
import { leasePath } from '../pool/entry.ts';
import { type Lease, listLeases } from '../pool/lease.ts';
import { noteOf } from '../pool/lease-note.ts';
import { systemClock } from '../port/clock.ts';
import { statIfPresent } from '../port/fs.ts';
import { requireRoot } from '../port/runtime.ts';
import { parse } from './arguments.ts';
import type { Command } from './command.ts';
import { table } from './table.ts';

const help = `Usage: eniboot pods [--json]

Which pod has which address: every lease of the pool, with its ENI, the container ID and interface that have it, the pod's
namespace and name, and how long the pod has had it. "no link" marks a lease whose link on the node is gone;
\`eniboot trace POD\` shows what else is missing, and \`eniboot pool collect\` frees the address when the pod is gone too.
Reads /run/eniboot/pool and the kernel. Asks the runtime (crictl) only for names that it did not give to the plugin, and
neither EC2 nor the API server.

  --json    one object: { "pods": [ { "address", "eniId", "containerId", "ifName", "namespace"?, "name"?, "since",
            "linked", "ingressBits"?, "egressBits"? } ], "runtime": "answered" | "not asked" | "<why not>" }

Exit codes: 0 shown (names are missing when the runtime does not answer); 1 failed, with a code; 2 wrong usage.
`;

interface Row {
  address: string;
  eniId: string;
  containerId: string;
  ifName: string;
  namespace: string | undefined;
  name: string | undefined;
  /** ISO 8601, by the wall clock at that time. */
  since: string;
  /** The link on the node exists. */
  linked: boolean;
  /** Bandwidth limits in bit/s, in each direction on each of its links. */
  ingressBits: number | undefined;
  egressBits: number | undefined;
}

export const podsCommand: Command = {
  help,
  async run(args, io) {
    const { values } = parse('pods', args, { json: { type: 'boolean' } });
    requireRoot('pods');
    const leases = listLeases().sort((a, b) => toNumber(a.address) - toNumber(b.address));
    const { links } = listPodTraces();
    const allNamed = leases.every((lease) => noteOf(lease)?.pod !== undefined);
    const { sandboxes, runtime } = allNamed ? nobodyAsked : await askRuntime();
    const rows = leases.flatMap((lease) => rowOf(lease, links, sandboxes) ?? []);
    if (values.json === true) {
      io.stdout(`${JSON.stringify({ pods: rows, runtime })}\n`);
      return 0;
    }
    if (rows.length === 0) io.stdout('no pod has an address on this node\n');
    else io.stdout(show(rows));
    if (!allNamed && runtime !== 'answered') io.stderr(`names of pods are missing: ${runtime}\n`);
    return 0;
  },
};

const nobodyAsked = { sandboxes: new Map<string, Sandbox>(), runtime: 'not asked' };

async function askRuntime(): Promise<{ sandboxes: Map<string, Sandbox>; runtime: string }> {
  try {
    const list = await listSandboxes();
    return { sandboxes: new Map(list.map((sandbox) => [sandbox.id, sandbox])), runtime: 'answered' };
  } catch (error) {
    if (!isFailure(error)) throw error;
    return { sandboxes: new Map(), runtime: error.message };
  }
}

/** undefined when the lease has ended since it was listed. */
function rowOf(lease: Lease, links: Set<string>, sandboxes: Map<string, Sandbox>): Row | undefined {
  const { address, eniId, owner } = lease;
  const since = sinceOf(leasePath({ address, eniId, owner }));
  if (since === undefined) return undefined;
  const note = noteOf(lease);
  const pod = note?.pod ?? sandboxes.get(owner.containerId);
  return {
    address,
    eniId,
    ...owner,
    namespace: pod?.namespace,
    name: pod?.name,
    since: since.toISOString(),
    linked: links.has(address),
    ingressBits: note?.limits.ingress?.bitsPerSecond,
    egressBits: note?.limits.egress?.bitsPerSecond,
  };
}

/** An address is leased by a rename, which sets the inode's change time. */
function sinceOf(path: string): Date | undefined {
  return statIfPresent(path)?.ctime;
}

function show(rows: Row[]): string {
  const limited = rows.some((row) => row.ingressBits !== undefined || row.egressBits !== undefined);
  return table([
    ['address', 'ENI', 'interface', 'container', 'pod', 'for', ...(limited ? ['Mbit/s in/out'] : []), ''],
    ...rows.map((row) => [
      row.address,
      row.eniId,
      row.ifName,
      row.containerId.slice(0, 13),
      row.name === undefined ? '?' : `${row.namespace}/${row.name}`,
      duration(systemClock.now().getTime() - Date.parse(row.since)),
      ...(limited ? [`${megabits(row.ingressBits)}/${megabits(row.egressBits)}`] : []),
      row.linked ? '' : 'no link',
    ]),
  ]);
}

function megabits(bits: number | undefined): string {
  return bits === undefined ? '–' : String(Math.round(bits / 10_000) / 100);
}

function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}
