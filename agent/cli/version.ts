import { version } from '../port/runtime.ts';
import { parse } from './arguments.ts';
import type { Command } from './command.ts';

export const versionCommand: Command = {
  help: `Usage: eniboot version [--json]

Version and commit of this executable.

Exit codes: 0 shown; 2 wrong usage.
`,
  async run(args, io) {
    const { values } = parse('version', args, { json: { type: 'boolean' } });
    const running = version();
    io.stdout(
      values.json === true
        ? `${JSON.stringify(running)}\n`
        : `eniboot ${running.version} (${running.commit})\n`,
    );
    return 0;
  },
};
