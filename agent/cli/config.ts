import { parseArgs } from 'node:util';
import type { LoadedConfig } from '../config/load.ts';
import type { ConfigProblem } from '../config/problem.ts';
import type { ConfigSource } from '../config/source.ts';
import type { Path } from '../config/tree.ts';
import { isFailure } from '../messages/failure.ts';
import type { Command, CommandIo } from './command.ts';

const help = `Usage: eniboot config check [FILE…] [--json]
       eniboot config show [FILE…] [--json]
       eniboot config schema

check   Reads the configuration as a boot would and lists everything wrong with it: file, line, path, value, and
        what to write instead. Changes nothing, needs neither AWS nor root: it also runs on a laptop and in CI.
show    Prints the configuration in effect, defaults included, and where each value comes from.
schema  Prints the JSON Schema (draft 7), for editors and other tools.

FILE…   Files instead of /etc/eniboot/config.yaml and /etc/eniboot/config.d/*.yaml; a later one wins. A file of
        user data (MIME, gzip, base64, #eniboot-config) is taken apart first.
--json  One object on standard output.

The user data of the running instance is not read here; save it to a file and name that last.

  eniboot config check base.yaml user-data.txt
  eniboot config show | grep -v default
  eniboot config schema > eniboot.schema.json

Exit codes: 0 valid; 1 refused, or there is none; 2 wrong usage.
`;

export const configCommand: Command = {
  name: 'config',
  summary: 'check and show the configuration, print its schema',
  help,
  run,
};

async function run(args: string[], io: CommandIo): Promise<number> {
  const asked = parse(args);
  if (typeof asked === 'string') {
    io.stderr(`eniboot config: ${asked}\n${help.split('\n\n', 1)[0]}\n`);
    return 2;
  }
  if (asked.verb === 'schema') {
    const { configJsonSchema } = await import('../config/json-schema.ts');
    io.stdout(`${JSON.stringify(configJsonSchema(), null, 2)}\n`);
    return 0;
  }
  const read = await load(asked.files);
  if ('problems' in read) {
    if (asked.json) io.stdout(`${JSON.stringify(invalidReport(asked.verb, read.problems))}\n`);
    else if (asked.verb === 'show') io.stderr(describeProblems(read.problems, 'error', false));
    else io.stdout(describeProblems(read.problems, 'error', io.isTTY));
    return 1;
  }
  const { loaded, sources } = read;
  if (asked.verb === 'show') {
    const { pathText } = await import('../config/tree.ts');
    io.stdout(asked.json ? `${JSON.stringify(showReport(loaded))}\n` : showTable(loaded, pathText));
    return 0;
  }
  if (asked.json) {
    io.stdout(`${JSON.stringify({ valid: true, problems: [], warnings: loaded.warnings })}\n`);
    return 0;
  }
  if (loaded.warnings.length > 0) io.stdout(describeProblems(loaded.warnings, 'warning', io.isTTY));
  io.stdout(`valid: ${sources.join(', ')}\n`);
  return 0;
}

interface Asked {
  verb: 'check' | 'show' | 'schema';
  files: string[];
  json: boolean;
}

function parse(args: string[]): Asked | string {
  try {
    const { values, positionals } = parseArgs({
      args,
      options: { json: { type: 'boolean', default: false } },
      allowPositionals: true,
    });
    const [verb, ...files] = positionals;
    if (verb === undefined) return 'check, show or schema is missing';
    if (verb !== 'check' && verb !== 'show' && verb !== 'schema') {
      return `${JSON.stringify(verb)} is none of check, show, schema`;
    }
    if (verb === 'schema' && files.length > 0) return 'schema takes no file';
    return { verb, files, json: values.json };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Loading is lazy: the YAML parser and the schema cost more than the rest of the command line. */
async function load(
  files: string[],
): Promise<{ loaded: LoadedConfig; sources: string[] } | { problems: ConfigProblem[] }> {
  const { loadConfig } = await import('../config/load.ts');
  const { readConfigSources, readFileSources } = await import('../config/sources.ts');
  const sources: ConfigSource[] = files.length === 0 ? readConfigSources() : files.flatMap(readFileSources);
  try {
    return { loaded: loadConfig(sources), sources: sources.map((source) => source.name) };
  } catch (error) {
    if (isFailure(error, 'CONFIG_INVALID')) return { problems: error.facts['problems'] as ConfigProblem[] };
    throw error;
  }
}

function invalidReport(verb: Asked['verb'], problems: ConfigProblem[]): object {
  return { ...(verb === 'check' ? { valid: false } : {}), problems, warnings: [] };
}

function showReport(loaded: LoadedConfig): object {
  return {
    config: loaded.config,
    origins: Object.fromEntries(loaded.origins),
    warnings: loaded.warnings,
  };
}

/** One row for each value: path, value in JSON, origin. */
function showTable(loaded: LoadedConfig, pathText: (path: Path) => string): string {
  const rows = leavesOf(loaded.config, []).map(([path, value]) => {
    const text = pathText(path);
    return [text, JSON.stringify(value), loaded.origins.get(text) ?? 'default'];
  });
  const widths = [0, 1].map((column) =>
    Math.min(60, Math.max(...rows.map((row) => row[column]?.length ?? 0))),
  );
  return rows
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '))
    .map((line) => `${line.trimEnd()}\n`)
    .join('');
}

function leavesOf(value: unknown, path: Path): [Path, unknown][] {
  if (value === undefined) return [];
  if (typeof value !== 'object' || value === null) return [[path, value]];
  const inner = Array.isArray(value)
    ? value.map((item, index) => [index, item] as const)
    : Object.entries(value);
  if (inner.length === 0) return [[path, value]];
  return inner.flatMap(([part, item]) => leavesOf(item, [...path, part]));
}

function describeProblems(problems: ConfigProblem[], level: 'error' | 'warning', colour: boolean): string {
  const escape = level === 'error' ? '\u001b[31m' : '\u001b[33m';
  const mark = colour ? `${escape}${level}\u001b[0m` : level;
  const texts = problems.map((problem) => {
    const where = problem.line === 0 ? problem.source : `${problem.source}:${problem.line}:${problem.column}`;
    const what = problem.path === '' ? 'the document' : problem.path;
    const facts = [
      ...(problem.value === undefined ? [] : [`  value   ${problem.value}\n`]),
      ...(problem.suggestion === undefined ? [] : [`  meant   ${problem.suggestion}\n`]),
      `  remedy  ${problem.remedy}\n`,
    ];
    return `${where}: ${mark}: ${what} ${problem.problem}\n${facts.join('')}`;
  });
  return `${texts.join('\n')}\n${problems.length} ${level}${problems.length === 1 ? '' : 's'}\n`;
}
