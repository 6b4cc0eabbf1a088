import { type ParseArgsConfig, parseArgs } from 'node:util';
import { Failure } from '../messages/failure.ts';

type Options = NonNullable<ParseArgsConfig['options']>;

/** Options and operands of one command. Throws USAGE, saying what was not understood. */
export function parse<O extends Options>(command: string, args: string[], options: O, operands = 0) {
  try {
    const parsed = parseArgs({ args, options, allowPositionals: true, strict: true });
    if (parsed.positionals.length > operands) {
      throw new Failure('USAGE', `eniboot ${command}: unexpected argument ${parsed.positionals[operands]}`);
    }
    return parsed;
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure(
      'USAGE',
      `eniboot ${command}: ${error instanceof Error ? error.message.split('. ')[0] : String(error)}`,
    );
  }
}
