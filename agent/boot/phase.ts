// What a phase of the boot is. It observes (does all reading), plans and judges (both pure). Its plan is a list of values,
// which apply.ts carries out for all phases; so `eniboot plan` can show what a boot does.
import type { FailureCode } from '../messages/failure.ts';
import { redactValue } from '../messages/redact.ts';
import type { Change } from './change.ts';

/** In the order of the phases: seconds that each may take before it fails. The boot's deadline may end it earlier. */
export const budgetSeconds = {
  identify: 60,
  reserve: 30,
  egress: 60,
  attach: 180,
  install: 60,
  kubelet: 30,
  verify: 60,
  ready: 10,
} as const;
export type PhaseName = keyof typeof budgetSeconds;
export const phaseNames = Object.keys(budgetSeconds) as PhaseName[];

/** One fact that was looked at. `warn` never stops a boot. `skip` means that the fact cannot be seen here; it is no pass. */
export interface Check {
  id: string;
  result: 'pass' | 'warn' | 'fail' | 'skip';
  summary: string;
  /** What was seen: values, not judgements. */
  evidence: Record<string, unknown>;
  /** Set when the result is `fail`. */
  code?: FailureCode;
  /** What to do, where that depends on what was found. */
  remedy?: string;
}

export interface Phase<Observed> {
  readonly name: PhaseName;
  /** Reads everything that plan and judge need. Changes nothing, here or in EC2. */
  observe(): Promise<Observed>;
  /** Pure. Empty when everything is as it should be. A phase without a plan only looks, and `eniboot plan` skips it. */
  plan?(observed: Observed): Change[];
  /** Pure. */
  judge(observed: Observed): Check[];
  /** Pure. What was asked for and a READY node does not have, each with its reason. */
  degradations?(observed: Observed): string[];
  /** Called before another try: EC2's latest answers in this run are asked for again. */
  forget?(): void;
}

/** The result of one look at a phase. */
export interface Looked {
  changes: Change[];
  checks: Check[];
}

export async function look<Observed>(phase: Phase<Observed>): Promise<Looked> {
  const observed = await phase.observe();
  return { changes: phase.plan?.(observed) ?? [], checks: phase.judge(observed) };
}

export function pass(id: string, summary: string, evidence: Record<string, unknown> = {}): Check {
  return shown({ id, result: 'pass', summary, evidence });
}

export function warn(id: string, summary: string, evidence: Record<string, unknown> = {}): Check {
  return shown({ id, result: 'warn', summary, evidence });
}

/** A check that does not apply here; `summary` says where it does. */
export function skip(id: string, summary: string): Check {
  return { id, result: 'skip', summary, evidence: {} };
}

export function fail(
  id: string,
  code: FailureCode,
  summary: string,
  evidence: Record<string, unknown> = {},
): Check {
  return shown({ id, result: 'fail', code, summary, evidence });
}

/** Makes results of one row from the same evidence. */
export function row(id: string, evidence: Record<string, unknown> = {}) {
  return {
    pass: (summary: string) => pass(id, summary, evidence),
    warn: (summary: string) => warn(id, summary, evidence),
    fail: (code: FailureCode, summary: string) => fail(id, code, summary, evidence),
  };
}

/** Evidence often holds a program's output, which may hold secrets. */
function shown(check: Check): Check {
  return redactValue(check) as Check;
}
