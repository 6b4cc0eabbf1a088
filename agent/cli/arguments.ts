import { type ParseArgsConfig, parseArgs } from 'node:util';
import { nearest } from '../config/nearest.ts';
import { Failure } from '../messages/failure.ts';

type Options = NonNullable<ParseArgsConfig['options']>;

/** Options and operands of one command. Throws USAGE, saying what was not understood and what was likely meant. */
export function parse<O extends Options>(command: string, args: string[], options: O, operands = 0) {
  try {
    const parsed = parseArgs({ args, options, allowPositionals: true, strict: true });
    if (parsed.positionals.length > operands) {
      throw new Failure('USAGE', `eniboot ${command}: unexpected argument ${parsed.positionals[operands]}`);
    }
    return parsed;
  } catch (error) {
    if (error instanceof Failure) throw error;
    const said = error instanceof Error ? (error.message.split('. ')[0] ?? '') : String(error);
    const unknown = /^Unknown option '--([^']+)'/.exec(said)?.[1];
    const close = unknown === undefined ? undefined : nearest(unknown, Object.keys(options));
    throw new Failure(
      'USAGE',
      `eniboot ${command}: ${said}${close === undefined ? '' : `; did you mean --${close}?`}`,
    );
  }
}
