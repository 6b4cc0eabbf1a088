// The command line: finds the command, runs it, and turns every error into one message and an exit code.

import { nearest } from '../config/nearest.ts';
import { Failure } from '../messages/failure.ts';
import { failureOf, stackOf } from '../messages/kinds.ts';
import { redact } from '../messages/redact.ts';
import type { CommandIo } from './command.ts';
import { commands } from './commands.ts';
import { failureObject, failureText } from './failure-text.ts';
import { table } from './table.ts';

/** Exit codes shared by all commands; each command's help names its own. */
const FAILED = 1;
const USAGE = 2;
/** A defect of eniboot: the only exit code after which systemd starts eniboot.service again. */
const DEFECT = 70;

/** Runs `eniboot ARGS`; resolves to the exit code, never rejects. */
export async function main(args: string[], io: CommandIo): Promise<number> {
  const [name, ...rest] = args;
  if (name === 'help' && rest[0] !== undefined) return main([rest[0], '--help'], io);
  try {
    if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
      io.stdout(overview());
      return name === undefined ? USAGE : 0;
    }
    const entry = commands.find((command) => command.name === (name === '--version' ? 'version' : name));
    if (entry === undefined) throw unknown(name);
    const command = await entry.load();
    if (rest.includes('--help') || rest.includes('-h')) {
      io.stdout(command.help);
      return 0;
    }
    return await command.run(rest, io);
  } catch (error) {
    return report(error, rest.includes('--json'), io);
  }
}

function unknown(name: string): Failure {
  const close = nearest(
    name,
    commands.map((command) => command.name),
  );
  return new Failure('USAGE', `no command ${name}${close === undefined ? '' : `; did you mean ${close}?`}`);
}

function report(error: unknown, json: boolean, io: CommandIo): number {
  const failure = failureOf(error);
  if (failure.code === 'INTERNAL') {
    if (json) sayFailure({ code: 'INTERNAL', message: redact(String(error)).text }, io);
    io.stderr(`eniboot: INTERNAL: ${redact(stackOf(error) ?? String(error)).text}\n`);
    return DEFECT;
  }
  if (json) sayFailure(failureObject(failure), io);
  io.stderr(failureText(failureObject(failure), io.isTTY));
  return failure.code === 'USAGE' ? USAGE : FAILED;
}

function sayFailure(failure: object, io: CommandIo): void {
  try {
    io.stdout(`${JSON.stringify({ failure })}\n`);
  } catch {
    // The failure may be a full disk behind standard output: standard error and the exit code still report it.
  }
}

function overview(): string {
  return `eniboot turns an EC2 instance into a Kubernetes node whose pods have VPC addresses.

Usage: eniboot COMMAND [OPTIONS]

${table(commands.map((command) => [`  ${command.name}`, command.summary]))}
\`eniboot COMMAND --help\` explains each; all take --json. Exit codes: 0 good, 1 not good (with a code),
2 wrong usage, 3 no verdict yet (status), 70 a defect of eniboot, 130 interrupted.
`;
}
