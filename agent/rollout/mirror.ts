// What happened, on this machine's disk too: for the report, and for whoever has no access to AWS at that moment. The
// record in Parameter Store is what counts.
import { appendFileSync } from 'node:fs';
import { makeFolder, readIfPresent, writeAtomic } from '../port/fs.ts';
import { environment } from '../port/runtime.ts';
import type { Happening } from './orchestrate.ts';
import type { Progress, Rollout } from './progress.ts';

export type Event = Happening & { atMs: number };

export interface Mirror {
  note(happening: Happening, progress: Progress, atMs: number): Event;
}

/**
 * A folder of its own for each rollout, below the user's state directory. A disk that is full, or that may not be written
 * to, costs the events and not the rollout: `warn` is told once.
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
      const reason = error instanceof Error ? error.message : String(error);
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

/** Events noted on this machine, in order; none when it ran elsewhere. A line cut by a crash is passed over. */
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
  const state = environment('XDG_STATE_HOME') ?? `${environment('HOME') ?? '/root'}/.local/state`;
  return `${state}/eniboot/rollouts/${id}`;
}
