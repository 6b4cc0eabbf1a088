import type { LoadedConfig } from '../config/load.ts';
import type { ConfigProblem } from '../config/problem.ts';
import type { ConfigSource } from '../config/source.ts';
import type { Path } from '../config/tree.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { systemClock } from '../port/clock.ts';
import { parse, verbOf } from './arguments.ts';
import type { Command, CommandIo } from './command.ts';
import { paint, table } from './table.ts';

const help = `Usage: eniboot config check [FILE…] [--user-data FILE] [--json]
       eniboot config show [FILE…] [--user-data FILE] [--json]
       eniboot config schema
       eniboot config import CONFLIST --cluster NAME [--subnets ID,ID…] [--json]

check   Reads the configuration as a boot would and lists all that is wrong with it: file, line, path, value, and
        what to write instead. Changes nothing, needs neither AWS nor root: it also runs on a laptop and in CI.
show    Prints the configuration in effect, defaults included, and where each value comes from.
schema  Prints the JSON Schema (draft 7), for editors and other tools.
import  Converts a conflist of cni-ipvlan-vpc-k8s (the Lyft CNI, also kOps' lyftvpc) into a configuration with the same effect.
        Comments say what was carried over, what needs no key any more, and what has no equivalent; the last also as
        warnings on standard error. The result passes \`config check\`.
          --cluster NAME    the cluster's name, which is not in a conflist
          --subnets ID,ID…  the pod subnets of all zones, where the conflist has no subnetTags
        --json: { "yaml", "config", "notes": [ { "path", "kind", "text" } ], "warnings": [], "problems": [] }

FILE…   Files instead of those of the machine (/etc/eniboot/config.yaml, /etc/eniboot/config.d/*.yaml and the
        instance's user data); a later one wins. A file of user data (MIME, gzip, base64) is unpacked first.
--user-data FILE  Read as a node reads its user data, on top of the FILEs: without #eniboot-config or a part of
        eniboot's type it counts as empty.
--json  One object on standard output.

  eniboot config check base.yaml --user-data user-data.txt
  eniboot config show | grep -v default
  eniboot config schema > eniboot.schema.json
  eniboot config import 10-cni-ipvlan-vpc-k8s.conflist --cluster prod-a > config.yaml

Exit codes: 0 valid, or printed (warnings or not); 1 refused, or there is none; 2 wrong usage.
`;

export const configCommand: Command = {
  help,
  run,
};

async function run(args: string[], io: CommandIo): Promise<number> {
  if (args.find((arg) => !arg.startsWith('-')) === 'import') {
    const { runImport } = await import('./config-import.ts');
    return runImport(args, io, describeProblems);
  }
  const { verb, files, userData, json } = understand(args);
  if (verb === 'schema') {
    const { configJsonSchema } = await import('../config/json-schema.ts');
    io.stdout(`${JSON.stringify(configJsonSchema(), null, 2)}\n`);
    return 0;
  }
  const sources = await sourcesOf(files, userData, io);
  const read = await load(sources);
  if ('problems' in read) {
    if (json) io.stdout(`${JSON.stringify(invalidReport(verb, read.problems))}\n`);
    else if (verb === 'show') io.stderr(describeProblems(read.problems, 'error', false));
    else io.stdout(describeProblems(read.problems, 'error', io.isTTY));
    return 1;
  }
  const { loaded } = read;
  if (verb === 'show') {
    const { pathText } = await import('../config/tree.ts');
    io.stdout(json ? `${JSON.stringify(showReport(loaded))}\n` : showTable(loaded, pathText));
    return 0;
  }
  if (json) {
    io.stdout(`${JSON.stringify({ valid: true, problems: [], warnings: loaded.warnings })}\n`);
    return 0;
  }
  if (loaded.warnings.length > 0) io.stdout(describeProblems(loaded.warnings, 'warning', io.isTTY));
  const names = sources.flatMap((source) => ('content' in source ? [source.name] : []));
  io.stdout(`valid: ${names.join(', ')}\n`);
  return 0;
}

type Verb = 'check' | 'show' | 'schema' | 'import';

interface Understood {
  verb: Verb;
  files: string[];
  userData: string | undefined;
  json: boolean;
}

function understand(args: string[]): Understood {
  const { values, positionals } = parse(
    'config',
    args,
    { json: { type: 'boolean' }, 'user-data': { type: 'string' } },
    Number.POSITIVE_INFINITY,
  );
  const [first, ...files] = positionals;
  const verb = verbOf('config', first, ['check', 'show', 'schema', 'import']);
  const userData = values['user-data'];
  if (verb === 'schema' && (files.length > 0 || userData !== undefined))
    throw new Failure('USAGE', 'eniboot config: schema takes no file');
  return { verb, files, userData, json: values.json === true };
}

/** What a boot would read, or the named files. */
async function sourcesOf(
  files: string[],
  userDataFile: string | undefined,
  io: CommandIo,
): Promise<ConfigSource[]> {
  const { readConfigSources, readFileSources } = await import('../config/sources.ts');
  if (files.length > 0 || userDataFile !== undefined) {
    return [
      ...files.flatMap((path) => readFileSources(path)),
      ...(userDataFile === undefined ? [] : readFileSources(userDataFile, true)),
    ];
  }
  const { createImds } = await import('../aws/imds.ts');
  try {
    // One attempt: outside of EC2 there is no answer.
    const userData = await createImds(systemClock, () => 0).readBytes('user-data');
    return readConfigSources(userData === undefined ? {} : { userData });
  } catch (error) {
    if (!isFailure(error)) throw error;
    io.stderr(`note: the user data was not read, a boot would read it too (${error.message})\n`);
    return readConfigSources();
  }
}

/** The YAML parser and the schema take longer to load than the rest of the command line: they are loaded when needed. */
async function load(
  sources: ConfigSource[],
): Promise<{ loaded: LoadedConfig } | { problems: ConfigProblem[] }> {
  const { loadConfig } = await import('../config/load.ts');
  try {
    return { loaded: loadConfig(sources) };
  } catch (error) {
    if (isFailure(error, 'CONFIG_INVALID')) return { problems: error.facts['problems'] as ConfigProblem[] };
    throw error;
  }
}

function invalidReport(verb: Verb, problems: ConfigProblem[]): object {
  return { ...(verb === 'check' ? { valid: false } : {}), problems, warnings: [] };
}

function showReport(loaded: LoadedConfig): object {
  return {
    config: loaded.config,
    origins: Object.fromEntries(loaded.origins),
    sources: loaded.held,
    warnings: loaded.warnings,
  };
}

/** One row for each value: path, value in JSON, origin. */
function showTable(loaded: LoadedConfig, pathText: (path: Path) => string): string {
  const rows = leavesOf(loaded.config, []).map(([path, value]) => {
    const text = pathText(path);
    return [text, JSON.stringify(value), loaded.origins.get(text) ?? 'default'];
  });
  return table(rows);
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
  const mark = paint(level === 'error' ? 'red' : 'yellow', level, colour);
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
