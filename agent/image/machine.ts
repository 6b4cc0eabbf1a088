// The object of a self-test: the running machine, or a mounted image, of which only the files can be looked at.
import { lstatSync, statfsSync } from 'node:fs';
import { normalize } from 'node:path';
import { systemClock } from '../port/clock.ts';
import { run } from '../port/exec.ts';
import type { ExecResult } from '../port/exec-result.ts';
import { linkIfPresent, listIfPresent, readIfPresent } from '../port/fs.ts';

export interface Machine {
  /** The folder that is `/` of the machine: empty for the running machine. */
  root: string;
  /** False for a mounted image. */
  running: boolean;
  /** When the machine's first program began, in milliseconds since 1970. 0 for a mounted image, where it is not known. */
  since: number;
  run(file: string, args: string[]): Promise<ExecResult>;
  /** Waits for programs that react to a change a moment later. */
  pause(ms: number): Promise<void>;
  /** Space that processes without privileges may still use on the root file system. */
  free(): { mebibytes: number; inodesPercent: number };
}

/** Milliseconds: systemd-analyze takes seconds for all units on a small instance. */
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
      // btrfs has no number of inodes.
      return {
        mebibytes: Math.floor((bavail * bsize) / 1024 ** 2),
        inodesPercent: files === 0 ? 100 : Math.floor((ffree / files) * 100),
      };
    },
  };
}

/** The start of process 1, a moment after the kernel's. Source: proc_pid_stat(5), proc_stat(5); ticks are 100 Hz. */
function beginOfFirstProgram(): number {
  const boot = Number(/^btime (\d+)$/m.exec(readIfPresent('/proc/stat') ?? '')?.[1] ?? 0);
  // The second field is a name in brackets, which may contain spaces and brackets.
  const fields = (readIfPresent('/proc/1/stat') ?? '').replace(/^.*\) /s, '').split(' ');
  return (boot + Number(fields[19] ?? 0) / 100) * 1000;
}

/** The text of a file of the machine; undefined when there is none. */
export function textOf({ root }: Machine, path: string): string | undefined {
  return readIfPresent(`${root}${path}`);
}

/** Names in a folder of the machine, sorted; empty when the folder is absent. */
export function namesIn({ root }: Machine, path: string): string[] {
  return listIfPresent(`${root}${path}`);
}

/** Files below a folder of the machine that are not empty; links are not followed; none when the folder is absent. */
export function filesIn(machine: Machine, path: string): string[] {
  return namesIn(machine, path).flatMap((name) => {
    const below = `${path}/${name}`;
    const status = lstatSync(`${machine.root}${below}`);
    if (status.isDirectory()) return filesIn(machine, below);
    return status.isFile() && status.size > 0 ? [below] : [];
  });
}

/**
 * The target of a link of the machine; undefined for anything else. The link is not followed: in a mounted image it would lead
 * out of the image.
 */
export function linkOf({ root }: Machine, path: string): string | undefined {
  return linkIfPresent(`${root}${path}`);
}
