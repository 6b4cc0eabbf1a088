import { Failure, type FailureCode } from '../messages/failure.ts';
import { run } from '../port/exec.ts';
import { type ExecOptions, type ExecResult, endingOf, notRun, succeeded } from '../port/exec-result.ts';

/**
 * Runs a host tool that must succeed. A failure carries the command, how it ended and what it said, so that
 * a person can repeat it; a missing tool has a code of its own.
 */
export async function must(
  code: FailureCode,
  file: string,
  args: string[],
  options: ExecOptions = {},
): Promise<ExecResult> {
  const result = await run(file, args, options);
  if (succeeded(result)) return result;
  const none = notRun(result);
  if (none !== undefined) throw none;
  const said = result.stderr.trim().slice(0, 2_000);
  throw new Failure(
    code,
    `${[file, ...args].join(' ')}: ${endingOf(result)}${said === '' ? '' : `: ${said}`}`,
    {
      command: [file, ...args],
      exitCode: result.exitCode,
      stderr: said,
      ...(options.input === undefined ? {} : { input: options.input.slice(0, 4_000) }),
    },
  );
}
