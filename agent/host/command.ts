import { Failure, type FailureCode } from '../messages/failure.ts';
import { run } from '../port/exec.ts';
import { type ExecOptions, type ExecResult, endingOf, notRun, succeeded } from '../port/exec-result.ts';

/**
 * Runs a host tool that must succeed. The failure contains the command, how it ended and its output, so that a person
 * can repeat it; for a missing tool the failure has a code of its own.
 */
export async function must(
  code: FailureCode,
  file: string,
  args: string[],
  options: ExecOptions = {},
): Promise<ExecResult> {
  const result = await run(file, args, options);
  if (succeeded(result)) return result;
  throw commandFailed(code, [file, ...args], result, options.input);
}

/** The failure of a command, with how it ended and its output. A command that could not be started has a code of its own. */
export function commandFailed(
  code: FailureCode,
  command: string[],
  result: ExecResult,
  input?: string,
): Failure {
  const none = notRun(result);
  if (none !== undefined) return none;
  const stderr = result.stderr.trim().slice(0, 2_000);
  const message = `${command.join(' ')}: ${endingOf(result)}${stderr === '' ? '' : `: ${stderr}`}`;
  const { exitCode } = result;
  return new Failure(code, message, { command, exitCode, stderr, input: input?.slice(0, 4_000) });
}
