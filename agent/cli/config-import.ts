// `eniboot config import`: converts a conflist of the Lyft CNI into an eniboot configuration.

import type { Imported } from '../config/lyft.ts';
import type { ConfigProblem } from '../config/problem.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { bounds } from '../port/bounds.ts';
import { parse } from './arguments.ts';
import type { CommandIo } from './command.ts';
import { readInputFile } from './named-files.ts';

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
  if (values.cluster === undefined)
    throw new Failure(
      'USAGE',
      'eniboot config import: --cluster NAME is missing: a conflist does not name it',
    );
  const subnets = (values.subnets ?? '').split(',').filter((id) => id !== '');
  const content = Buffer.from(readInputFile(file, bounds.documentBytes)).toString('utf8');
  let imported: Imported;
  try {
    const { importLyft } = await import('../config/lyft.ts');
    imported = importLyft(file, content, { cluster: values.cluster, subnets });
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
