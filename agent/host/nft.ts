// nftables: the node's own tables, replaced in one transaction and compared with what the kernel made of them.
import { release } from 'node:os';
import { Failure } from '../messages/failure.ts';
import { run } from '../port/exec.ts';
import { endingOf, notRun, succeeded } from '../port/exec-result.ts';
import { readJsonIfPresent, writeAtomic } from '../port/fs.ts';
import { version } from '../port/runtime.ts';
import { must } from './command.ts';
import { NFT_TABLE, NODE_TABLES, RUN_DIR } from './names.ts';
import { canonical, entriesOf, objectsOf } from './nft-listing.ts';

/** Where the form the kernel gave our tables is kept, with the text they were made from. */
const APPLIED = `${RUN_DIR}/egress.json`;

interface Applied {
  /** Of eniboot, that loaded them. */
  version: string;
  text: string;
  listing: string;
}

export interface TableState {
  /** The kernel has the tables, unchanged since they were loaded from the text. */
  intact: boolean;
  present: boolean;
  /** Another version of eniboot has loaded them, and they are unchanged since. */
  ofVersion?: string;
  /** What their counters have counted. */
  counted: Counted;
}

/** By name of the counter. */
type Counted = Map<string, { packets: number; bytes: number }>;

/**
 * Compares the kernel's tables with a planned text. nft prints a table in another form than it was written
 * in, so the form it had right after it was loaded is kept beside the text, and both must match.
 */
export async function compareTables(text: string): Promise<TableState> {
  const answers = await ask('list table');
  if (answers === undefined) return { intact: false, present: false, counted: new Map() };
  const [applied, counted] = [readApplied(), countersIn(answers)];
  const unchanged = applied?.listing === canonical(answers);
  if (unchanged && applied.text === text) return { intact: true, present: true, counted };
  const ofVersion = unchanged && applied.version !== version().version ? applied.version : undefined;
  return { intact: false, present: true, counted, ...(ofVersion === undefined ? {} : { ofVersion }) };
}

/**
 * Each chain, set and map of the tables as they were loaded, and whether the kernel still has it so. Empty when nothing is
 * known to have been loaded in this boot.
 */
export async function compareObjects(): Promise<Map<string, 'present' | 'missing' | 'wrong'>> {
  const wanted = objectsOf(readApplied()?.listing ?? '[]');
  const found = objectsOf((await listTables()) ?? '[]');
  return new Map(
    [...wanted].map(([name, content]) => {
      const there = found.get(name);
      return [name, there === undefined ? 'missing' : there === content ? 'present' : 'wrong'];
    }),
  );
}

/**
 * What a set or map of the table says of an address: for a map its verdict, for a set an empty text; undefined when the
 * address is in none of its intervals.
 */
export async function lookUp(name: string, address: string): Promise<string | undefined> {
  const result = await run('nft', ['get', 'element', 'inet', NFT_TABLE, name, `{ ${address} }`]);
  if (!succeeded(result)) return undefined;
  const [, element = ''] = /elements = \{ ([^}]*)\}/.exec(result.stdout) ?? [];
  const [, verdict = ''] = element.split(' : ');
  return verdict.trim();
}

/**
 * Replaces the tables in one transaction: packets see the old ones or the new ones. Counters go on from where they are.
 * @throws KERNEL_NO_EGRESS_HOOK where they are loaded for the first time, NFT_FAILED
 */
export async function replaceTables(text: string, { present, counted }: TableState): Promise<void> {
  const emptied = NODE_TABLES.map((family) => emptying(family));
  const body = text.replace(/counter (\w+) \{ \}/g, (declaration, name: string) => {
    const { packets, bytes } = counted.get(name) ?? { packets: 0, bytes: 0 };
    return packets === 0 ? declaration : `counter ${name} { packets ${packets} bytes ${bytes} }`;
  });
  // A node without pod ENIs has no chain there yet: whether it could have one is tried with the rest.
  const tried = present ? '' : `${EGRESS_HOOK}${emptying('netdev', `${NFT_TABLE}_probe`)}`;
  try {
    await must('NFT_FAILED', 'nft', ['-f', '-'], { input: `${tried}${emptied.join('')}${body}` });
  } catch (error) {
    if (!present && !(await hasEgressHook()))
      throw new Failure(
        'KERNEL_NO_EGRESS_HOOK',
        'the kernel has no egress hook for nftables, without which pods could send as anybody',
        { kernel: release() },
      );
    throw error;
  }
  const applied = { version: version().version, text, listing: await listTables() };
  writeAtomic(APPLIED, JSON.stringify(applied), 0o600);
}

/** A table that is not there afterwards. Declared first, since nft before 1.0.8 knows no `destroy`. */
function emptying(family: string, name = NFT_TABLE): string {
  return `table ${family} ${name}\ndelete table ${family} ${name}\n`;
}

/** By which frames are looked at as they leave a device (Linux 5.16, CONFIG_NETFILTER_EGRESS). */
const EGRESS_HOOK = `table netdev ${NFT_TABLE}_probe {
  chain probe { type filter hook egress device "lo" priority 0; }
}
`;

async function hasEgressHook(): Promise<boolean> {
  const result = await run('nft', ['--check', '-f', '-'], { input: EGRESS_HOOK });
  return !/not supported/i.test(result.stderr);
}

/** Takes a table away that another version of eniboot does not keep; one that is not there is none. */
export async function removeTable(family: string): Promise<void> {
  await must('NFT_FAILED', 'nft', ['-f', '-'], { input: emptying(family) });
}

/** What the named counters of our tables have counted since boot; empty where there are none. */
export async function readCounters(): Promise<Counted> {
  return countersIn((await ask('list counters table')) ?? '');
}

function countersIn(answers: string): Counted {
  const counts: Counted = new Map();
  for (const { counter } of entriesOf(answers)) {
    const { name, packets, bytes } = (counter ?? {}) as Record<string, unknown>;
    if (typeof name === 'string') counts.set(name, { packets: Number(packets), bytes: Number(bytes) });
  }
  return counts;
}

/** Undefined where one of the tables is not there. */
async function listTables(): Promise<string | undefined> {
  const listings = await ask('list table');
  return listings === undefined ? undefined : canonical(listings);
}

/**
 * The answers for both tables; undefined where one is not there. Asked one by one: nft 1.0.6 does not find the first
 * table of two that one call names.
 */
async function ask(question: string): Promise<string | undefined> {
  const answers = await Promise.all(
    NODE_TABLES.map(async (family) => {
      const args = [...question.split(' '), family, NFT_TABLE];
      const result = await run('nft', ['-j', ...args]);
      if (succeeded(result)) return result.stdout;
      if (result.stderr.includes('No such file or directory')) return undefined;
      const said = result.stderr.trim();
      const why = `${endingOf(result)}${said === '' ? '' : `: ${said}`}`;
      throw notRun(result) ?? new Failure('NFT_FAILED', `nft ${args.join(' ')}: ${why}`, { stderr: said });
    }),
  );
  return answers.includes(undefined) ? undefined : answers.join('\n');
}

function readApplied(): Applied | undefined {
  return (readJsonIfPresent(APPLIED) as Applied | null | undefined) ?? undefined;
}
