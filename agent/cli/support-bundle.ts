import { createHash } from 'node:crypto';
import { cloudEvidence, configEvidence } from '../boot/checks/cloud.ts';
import { readStatus } from '../boot/verdict/status.ts';
import { STATE_DIR } from '../host/names.ts';
import { tarGz } from '../host/support/archive.ts';
import { collectEvidence, type Part } from '../host/support/evidence.ts';
import { Failure, messageOf } from '../messages/failure.ts';
import { redact } from '../messages/redact.ts';
import { systemClock } from '../port/clock.ts';
import { hasCode, isThere, makeFolder, readIfPresent, writeNew } from '../port/fs.ts';
import { INTERRUPTED, interruption, requireRoot, version } from '../port/runtime.ts';
import { parse } from './arguments.ts';
import { checkNode } from './check.ts';
import type { Command, CommandIo } from './command.ts';
import { requireWritable } from './named-files.ts';
import { table } from './table.ts';

const FOLDER = `${STATE_DIR}/support`;
/** Bytes that are kept of a part, from its end. All parts together stay below 20 MB before compression. */
const JOURNAL_LIMIT = 3_000_000;
const PART_LIMIT = 400_000;

const help = `Usage: eniboot support-bundle [--output FILE] [--json]

Collects what is needed to understand this node without logging in, into one .tar.gz of text files, at most 20 MB:
status and checks, the configuration, journal of eniboot, kubelet and the runtime, kernel log, links, addresses, rules,
routes, nftables, sysctls, the address pool, what IMDS and EC2 say, versions, and MANIFEST.json with the SHA-256 of each
file. Changes nothing. Takes seconds, up to a minute when IMDS or EC2 do not answer.

Left out or taken out: credentials, tokens, keys, passwords, user data, environments, process arguments. The manifest says
how often something was taken out of each file. Names, addresses and IDs of your network stay: look through the bundle
before you send it.

  --output FILE   a file that does not exist yet; default ${FOLDER}/eniboot-<instance>-<time>.tar.gz
  --json          one object: { "file", "bytes", "sha256", "parts": [ { "name", "sha256", "bytes", … } ] }

The file is readable by root alone, and appears complete or not at all. Ctrl-C leaves nothing.

Exit codes: 0 written; 1 not written, with a code; 2 wrong usage; ${INTERRUPTED} interrupted.
`;

export const supportBundleCommand: Command = {
  help,
  async run(args, io) {
    const { values } = parse('support-bundle', args, {
      output: { type: 'string' },
      json: { type: 'boolean' },
    });
    requireRoot('support-bundle');
    if (values.output !== undefined) {
      // Checked before the collection, which may take a minute.
      if (isThere(values.output)) throw existsAlready(values.output);
      requireWritable(values.output);
    }
    const stopped = interruption();
    const say = values.json === true ? () => {} : progress(io);
    const interrupted = new Promise<undefined>((resolve) => {
      stopped.addEventListener('abort', () => resolve(undefined), { once: true });
    });
    const parts = await Promise.race([collect(stopped, say), interrupted]);
    say('');
    if (parts === undefined || stopped.aborted) {
      io.stderr('eniboot: interrupted; nothing was written\n');
      return INTERRUPTED;
    }
    const now = systemClock.now();
    const made = pack(parts, now);
    const file = values.output ?? defaultFile(now);
    save(file, made.bytes, values.output === undefined);
    const sha256 = digest(made.bytes);
    if (values.json === true) {
      io.stdout(`${JSON.stringify({ file, bytes: made.bytes.length, sha256, parts: made.entries })}\n`);
      return 0;
    }
    const problems = made.entries.filter((entry) => entry.problem !== undefined);
    if (problems.length > 0)
      io.stdout(table(problems.map(({ name, problem }) => [`  ${name}`, problem ?? ''])));
    const removed = made.entries.reduce((sum, entry) => sum + entry.removed, 0);
    io.stdout(
      `${file}\n${(made.bytes.length / 1e6).toFixed(1)} MB, ${made.entries.length} files, ${removed} secrets or likely secrets taken out, sha256 ${sha256}\n`,
    );
    return 0;
  },
};

type Say = (what: string) => void;

async function collect(stopped: AbortSignal, say: Say): Promise<Part[]> {
  const parts = await collectEvidence(stopped, say);
  say('IMDS, EC2 and checks, up to 20 s');
  const [cloud, config, checks] = await Promise.all([
    cloudEvidence(),
    configEvidence(),
    checkNode().catch((error: unknown) => ({ failure: String(error) })),
  ]);
  return [
    ...parts,
    { name: 'cloud.json', text: json(cloud) },
    { name: 'config.json', text: json(config) },
    { name: 'checks.json', text: json(checks) },
    { name: 'version.json', text: json(version()) },
  ];
}

interface Entry {
  name: string;
  sha256: string;
  bytes: number;
  /** Number of secrets, or likely secrets, taken out. */
  removed: number;
  /** Bytes by which the file is shorter than its source. */
  cut: number;
  problem?: string;
}

function pack(parts: Part[], now: Date): { bytes: Uint8Array; entries: Entry[] } {
  const files = parts.map((part) => {
    const limit = part.name.startsWith('journal-') ? JOURNAL_LIMIT : PART_LIMIT;
    const { text, removed } = redact(endOf(part.text, 2 * limit));
    const bytes = Buffer.from(text).subarray(-limit);
    return { part, removed, cut: Math.max(0, Buffer.byteLength(part.text) - bytes.length), bytes };
  });
  const entries = files.map(
    ({ part, removed, cut, bytes }): Entry => ({
      name: part.name,
      sha256: digest(bytes),
      bytes: bytes.length,
      removed,
      cut,
      ...(part.problem === undefined ? {} : { problem: redact(part.problem).text }),
    }),
  );
  const manifest = { format: 1, created: now.toISOString(), eniboot: version(), files: entries };
  const all = [
    { name: 'MANIFEST.json', bytes: Buffer.from(json(manifest)) },
    ...files.map(({ part, bytes }) => ({ name: part.name, bytes })),
  ];
  return { bytes: tarGz(all, Math.floor(now.getTime() / 1000)), entries };
}

/** At most `limit` characters from the end of a text. A line of which the beginning would be missing could be the rest of a secret. */
export function endOf(text: string, limit: number): string {
  if (text.length <= limit) return text;
  const newline = text.indexOf('\n', text.length - limit - 1);
  return newline === -1 ? '' : text.slice(newline + 1);
}

function defaultFile(now: Date): string {
  const name = readStatus()?.instance?.id ?? readIfPresent('/proc/sys/kernel/hostname')?.trim() ?? 'node';
  // With milliseconds, so that two bundles of one second have different names.
  const stamp = now.toISOString().replace(/[-:.]/g, '');
  return `${FOLDER}/eniboot-${name.replace(/[^\w.-]/g, '_')}-${stamp}.tar.gz`;
}

function existsAlready(file: string): Failure {
  return new Failure('USAGE', `eniboot support-bundle: ${file} exists already; it is not overwritten`);
}

function save(file: string, bytes: Uint8Array, ownFolder: boolean): void {
  try {
    if (ownFolder) makeFolder(FOLDER, 0o700);
    writeNew(file, bytes, 0o600);
  } catch (error) {
    if (hasCode(error, 'EEXIST')) throw existsAlready(file);
    throw new Failure('FILE_WRITE', messageOf(error), { file }, error);
  }
}

/** On a terminal one line that changes; elsewhere one line for each step. An empty text clears the line. */
function progress(io: CommandIo): Say {
  return (what) => {
    if (io.isTTY) io.stdout(what === '' ? '\r\u001b[K' : `\r\u001b[K  collecting ${what} …`);
    else if (what !== '') io.stdout(`collecting ${what}\n`);
  };
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function json(value: unknown): string {
  return `${JSON.stringify(value ?? null, null, 2)}\n`;
}
