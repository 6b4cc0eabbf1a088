// Where a rollout's events go besides the terminal: appended to a file, or piped into a program, one JSON object a line.
import { appendFileSync } from 'node:fs';
import { messageOf } from '../messages/failure.ts';
import { feed } from '../port/feed.ts';
import { requireWritable } from './named-files.ts';

export interface EventSink {
  write(event: object): void;
  /** Resolves when the program has read all events and ended, or after END_MS. */
  end(): Promise<void>;
}

/** Milliseconds to wait for the program's end. */
const END_MS = 10_000;

/** Throws FILE_WRITE where a file cannot be written. */
export function requireSink(target: string): void {
  if (!target.startsWith('|')) requireWritable(target);
}

/**
 * @param target a file, or `|` and a command for `sh -c`.
 * @param warn called once when events are lost; the rollout goes on.
 */
export function openSink(target: string, warn: (text: string) => void): EventSink {
  let lost = false;
  const lose = (reason: string) => {
    if (!lost) warn(`events no longer reach ${target}: ${reason}`);
    lost = true;
  };
  if (!target.startsWith('|')) {
    return {
      write(event) {
        try {
          if (!lost) appendFileSync(target, `${JSON.stringify(event)}\n`, { mode: 0o600 });
        } catch (error) {
          lose(messageOf(error));
        }
      },
      end: async () => {},
    };
  }
  const program = feed('sh', ['-c', target.slice(1)], lose);
  return {
    write: (event) => program.write(JSON.stringify(event)),
    end: () => program.end(END_MS),
  };
}
