// What a self-test looks at: the running machine, or an image mounted somewhere, whose files alone can be looked at.
import { lstatSync, statfsSync } from 'node:fs';
import { normalize } from 'node:path';
import { systemClock } from '../port/clock.ts';
import { run } from '../port/exec.ts';
import type { ExecResult } from '../port/exec-result.ts';
import { linkIfPresent, listIfPresent, readIfPresent } from '../port/fs.ts';

export interface Machine {
  /** The folder that is `/` of what is looked at: empty for the running machine. */
  root: string;
  /** False for files alone. */
  running: boolean;
  /** When its first program began, in milliseconds since 1970. 0 for files alone, of which nobody knows. */
  since: number;
  run(file: string, args: string[]): Promise<ExecResult>;
  /** Waits for what reacts to a change a moment later. */
  pause(ms: number): Promise<void>;
  /** What ordinary processes may still write to the root file system. */
  free(): { mebibytes: number; inodesPercent: number };
}

/** A unit graph of a whole system takes systemd-analyze seconds on a small instance. */
const TOOL_MS = 60_000;

export function machineAt(root: string): Machine {
  return {
    root: root === '' ? '' : normalize(root).replace(/\/$/, ''),
    running: root === '',
    since: root === '' ? beginOfFirstProgram() : 0,
    run: (file, args) => run(file, args, { timeoutMs: TOOL_MS }),
    pause: (ms) => systemClock.sleep(ms),
    free: () => {
      const { bavail, bsize, ffree, files } = statfsSync(root === '' ? '/' : root);
      // btrfs counts no inodes.
      return {
        mebibytes: Math.floor((bavail * bsize) / 1024 ** 2),
        inodesPercent: files === 0 ? 100 : Math.floor((ffree / files) * 100),
      };
    },
  };
}

/** Of process 1, which is the kernel's own start but for a moment. Source: proc_pid_stat(5), proc_stat(5); ticks are 100 Hz. */
function beginOfFirstProgram(): number {
  const boot = Number(/^btime (\d+)$/m.exec(readIfPresent('/proc/stat') ?? '')?.[1] ?? 0);
  // The second field is a name in brackets, and may hold anything.
  const fields = (readIfPresent('/proc/1/stat') ?? '').replace(/^.*\) /s, '').split(' ');
  return (boot + Number(fields[19] ?? 0) / 100) * 1000;
}

/** The text of a file of it; undefined when there is none. */
export function textOf({ root }: Machine, path: string): string | undefined {
  return readIfPresent(`${root}${path}`);
}

/** Names in a folder of it, sorted; an absent folder, or none at all, is empty. */
export function namesIn({ root }: Machine, path: string): string[] {
  return listIfPresent(`${root}${path}`);
}

/** Files of it below a folder that hold anything, links not followed; an absent folder has none. */
export function filesIn(machine: Machine, path: string): string[] {
  return namesIn(machine, path).flatMap((name) => {
    const below = `${path}/${name}`;
    const status = lstatSync(`${machine.root}${below}`);
    if (status.isDirectory()) return filesIn(machine, below);
    return status.isFile() && status.size > 0 ? [below] : [];
  });
}

/** Where a link of it points; undefined for anything else. Never followed: in a mounted image it would lead out of it. */
export function linkOf({ root }: Machine, path: string): string | undefined {
  return linkIfPresent(`${root}${path}`);
}
