// The output as Run Command's lists show it: the SSM agent cuts it on the node, both streams together, in these steps.
// Source: aws/amazon-ssm-agent at 5cbd6346984f, agent/framework/processor/executer/iohandler/iohandler.go (TruncateOutput,
// MaximumPluginOutputSize), agent/plugins/runscript/runscript.go (what a script's failure adds).
import type { ScriptResult } from './managed.ts';

/** Bytes. */
const CAPACITY = 2_500;
const TITLE = '\n----------ERROR-------\n';
const OUTPUT_CUT = '\n---Output truncated---';
const ERROR_CUT = '\n---Error truncated----';

export function shortOutput({ stdout, stderr }: Pick<ScriptResult, 'stdout' | 'stderr'>): string {
  const [output, error] = [Buffer.from(stdout), Buffer.from(stderr)];
  const title = error.length > 0 ? TITLE : '';
  const room = CAPACITY - title.length;
  if (output.length + error.length < room) return `${stdout}${title}${stderr}`;
  const half = Math.floor(room / 2);
  if (output.length > half && error.length > half) {
    const each = Math.floor((room - OUTPUT_CUT.length - ERROR_CUT.length) / 2);
    return `${first(output, each)}${OUTPUT_CUT}${title}${first(error, each)}${ERROR_CUT}`;
  }
  if (output.length < half)
    return `${stdout}${title}${first(error, room - ERROR_CUT.length - output.length)}${ERROR_CUT}`;
  return `${first(output, room - OUTPUT_CUT.length - error.length)}${OUTPUT_CUT}${title}${stderr}`;
}

/** For an exit code other than 0 the agent adds a last line to standard error. */
export function withFailure(result: ScriptResult): ScriptResult {
  if (result.exitCode === 0) return result;
  const said = `failed to run commands: exit status ${result.exitCode}`;
  return { ...result, stderr: result.stderr === '' ? said : `${result.stderr}\n${said}` };
}

/** A character that is cut in two becomes U+FFFD, the replacement character. */
function first(bytes: Buffer, length: number): string {
  return bytes.subarray(0, Math.max(0, length)).toString();
}
