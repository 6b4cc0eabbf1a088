// What hostile pods try, and what has to go on: one attempt, one line. What holds it, or why nothing does, stands in its line.
import type { Attempt, Field } from '../attempt.ts';
import { link } from './link.ts';
import { metadata } from './metadata.ts';
import { ordinary } from './ordinary.ts';
import { sources } from './sources.ts';
import { strays } from './strays.ts';

export function attempts(field: Field): Attempt[] {
  return [ordinary, metadata, sources, strays, link].flatMap((part) => part(field));
}
