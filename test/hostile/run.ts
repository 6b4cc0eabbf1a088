// Carries the attempts out on two nodes, first with the guard, then without it, and judges what the witnesses saw.
import { table } from '../../agent/cli/table.ts';
import type { Attempt, Field } from './attempt.ts';
import { attempts } from './attempts/all.ts';
import { attack, CAPABILITIES, type Numbered, type Report } from './crew.ts';
import type { Ground } from './ground.ts';
import { enter, takeGuardAway } from './stages.ts';
import { dismiss, evidenceOf, prepare, testimony, watch } from './witnesses.ts';

export interface Row {
  attempt: string;
  attacker: string;
  family: string;
  expected: string;
  /** What refuses it where the guard is not needed, or why it stays open. */
  because: string;
  seen: string;
  withoutGuard: string;
  ok: boolean;
}

export interface Outcome {
  rows: Row[];
  /** Chains that were removed for the second half; empty when eniboot has no guard. */
  guard: string[];
  /** CapEff of each kind of attacker. */
  capabilities: Record<string, string>;
}

export async function playHostile(ground: Ground, say: (line: string) => void): Promise<Outcome> {
  try {
    await prepare(ground);
    const capabilities: Record<string, string> = {};
    const guarded = await half(ground, 0, capabilities, say);
    await ground.renew();
    await watch(ground, 'd', []);
    const guard = await takeGuardAway(ground);
    say(guard.length === 0 ? 'there is no guard to take away' : `without ${guard.join(', ')}`);
    const open = await half(ground, 1, capabilities, say);
    const back = await takeGuardAway(ground);
    if (back.length > 0) throw new Error(`the guard came back meanwhile: ${back.join(', ')}`);
    return { rows: guarded.map((one, at) => judged(one, open[at] ?? one)), guard, capabilities };
  } finally {
    await dismiss(ground);
  }
}

/** Attempts with another outcome than expected, and wrong capabilities; empty when all is well. */
export function problemsOf({ rows, capabilities }: Outcome): string[] {
  const wrong = rows.filter(({ ok }) => !ok);
  const powers = Object.entries(CAPABILITIES).filter(([kind, mask]) => capabilities[kind] !== mask);
  return [
    ...powers.map(([kind, mask]) => `attacker ${kind} has capabilities ${capabilities[kind]}, not ${mask}`),
    ...(wrong.length === 0 ? [] : [`${wrong.length} of ${rows.length} attempts:\n${hostileTable(wrong)}`]),
  ];
}

export function hostileTable(rows: readonly Row[]): string {
  const head = ['', 'attempt', 'attacker', 'family', 'expected', 'seen', 'without the guard', 'because'];
  return table([
    head,
    ...rows.map((row) => [
      row.ok ? 'ok' : 'NOT',
      row.attempt,
      row.attacker,
      row.family,
      row.expected,
      row.seen,
      row.withoutGuard,
      row.because,
    ]),
  ]).trimEnd();
}

interface Seen {
  attempt: Attempt;
  through: boolean;
  mended: boolean;
  evidence: string;
}

function judged(guarded: Seen, open: Seen): Row {
  const { attempt } = guarded;
  const refused = attempt.expected === 'refused';
  return {
    attempt: attempt.what,
    attacker: attempt.as,
    family: `IPv${attempt.family}`,
    expected: attempt.expected,
    because: attempt.held ?? attempt.why ?? (refused ? 'the guard' : ''),
    seen: guarded.evidence,
    withoutGuard: open.evidence,
    ok:
      guarded.through !== refused &&
      open.through !== (refused && attempt.held !== undefined) &&
      (attempt.expected !== 'mended' || guarded.mended),
  };
}

/** Numbers of the second half begin here. */
const SECOND = 5000;

async function half(
  ground: Ground,
  at: 0 | 1,
  capabilities: Record<string, string>,
  say: (line: string) => void,
): Promise<Seen[]> {
  const field: Field = await ground.field();
  const list = attempts(field)
    .filter((one) => ground.ipvlan || one.ipvlan !== true)
    .filter(({ stage = 'plain' }) => ground.stages.includes(stage))
    .map((one, index): Numbered => ({ ...one, n: 1 + index + at * SECOND }));
  const reports = new Map<number, Report>();
  for (const stage of ground.stages) {
    const leave = await enter(ground, stage, field);
    try {
      const now = list.filter((one) => (one.stage ?? 'plain') === stage);
      await attack(ground, now, at === 0, reports, capabilities);
      // A witness on a busy machine may miss a packet. What the guard alone refuses has to get through without it, so it is tried
      // again there; with the guard no attempt has a second chance to look refused.
      if (at === 1) {
        const missed = (await judge(ground, now, reports)).filter(
          ({ attempt, through }) => !through && needsGuard(attempt),
        );
        await attack(
          ground,
          missed.map(({ attempt }) => attempt),
          false,
          reports,
          capabilities,
        );
      }
      say(`${now.length} attempts, ${stage}`);
    } finally {
      await leave();
    }
  }
  return judge(ground, list, reports);
}

/** The guard is the only thing that refuses the attempt. */
function needsGuard({ expected, held }: Attempt): boolean {
  return expected === 'refused' && held === undefined;
}

/** What the witnesses have seen of each attempt until now. */
async function judge(
  ground: Ground,
  list: readonly Numbered[],
  reports: ReadonlyMap<number, Report>,
): Promise<(Seen & { attempt: Numbered })[]> {
  const witnessed = await testimony(ground);
  return list.map((attempt) => {
    const { answer = '', said = '', mended = false } = reports.get(attempt.n) ?? {};
    const found = attempt.signs.flatMap((sign) => evidenceOf(sign, attempt.n, answer, witnessed));
    const nothing = said === '' ? 'nothing' : `nothing (${said.slice(0, 70)})`;
    const seen = found.length > 0 ? found.join('; ') : nothing;
    const evidence = mended ? `${seen}; repair restored it` : seen;
    return { attempt, through: found.length > 0, mended, evidence };
  });
}
