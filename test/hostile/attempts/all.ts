// Attacks of hostile pods, and traffic that has to work: one attempt in a line. The line has the means that refuses it, or why it is open.
import type { Attempt, Field } from '../attempt.ts';
import { link } from './link.ts';
import { metadata } from './metadata.ts';
import { ordinary } from './ordinary.ts';
import { sources } from './sources.ts';
import { strays } from './strays.ts';

export function attempts(field: Field): Attempt[] {
  return [ordinary, metadata, sources, strays, link].flatMap((part) => part(field));
}
