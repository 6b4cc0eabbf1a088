import { failureCodes } from './codes.ts';
import { redact, redactValue } from './redact.ts';

export type FailureCode = keyof typeof failureCodes;

/**
 * The one error type of the agent: what failed, with facts beside it. Its texts for people, its remedy and
 * whether a retry can help stand in codes.ts. What others have said (programs, EC2, a configuration) ends up in it, and it
 * ends up in logs, status and reports: so secrets are taken out here.
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

  /** A transient failure is retried inside the deadline, a permanent one ends the boot at once. */
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
