// `eniboot config import`: a conflist of the Lyft CNI as an eniboot configuration.
import { readFileSync } from 'node:fs';
import type { Imported } from '../config/lyft.ts';
import type { ConfigProblem } from '../config/problem.ts';
import { maximumBytes } from '../config/source.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { hasCode } from '../port/fs.ts';
import { parse } from './arguments.ts';
import type { CommandIo } from './command.ts';

type Describe = (problems: ConfigProblem[], level: 'error' | 'warning', colour: boolean) => string;

/** @param describe how `config` shows problems. */
export async function runImport(args: string[], io: CommandIo, describe: Describe): Promise<number> {
  const { values, positionals } = parse(
    'config',
    args,
    { cluster: { type: 'string' }, subnets: { type: 'string' }, json: { type: 'boolean' } },
    2,
  );
  const [, file] = positionals;
  if (file === undefined) throw new Failure('USAGE', 'eniboot config import: which conflist?');
  if (values.cluster === undefined || values.cluster === '')
    throw new Failure(
      'USAGE',
      'eniboot config import: --cluster NAME is missing: a conflist does not say it',
    );
  const subnets = (values.subnets ?? '').split(',').filter((id) => id !== '');
  let imported: Imported;
  try {
    const { importLyft } = await import('../config/lyft.ts');
    imported = importLyft(file, contentOf(file), { cluster: values.cluster, subnets });
  } catch (error) {
    if (!isFailure(error, 'CONFIG_INVALID')) throw error;
    const problems = error.facts['problems'] as ConfigProblem[];
    if (values.json === true) io.stdout(`${JSON.stringify({ problems })}\n`);
    else io.stderr(describe(problems, 'error', false));
    return 1;
  }
  const { yaml, config, notes, warnings } = imported;
  if (values.json === true) io.stdout(`${JSON.stringify({ yaml, config, notes, warnings, problems: [] })}\n`);
  else {
    io.stdout(yaml);
    if (warnings.length > 0) io.stderr(describe(warnings, 'warning', false));
  }
  return 0;
}

/** @throws CONFIG_MISSING, CONFIG_INVALID */
function contentOf(path: string): string {
  try {
    const content = readFileSync(path);
    if (content.length <= maximumBytes) return content.toString('utf8');
  } catch (error) {
    const reason = hasCode(error, 'ENOENT') ? 'is not there' : `cannot be read: ${String(error)}`;
    throw new Failure('CONFIG_MISSING', `${path} ${reason}`, { path });
  }
  throw new Failure('CONFIG_INVALID', `${path} is larger than ${maximumBytes / 1024} KiB`, {
    problems: [
      {
        path: '',
        problem: `is larger than ${maximumBytes / 1024} KiB`,
        remedy: 'Give a conflist; one is rarely larger than 2 KiB.',
        source: path,
        line: 0,
        column: 0,
      } satisfies ConfigProblem,
    ],
  });
}
