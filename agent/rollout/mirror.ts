// The events of a rollout, also on this machine's disk: for the report, and for an operator who has no access to AWS at that
// moment. The record in Parameter Store is what counts.
import { appendFileSync } from 'node:fs';
import { messageOf } from '../messages/failure.ts';
import { makeFolder, readIfPresent, writeAtomic } from '../port/fs.ts';
import { environment } from '../port/runtime.ts';
import type { Progress, Rollout } from './progress.ts';
import type { RolloutEvent } from './work.ts';

export type Event = RolloutEvent & { atMs: number };

export interface Mirror {
  note(happening: RolloutEvent, progress: Progress, atMs: number): Event;
}

/**
 * One folder for each rollout, below the user's state directory. When the disk is full or not writable, events are lost and the
 * rollout goes on: `warn` is called once.
 */
export function openMirror(rollout: Rollout, warn: (text: string) => void): Mirror {
  const folder = folderOf(rollout.id);
  let broken = false;
  const attempt = (write: () => void) => {
    if (broken) return;
    try {
      write();
    } catch (error) {
      broken = true;
      const reason = messageOf(error);
      warn(`events are no longer noted on this machine: ${reason}`);
    }
  };
  attempt(() => {
    makeFolder(folder, 0o700);
    writeAtomic(`${folder}/rollout.json`, `${JSON.stringify(rollout)}\n`, 0o600);
  });
  return {
    note(happening, progress, atMs) {
      const event = { atMs, ...happening };
      attempt(() => {
        appendFileSync(`${folder}/events.jsonl`, `${JSON.stringify(event)}\n`, { mode: 0o600 });
        if (happening.kind !== 'look')
          writeAtomic(`${folder}/progress.json`, `${JSON.stringify(progress)}\n`, 0o600);
      });
      return event;
    },
  };
}

/**
 * Events noted on this machine, in order; none when the rollout ran on another machine. A line that a crash cut short is
 * skipped.
 */
export function readEvents(id: string): Event[] {
  return (readIfPresent(`${folderOf(id)}/events.jsonl`) ?? '').split('\n').flatMap((line) => {
    try {
      return [JSON.parse(line) as Event];
    } catch {
      return [];
    }
  });
}

function folderOf(id: string): string {
  // An empty variable counts as one that is not set. Source: XDG Base Directory Specification.
  const state = environment('XDG_STATE_HOME') || `${environment('HOME') || '/root'}/.local/state`;
  return `${state}/eniboot/rollouts/${id}`;
}
