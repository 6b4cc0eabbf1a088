import { readStatus } from '../boot/verdict/status.ts';
import { type Link, listLinks } from '../host/links.ts';
import { earlierNodeFile, type NodePodEni, readNodeFile } from '../host/node-file.ts';
import { type PrefixState, takeInventory } from '../pool/inventory.ts';
import { leavingEnis } from '../pool/leaving-enis.ts';
import { systemClock } from '../port/clock.ts';
import { requireRoot } from '../port/runtime.ts';
import { parse } from './arguments.ts';
import type { Command } from './command.ts';
import { table } from './table.ts';

const help = `Usage: eniboot enis [--ec2] [--json]

This instance's ENIs: the boot ENI, for the node only, and the pod ENIs in the order in which they are filled, each
with its device in the kernel and its addresses in the pool. Reads /run/eniboot and the kernel.

  --ec2     also asks EC2 what is attached, and says where kernel, pool and EC2 disagree (needs the node's role); works
            on a node that is not READY, too
  --json    one object: { "enis": [ { "eniId", "role", "mac"?, "device"?, "up"?, "carrier"?, "mtu"?, "addresses",
            "leased", "leaving", "ec2"? } ], "disagreements": [] }

Exit codes: 0 shown and in agreement; 1 they disagree, or failed with a code; 2 wrong usage.
`;

interface Row {
  eniId: string;
  role: 'boot' | 'pods' | 'other';
  mac: string | undefined;
  device: string | undefined;
  up: boolean | undefined;
  carrier: boolean | undefined;
  mtu: number | undefined;
  /** Number of its addresses in the pool. */
  addresses: number;
  leased: number;
  leaving: boolean;
  ec2: Ec2View | undefined;
}

type Known = Pick<Row, 'role' | 'mac' | 'device'>;

interface Described {
  eniId: string;
  mac: string;
  role: Row['role'];
  view: Ec2View;
}

interface Ec2View {
  status: string;
  deviceIndex: number;
  cidrs: string[];
}

export const enisCommand: Command = {
  help,
  async run(args, io) {
    const { values } = parse('enis', args, { ec2: { type: 'boolean' }, json: { type: 'boolean' } });
    requireRoot('enis');
    const described = values.ec2 === true ? await askEc2() : undefined;
    // A node that is not READY has no node file. EC2 knows its ENIs all the same.
    const node = described === undefined ? readNodeFile() : earlierNodeFile();
    const links = await listLinks();
    const prefixes = takeInventory({ nowMs: systemClock.bootMs(), restMs: node?.restMs ?? 0 });
    const leaving = leavingEnis();
    const ordered = knownEnis(links, prefixes, described ?? [], node?.podEnis ?? []);
    const rows = [...ordered].map(([eniId, known]): Row => {
      const link = links.find((candidate) => isDeviceOf(candidate, known));
      const ofEni = prefixes.filter((prefix) => prefix.eniId === eniId);
      return {
        ...known,
        eniId,
        device: link?.name,
        up: link?.up,
        carrier: link?.carrier,
        mtu: link?.mtu,
        addresses: sum(ofEni, 'size'),
        leased: sum(ofEni, 'leased'),
        leaving: leaving.includes(eniId),
        ec2: described?.find((eni) => eni.eniId === eniId)?.view,
      };
    });
    const disagreements = rows.flatMap((row) => compare(row, prefixes, described !== undefined));
    if (values.json === true) io.stdout(`${JSON.stringify({ enis: rows, disagreements })}\n`);
    else {
      io.stdout(show(rows, described !== undefined));
      for (const text of disagreements) io.stderr(`${text}\n`);
    }
    return disagreements.length === 0 ? 0 : 1;
  },
};

/** The boot ENI, pod ENIs in the order in which they are filled, ENIs that only the pool has, ENIs that only EC2 has. */
function knownEnis(
  links: Link[],
  prefixes: PrefixState[],
  described: Described[],
  podEnis: NodePodEni[],
): Map<string, Known> {
  const known = new Map<string, Known>();
  const bootEni = readStatus()?.bootEni;
  if (bootEni !== undefined) {
    const { device } = bootEni;
    known.set(bootEni.id, { role: 'boot', mac: links.find((link) => link.name === device)?.mac, device });
  }
  const add = (eniId: string, role: Row['role'], mac: string | undefined) => {
    if (!known.has(eniId)) known.set(eniId, { role, mac, device: undefined });
  };
  for (const { eniId, mac } of podEnis) add(eniId, 'pods', mac);
  for (const { eniId } of prefixes) add(eniId, 'pods', described.find((eni) => eni.eniId === eniId)?.mac);
  for (const { eniId, role, mac } of described) add(eniId, role, mac);
  return known;
}

/** The ENIs that EC2 has attached to this instance. The SDK is loaded only with --ec2. */
async function askEc2(): Promise<Described[]> {
  const [{ patientContext }, { foreignEnisOf, podEnisOf }, { identify }] = await Promise.all([
    import('../boot/look.ts'),
    import('../boot/phases/attach/plan.ts'),
    import('../boot/phases/identify.ts'),
  ]);
  const context = patientContext('look', false);
  const { node } = await identify(context).observe();
  const ec2 = await context.ec2();
  const attached = await ec2.describeAttachedEnis(node.identity.instanceId);
  const pods = podEnisOf(attached);
  const foreign = foreignEnisOf(attached);
  return attached.map((eni) => ({
    eniId: eni.eniId,
    mac: eni.mac,
    role: pods.includes(eni) ? 'pods' : foreign.includes(eni) ? 'other' : 'boot',
    view: {
      status: eni.attachment?.status ?? eni.status,
      deviceIndex: eni.attachment?.deviceIndex ?? -1,
      cidrs: [...eni.prefixes, ...eni.secondaryAddresses.map((address) => `${address}/32`)],
    },
  }));
}

function isDeviceOf(link: Link, known: Pick<Known, 'mac' | 'device'>): boolean {
  if (known.device !== undefined) return link.name === known.device;
  return link.mac === known.mac && !link.stacked;
}

/** Where kernel, pool and EC2 disagree, one sentence each. */
function compare(row: Row, prefixes: PrefixState[], ec2Asked: boolean): string[] {
  if (row.role !== 'pods' || row.leaving) return [];
  const found: string[] = [];
  if (row.device === undefined) found.push(`${row.eniId} has no device in the kernel`);
  else if (row.up === false) found.push(`${row.device} of ${row.eniId} is down`);
  else if (row.carrier === false) found.push(`${row.device} of ${row.eniId} has no carrier`);
  if (!ec2Asked) return found;
  if (row.ec2 === undefined) return [...found, `EC2 does not show ${row.eniId} attached to this instance`];
  const pool = prefixes.filter((prefix) => prefix.eniId === row.eniId).map((prefix) => prefix.cidr);
  const { cidrs } = row.ec2;
  const onlyPool = pool.filter((cidr) => !cidrs.includes(cidr));
  const onlyEc2 = cidrs.filter((cidr) => !pool.includes(cidr));
  if (onlyPool.length > 0) found.push(`${row.eniId}: EC2 does not show ${onlyPool.join(', ')} of the pool`);
  if (onlyEc2.length > 0) found.push(`${row.eniId}: the pool lacks ${onlyEc2.join(', ')}, which EC2 shows`);
  return found;
}

function show(rows: Row[], ec2Asked: boolean): string {
  return table([
    ['ENI', 'role', 'device', 'state', 'MTU', 'addresses', 'leased', ...(ec2Asked ? ['EC2'] : []), ''],
    ...rows.map((row) => [
      row.eniId,
      row.role,
      row.device ?? '-',
      row.device === undefined
        ? 'missing'
        : row.up === false
          ? 'down'
          : row.carrier === false
            ? 'no carrier'
            : 'up',
      String(row.mtu ?? '-'),
      ...(row.role === 'pods' ? [String(row.addresses), String(row.leased)] : ['-', '-']),
      ...(ec2Asked ? [row.ec2 === undefined ? '-' : `${row.ec2.status} at ${row.ec2.deviceIndex}`] : []),
      row.leaving ? 'on its way back to EC2' : '',
    ]),
  ]);
}

function sum(prefixes: PrefixState[], field: 'size' | 'leased'): number {
  return prefixes.reduce((total, prefix) => total + prefix[field], 0);
}
