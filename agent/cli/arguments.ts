import { type ParseArgsConfig, parseArgs } from 'node:util';
import { nearest } from '../config/nearest.ts';
import { Failure } from '../messages/failure.ts';

type Options = NonNullable<ParseArgsConfig['options']>;

/**
 * Options and operands of one command. Throws USAGE, which names what was not understood and the likely meaning. An empty text is
 * refused: in a script it comes from a variable that is not set, and the command would look at something else, or at nothing.
 */
export function parse<O extends Options>(command: string, args: string[], options: O, operands = 0) {
  try {
    const parsed = parseArgs({ args, options, allowPositionals: true, strict: true });
    if (parsed.positionals.length > operands) {
      throw new Failure('USAGE', `eniboot ${command}: unexpected argument ${parsed.positionals[operands]}`);
    }
    const empty = Object.entries(parsed.values).find(([, value]) => [value].flat().includes(''))?.[0];
    if (empty !== undefined) throw new Failure('USAGE', `eniboot ${command}: --${empty} is empty`);
    if (parsed.positionals.includes(''))
      throw new Failure('USAGE', `eniboot ${command}: an argument is empty`);
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

/** The verb of a command with several verbs. Throws USAGE, which lists the verbs or names the likely one. */
export function verbOf<V extends string>(command: string, verb: string | undefined, verbs: readonly V[]): V {
  const found = verbs.find((one) => one === verb);
  if (found !== undefined) return found;
  if (verb === undefined || verb.startsWith('-'))
    throw new Failure('USAGE', `eniboot ${command}: what to do is missing: ${verbs.join(', ')}`);
  const close = nearest(verb, verbs);
  const rest = close === undefined ? `there are ${verbs.join(', ')}` : `did you mean ${close}?`;
  throw new Failure('USAGE', `eniboot ${command}: no ${verb}; ${rest}`);
}

/**
 * As parse, for one verb of a command. `taken` names the options of each verb: an option of another verb is refused, since it
 * would have no effect.
 */
export function parseVerb<O extends Options, V extends string>(
  command: string,
  verb: V,
  args: string[],
  options: O,
  taken: Record<V, readonly (keyof O & string)[]>,
  operands = 0,
) {
  const parsed = parse(`${command} ${verb}`, args, options, operands);
  for (const option of Object.keys(parsed.values)) {
    if (taken[verb].includes(option)) continue;
    const others = (Object.keys(taken) as V[]).filter((one) => taken[one].includes(option));
    throw new Failure('USAGE', `eniboot ${command} ${verb}: --${option} is for ${others.join(', ')}`);
  }
  return parsed;
}

/** An option's value; when it is given it must match the form. `what` describes the form in words. Throws USAGE. */
export function formed<T extends string | undefined>(
  command: string,
  option: string,
  value: T,
  form: RegExp,
  what: string,
): T {
  if (value === undefined || form.test(value)) return value;
  throw new Failure('USAGE', `eniboot ${command}: ${option} ${value} is not ${what}`);
}
