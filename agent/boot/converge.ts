// Rounds: a phase observes, plans and applies until nothing is left to change. Each next step depends on EC2's answer, so an
// attachment cannot be planned in one go; `eniboot plan` shows the first round.
import { apply } from './apply.ts';
import { type Change, nameOf } from './change.ts';
import type { Context } from './context.ts';
import type { Phase } from './phase.ts';

/** More rounds than any phase needs, even when EC2 gives fewer addresses than asked and one ENI after another is added. */
const ROUNDS = 8;

/**
 * Returns the last observation: evidence, and the facts for later phases. A change that is still wanted after it was made is
 * not made again; the judgement of the observation says what became of it.
 *
 * @param planned is told each round's changes before they are made
 */
export async function converge<Observed>(
  phase: Phase<Observed>,
  context: Context,
  planned: (changes: readonly Change[]) => void = () => {},
): Promise<Observed> {
  const made = new Set<string>();
  for (let round = 1; ; round += 1) {
    const observed = await phase.observe();
    const changes = (phase.plan?.(observed) ?? []).filter((change) => !made.has(nameOf(change)));
    if (changes.length === 0 || round > ROUNDS) return observed;
    planned(changes);
    for (const change of changes) made.add(nameOf(change));
    await apply(changes, context);
  }
}
