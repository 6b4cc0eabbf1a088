/** Where a command writes: the CLI gives it the process's own streams, tests give it strings. */
export interface CommandIo {
  /** Results; with `--json` only the one object. */
  stdout: (text: string) => void;
  /** Progress and messages. */
  stderr: (text: string) => void;
  /** True when stdout is a terminal: colour and redrawn lines are only used there. */
  isTTY: boolean;
  /** Width of that terminal in characters, where it is known. */
  columns?: number | undefined;
}

/** One subcommand of `eniboot`. Its module is loaded only when the subcommand is called. */
export interface Command {
  /** The whole text of `eniboot COMMAND --help`. */
  help: string;
  /** `args`: the arguments after the command's name. Resolves to the exit code; throws Failure for an error with a code. */
  run(args: string[], io: CommandIo): Promise<number>;
}
