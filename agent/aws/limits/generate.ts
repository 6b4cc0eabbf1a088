// Writes limits.generated.json from two published Go modules. The Go toolchain fetches them and checks them against the public
// checksum database. Run by hand after raising the versions below:
//   node agent/aws/limits/generate.ts
// The output depends only on these versions.
import { join } from 'node:path';
import { run } from '../../port/exec.ts';
import { readIfPresent, writeAtomic } from '../../port/fs.ts';
import type { Row, Source, Table } from './table.ts';

const sources = {
  limits: {
    module: 'github.com/aws/amazon-vpc-cni-k8s',
    version: 'v1.23.2',
    file: 'pkg/vpc/vpc_ip_resource_limit.go',
  },
  bandwidth: {
    module: 'github.com/aws/karpenter-provider-aws',
    version: 'v1.14.1',
    file: 'pkg/providers/instancetype/zz_generated.bandwidth.go',
  },
};

const asked = process.argv.slice(2);
if (asked.length > 0) {
  process.stdout.write(
    'Usage: npm run limits\nWrites agent/aws/limits/limits.generated.json anew, from the versions named in generate.ts. Needs Go.\n',
  );
  process.exit(asked.includes('--help') ? 0 : 2);
}

/** Far fewer types than are published today (1,391), far more than would be read after a change of the file layout. */
const fewestTypes = 1000;

const limits = await fetchModule(sources.limits);
const bandwidth = await fetchModule(sources.bandwidth);
const baselines = parseBaselines(bandwidth.text);
const types = parseLimits(limits.text, baselines);
const table: Table = { sources: [limits.source, bandwidth.source], types };
writeAtomic(join(import.meta.dirname, 'limits.generated.json'), render(table));
process.stdout.write(`${Object.keys(types).length} instance types\n`);

async function fetchModule(wanted: {
  module: string;
  version: string;
  file: string;
}): Promise<{ source: Source; text: string }> {
  const name = `${wanted.module}@${wanted.version}`;
  const result = await run('go', ['mod', 'download', '-json', name], { timeoutMs: 300_000 });
  if (result.missing) throw new Error('the Go toolchain is not installed');
  const answer: unknown = result.stdout === '' ? {} : JSON.parse(result.stdout);
  const dir = textField(answer, 'Dir');
  const info: unknown = JSON.parse(readIfPresent(textField(answer, 'Info') ?? '') ?? '{}');
  const published = textField(info, 'Time');
  const sum = textField(answer, 'Sum');
  if (dir === undefined || published === undefined || sum === undefined)
    throw new Error(`${name}: ${textField(answer, 'Error') ?? result.stderr}`);
  const text = readIfPresent(join(dir, wanted.file));
  if (text === undefined) throw new Error(`${name} has no ${wanted.file} any more`);
  return {
    source: { module: wanted.module, version: wanted.version, published: published.slice(0, 10), sum },
    text,
  };
}

function parseBaselines(source: string): Map<string, number> {
  const baselines = new Map<string, number>();
  for (const match of source.matchAll(/^\t\t"([a-z0-9.-]+)":\s+(\d+),$/gm))
    baselines.set(match[1] ?? '', Number(match[2]));
  if (baselines.size < fewestTypes) throw new Error(`only ${baselines.size} bandwidths understood`);
  return baselines;
}

function parseLimits(source: string, baselines: Map<string, number>): Record<string, Row> {
  const [, ...parts] = source.split(/^\t"([a-z0-9.-]+)": \{$/m);
  const rows: Record<string, Row> = {};
  for (let at = 0; at + 1 < parts.length; at += 2) {
    const type = parts[at] ?? '';
    rows[type] = parseType(type, parts[at + 1] ?? '', baselines.get(type) ?? 0);
  }
  const declared = source.match(/ENILimit:/g)?.length ?? 0;
  const understood = Object.keys(rows).length;
  if (understood !== declared || understood < fewestTypes)
    throw new Error(`${understood} of ${declared} instance types understood`);
  return Object.fromEntries(Object.entries(rows).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function parseType(type: string, block: string, baselineMbps: number): Row {
  const cards = [...block.matchAll(/MaximumNetworkInterfaces:\s+(\d+),\s+NetworkCardIndex:\s+(\d+),/g)].map(
    (match) => ({ enis: Number(match[1]), index: Number(match[2]) }),
  );
  const defaultCard = Number(field(type, block, /DefaultNetworkCardIndex:\s+(\d+)/));
  const enis = Number(field(type, block, /ENILimit:\s+(\d+)/));
  // The published limit is the limit of the default card; generation stops when that no longer holds.
  if (cards.find((card) => card.index === defaultCard)?.enis !== enis)
    throw new Error(`${type}: ENILimit ${enis} is not that of network card ${defaultCard}`);
  // Prefixes need Nitro; bare-metal instances report no hypervisor (or "unknown") and are built on Nitro too.
  const nitro =
    field(type, block, /HypervisorType:\s+"(\w*)"/) === 'nitro' ||
    field(type, block, /IsBareMetal:\s+(\w+)/) === 'true';
  const addressesPerEni = Number(field(type, block, /IPv4Limit:\s+(\d+)/));
  const flag = nitro ? 1 : 0;
  if (cards.length === 1) return [enis, addressesPerEni, flag, baselineMbps];
  const allEnis = cards.reduce((sum, card) => sum + card.enis, 0);
  return [enis, addressesPerEni, flag, baselineMbps, cards.length, allEnis];
}

function field(type: string, block: string, pattern: RegExp): string {
  const value = pattern.exec(block)?.[1];
  if (value === undefined) throw new Error(`${type}: nothing matches ${pattern}`);
  return value;
}

function textField(value: unknown, key: string): string | undefined {
  const found: unknown = typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined;
  return typeof found === 'string' ? found : undefined;
}

/** One line for each type, so that the diff of a new table can be read. */
function render({ sources: origin, types: rows }: Table): string {
  const lines = Object.entries(rows).map(([type, row]) => `${JSON.stringify(type)}:${JSON.stringify(row)}`);
  const heads = origin.map((source) => JSON.stringify(source));
  return `{"sources":[\n${heads.join(',\n')}\n],"types":{\n${lines.join(',\n')}\n}}\n`;
}
