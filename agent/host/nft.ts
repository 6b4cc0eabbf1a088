// nftables: one own table, replaced in one transaction and compared with what the kernel made of it.
import { Failure } from '../messages/failure.ts';
import { run } from '../port/exec.ts';
import { succeeded } from '../port/exec-result.ts';
import { readIfPresent, writeAtomic } from '../port/fs.ts';
import { must } from './command.ts';
import { NFT_TABLE, RUN_DIR } from './names.ts';
import { canonical, objectsOf } from './nft-listing.ts';

/** Where the form the kernel gave our table is kept, with the text it was made from. */
const APPLIED = `${RUN_DIR}/egress.json`;

export interface TableState {
  /** The kernel has the table, unchanged since it was loaded from `body`. */
  intact: boolean;
  present: boolean;
}

/**
 * Compares the kernel's table with a planned body. nft prints a table in another form than it was written
 * in, so the form it had right after it was loaded is kept beside the text, and both must match.
 */
export async function compareTable(body: string): Promise<TableState> {
  const listing = await listTable();
  if (listing === undefined) return { intact: false, present: false };
  const applied = readApplied();
  return { intact: applied?.body === body && applied.listing === listing, present: true };
}

/**
 * Each chain, set and map of the table as it was loaded, and whether the kernel still has it so. Empty when nothing is
 * known to have been loaded in this boot.
 */
export async function compareObjects(): Promise<Map<string, 'present' | 'missing' | 'wrong'>> {
  const wanted = objectsOf(readApplied()?.listing ?? '[]');
  const found = objectsOf((await listTable()) ?? '[]');
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
  return /elements = \{ [^:}]*(?:: ([^}]*?))? *\}/.exec(result.stdout)?.[1] ?? '';
}

/** Replaces the whole table in one transaction: packets see the old one or the new one. */
export async function replaceTable(body: string): Promise<void> {
  await must('NFT_FAILED', 'nft', ['-f', '-'], {
    input: `table inet ${NFT_TABLE}\ndelete table inet ${NFT_TABLE}\n${tableText(body)}`,
  });
  writeAtomic(APPLIED, JSON.stringify({ body, listing: await listTable() }), 0o600);
}

async function listTable(): Promise<string | undefined> {
  const result = await run('nft', ['-j', 'list', 'table', 'inet', NFT_TABLE]);
  if (result.missing) throw new Failure('TOOL_MISSING', 'nft is not installed', { tool: 'nft' });
  if (succeeded(result)) return canonical(result.stdout);
  if (result.stderr.includes('No such file or directory')) return undefined;
  throw new Failure('NFT_FAILED', `nft list table inet ${NFT_TABLE}: ${result.stderr.trim()}`, {
    stderr: result.stderr.trim(),
  });
}

function readApplied(): { body: string; listing: string } | undefined {
  try {
    return JSON.parse(readIfPresent(APPLIED) ?? 'null') ?? undefined;
  } catch {
    return undefined;
  }
}

function tableText(body: string): string {
  return `table inet ${NFT_TABLE} {\n${body}}\n`;
}
