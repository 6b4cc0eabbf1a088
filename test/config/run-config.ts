// `eniboot config` as a process of its own, for tests that need one.
import { configCommand } from '../../agent/cli/config.ts';
import { isFailure } from '../../agent/messages/failure.ts';

try {
  process.exitCode = await configCommand.run(process.argv.slice(2), {
    stdout: (text) => process.stdout.write(text),
    stderr: (text) => process.stderr.write(text),
    isTTY: false,
  });
} catch (error) {
  if (!isFailure(error)) throw error;
  process.stderr.write(`${error.code}: ${error.message}\n`);
  process.exitCode = 1;
}
