// nftables: the node's own tables, which are replaced in one transaction and compared with the kernel's listing.
import { release } from 'node:os';
import { Failure } from '../messages/failure.ts';
import { run } from '../port/exec.ts';
import { succeeded } from '../port/exec-result.ts';
import { readJsonIfPresent, writeAtomic } from '../port/fs.ts';
import { version } from '../port/runtime.ts';
import { commandFailed, must } from './command.ts';
import { NFT_TABLE, NODE_TABLES, RUN_DIR } from './names.ts';
import { canonical, entriesOf, objectsOf } from './nft-listing.ts';

/** The file that holds the text of the tables and the kernel's listing of them right after they were loaded. */
const APPLIED = `${RUN_DIR}/egress.json`;

interface Applied {
  /** The version of eniboot that loaded them. */
  version: string;
  text: string;
  listing: string;
}

export interface TableState {
  /** The kernel has the tables unchanged since they were loaded from this text. */
  intact: boolean;
  present: boolean;
  /** Another version of eniboot has loaded the tables, and they are unchanged since. */
  ofVersion?: string;
}

/** Values of counters, by name of the counter. */
export type Counted = Map<string, { packets: number; bytes: number }>;

/** The kernel's tables now, and what is known about how they were loaded. */
export interface NodeTables {
  /** In a form that does not depend on the order of the kernel's listing; undefined when one of the tables is not there. */
  listing: string | undefined;
  applied: Applied | undefined;
  counted: Counted;
}

export async function readTables(): Promise<NodeTables> {
  const answers = await ask('list table');
  if (answers === undefined) return { listing: undefined, applied: undefined, counted: new Map() };
  return { listing: canonical(answers), applied: readApplied(), counted: countersIn(answers) };
}

/**
 * Compares the kernel's tables with a planned text. Pure. nft lists a table in another form than that of the text, so
 * the listing right after loading is kept beside the text, and both must match.
 */
export function compareTables({ listing, applied }: NodeTables, text: string): TableState {
  if (listing === undefined) return { intact: false, present: false };
  const unchanged = applied?.listing === listing;
  if (unchanged && applied.text === text) return { intact: true, present: true };
  const ofVersion = unchanged && applied.version !== version().version ? applied.version : undefined;
  return { intact: false, present: true, ...(ofVersion === undefined ? {} : { ofVersion }) };
}

/**
 * Each chain, set and map of the tables as they were loaded, and whether the kernel still has it unchanged. Empty when
 * no tables are known to have been loaded in this boot.
 */
export async function compareObjects(): Promise<Map<string, 'present' | 'missing' | 'wrong'>> {
  const wanted = objectsOf(readApplied()?.listing ?? '[]');
  const found = objectsOf((await readTables()).listing ?? '[]');
  return new Map(
    [...wanted].map(([name, content]) => {
      const there = found.get(name);
      return [name, there === undefined ? 'missing' : there === content ? 'present' : 'wrong'];
    }),
  );
}

/**
 * What a set or map of the table has for an address: a map's verdict, or an empty text for a set; undefined when no
 * interval contains the address.
 */
export async function lookUp(name: string, address: string): Promise<string | undefined> {
  const result = await run('nft', ['get', 'element', 'inet', NFT_TABLE, name, `{ ${address} }`]);
  if (!succeeded(result)) return undefined;
  const [, element = ''] = /elements = \{ ([^}]*)\}/.exec(result.stdout) ?? [];
  const [, verdict = ''] = element.split(' : ');
  return verdict.trim();
}

/**
 * Replaces the tables in one transaction: a packet meets either the old tables or the new ones. Returns them as the kernel lists
 * them right after.
 *
 * @param tables `text` identifies the tables later; `loaded` is the same text with initial values for its counters.
 * @throws KERNEL_NO_EGRESS_HOOK when the tables are loaded for the first time, NFT_FAILED
 */
export async function replaceTables(tables: {
  text: string;
  loaded: string;
  present: boolean;
}): Promise<NodeTables> {
  const { text, loaded, present } = tables;
  const emptied = NODE_TABLES.map((family) => emptying(family));
  // A node without pod ENIs has no chain at the egress hook yet, so the transaction also tests whether the kernel has
  // the hook.
  const tried = present ? '' : `${EGRESS_HOOK}${emptying('netdev', `${NFT_TABLE}_probe`)}`;
  try {
    await must('NFT_FAILED', 'nft', ['-f', '-'], { input: `${tried}${emptied.join('')}${loaded}` });
  } catch (error) {
    if (!present && !(await hasEgressHook()))
      throw new Failure('KERNEL_NO_EGRESS_HOOK', NO_EGRESS_HOOK, { kernel: release() });
    throw error;
  }
  const { listing, counted } = await readTables();
  // Another program can have removed a table again: nothing is known of it then.
  const applied = { version: version().version, text, listing: listing ?? '[]' };
  writeAtomic(APPLIED, JSON.stringify(applied), 0o600);
  return { listing, applied, counted };
}

/** Makes sure that a table does not exist. The table is declared first, since nft before 1.0.8 has no `destroy`. */
function emptying(family: string, name = NFT_TABLE): string {
  return `table ${family} ${name}\ndelete table ${family} ${name}\n`;
}

/** A chain at the hook for frames that leave a device (Linux 5.16, CONFIG_NETFILTER_EGRESS). */
const EGRESS_HOOK = `table netdev ${NFT_TABLE}_probe {
  chain probe { type filter hook egress device "lo" priority 0; }
}
`;

const NO_EGRESS_HOOK =
  'the kernel has no egress hook for nftables, without which pods could send as any other';

async function hasEgressHook(): Promise<boolean> {
  const result = await run('nft', ['--check', '-f', '-'], { input: EGRESS_HOOK });
  return !/not supported/i.test(result.stderr);
}

/** Removes a table that another version of eniboot has made and this version does not use. The table may be gone already. */
export async function removeTable(family: string): Promise<void> {
  await must('NFT_FAILED', 'nft', ['-f', '-'], { input: emptying(family) });
}

/** Values of the named counters of eniboot's tables since boot; empty when there are none. */
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

/**
 * The listings of both tables; undefined when one does not exist. Each table is asked for separately: nft 1.0.6 does
 * not find the first of two tables in one call.
 */
async function ask(question: string): Promise<string | undefined> {
  const answers = await Promise.all(
    NODE_TABLES.map(async (family) => {
      const args = ['-j', ...question.split(' '), family, NFT_TABLE];
      const result = await run('nft', args);
      if (succeeded(result)) return result.stdout;
      if (result.stderr.includes('No such file or directory')) return undefined;
      throw commandFailed('NFT_FAILED', ['nft', ...args], result);
    }),
  );
  return answers.includes(undefined) ? undefined : answers.join('\n');
}

function readApplied(): Applied | undefined {
  return (readJsonIfPresent(APPLIED) as Applied | null | undefined) ?? undefined;
}
