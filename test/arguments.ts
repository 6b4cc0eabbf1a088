// Arguments of this repository's commands: switches, texts, choices and whole numbers. Help and wrong usage end here.
import { type ParseArgsConfig, parseArgs } from 'node:util';

/** A whole number's range; the least is 1 by default. */
interface Numbers {
  least?: number;
  most?: number;
}

type Kind = 'switch' | 'text' | readonly string[] | Numbers;

type Value<K extends Kind> = K extends 'switch'
  ? boolean
  : K extends 'text'
    ? string | undefined
    : K extends readonly string[]
      ? K[number] | undefined
      : number | undefined;

/**
 * This process's arguments, `undefined` for one that was not given. `--help` prints the help and ends the process with 0; a wrong
 * argument is told on stderr with the help, and ends it with 2.
 */
export function readArguments<const Kinds extends Record<string, Kind>>(
  help: string,
  kinds: Kinds,
): { [Name in keyof Kinds]: Value<Kinds[Name]> } {
  try {
    const options: NonNullable<ParseArgsConfig['options']> = { help: { type: 'boolean' } };
    for (const [name, kind] of Object.entries(kinds))
      options[name] = { type: kind === 'switch' ? 'boolean' : 'string' };
    const values: Record<string, unknown> = parseArgs({ options }).values;
    if (values['help'] === true) {
      process.stdout.write(help);
      process.exit(0);
    }
    return Object.fromEntries(
      Object.entries(kinds).map(([name, kind]) => [name, valueOf(name, kind, values[name])]),
    ) as { [Name in keyof Kinds]: Value<Kinds[Name]> };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${help}`);
    process.exit(2);
  }
}

function valueOf(name: string, kind: Kind, given: unknown): boolean | string | number | undefined {
  if (kind === 'switch') return given === true;
  if (typeof given !== 'string' || kind === 'text') return given as string | undefined;
  if ('map' in kind) {
    if (kind.includes(given)) return given;
    throw new Error(`--${name} is one of ${kind.join(', ')}, not ${given}`);
  }
  const { least = 1, most = Number.MAX_SAFE_INTEGER } = kind as Numbers;
  const number = Number(given);
  if (given.trim() !== '' && Number.isInteger(number) && number >= least && number <= most) return number;
  const range = most === Number.MAX_SAFE_INTEGER ? `from ${least} on` : `from ${least} to ${most}`;
  throw new Error(`--${name} is a whole number ${range}, not ${given}`);
}
