import { failureCodes } from './codes.ts';
import { redact, redactValue } from './redact.ts';

export type FailureCode = keyof typeof failureCodes;

/**
 * The one error type of the agent: a code with facts. codes.ts has the code's texts, its remedy, and whether a retry can help.
 * Messages and facts may quote programs, EC2 or a configuration, and end up in logs, status and reports: so secrets are taken
 * out here.
 */
export class Failure extends Error {
  override readonly name = 'Failure';
  readonly code: FailureCode;
  /** Values that say what and where: path, address, ENI, command, EC2's own code. */
  readonly facts: Record<string, unknown>;

  constructor(code: FailureCode, message: string, facts: Record<string, unknown> = {}, cause?: unknown) {
    super(redact(message).text, cause === undefined ? {} : { cause });
    this.code = code;
    this.facts = redactValue(facts) as Record<string, unknown>;
  }

  /** A transient failure is retried inside the deadline; a permanent one ends the boot at once. */
  get transient(): boolean {
    return failureCodes[this.code].transient;
  }

  get remedy(): string {
    return failureCodes[this.code].remedy;
  }
}

export function isFailure(error: unknown, ...codes: FailureCode[]): error is Failure {
  return error instanceof Failure && (codes.length === 0 || codes.includes(error.code));
}

/** What a thrown value says. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
