import { type InstanceLimits, limitsOf, limitsSources } from '../aws/limits/limits.ts';
import { type Capacity, capacity } from '../boot/facts/capacity.ts';
import { Failure } from '../messages/failure.ts';
import { parse } from './arguments.ts';
import type { Command, CommandIo } from './command.ts';
import { table } from './table.ts';

/** The default of `pods.max`; a test checks that the two are equal. */
const defaultMax = 110;

const help = `Usage: eniboot capacity TYPE [--json]

How many pods a node of an instance type can have by its number of addresses, and why. Needs neither AWS nor root.

The boot ENI belongs to the control plane and every pod ENI keeps its own primary address, so
  pods = (ENIs of the default network card - 1) x (addresses per ENI - 1), x 16 with /28 prefixes,
and never more than pods.max (here its default, ${defaultMax}). pods.addressing: auto means prefixes on Nitro types.

  eniboot capacity m5.large
  eniboot capacity m5.large --json

Exit codes: 0 shown; 1 the type is unknown or has no room for pods; 2 wrong usage.
`;

export const capacityCommand: Command = {
  help,
  run,
};

async function run(args: string[], io: CommandIo): Promise<number> {
  const { values, positionals } = parse('capacity', args, { json: { type: 'boolean' } }, 1);
  const type = positionals[0]?.toLowerCase();
  if (type === undefined)
    throw new Failure('USAGE', 'eniboot capacity: an instance type is missing, such as m5.large');
  const limits = await limitsOf(type);
  const sources = await limitsSources();
  if (limits === undefined)
    throw new Failure(
      'INSTANCE_TYPE_UNKNOWN',
      `the table of ${sources[0]?.published} does not know ${type}`,
      {
        instanceType: type,
      },
    );
  const rows = (limits.nitro ? (['prefixes', 'addresses'] as const) : (['addresses'] as const)).map((unit) =>
    capacity(limits, unit, defaultMax),
  );
  if (values.json === true) io.stdout(`${JSON.stringify({ type, limits, capacity: rows, sources })}\n`);
  else io.stdout(describe(type, limits, rows, sources[0]?.published ?? ''));
  return 0;
}

function describe(type: string, limits: InstanceLimits, rows: Capacity[], published: string): string {
  const facts = [
    `${limits.defaultCardEnis} ENIs`,
    `${limits.addressesPerEni} IPv4 addresses each`,
    limits.nitro ? 'Nitro' : 'not Nitro (no prefixes)',
    ...(limits.cards > 1
      ? [`${limits.enis} ENIs on ${limits.cards} cards, only the default card is used`]
      : []),
    ...(limits.baselineMbps === undefined
      ? []
      : [`${limits.baselineMbps} Mbit/s baseline${limits.cards > 1 ? ' on it' : ''}`]),
  ];
  const columns = table([
    ['addressing', 'pod ENIs', 'slots', 'addresses', 'max pods', 'limited by', 'calculation'],
    ...rows.map((row) => [
      row.unit,
      `${row.podEnis}`,
      `${row.slots}`,
      `${row.addresses}`,
      `${row.maxPods}`,
      row.limitedBy === 'cap' ? 'pods.max' : 'EC2',
      row.explain,
    ]),
  ]);
  return `${type}: ${facts.join(', ')} (published ${published})\n\n${columns}`;
}
