// What goes wrong outside of eniboot has few kinds, whoever it happens with: this table says which code each of them has.
// Whether trying again can help stands beside the code, in codes.ts.
import { Failure, type FailureCode, isFailure } from './failure.ts';

export type Kind =
  /** Too many requests: the same is taken later. */
  | 'throttled'
  | 'denied'
  /** The credentials are not accepted; new ones may be. */
  | 'unauthenticated'
  /** Understood, and turned down for what it asks. */
  | 'refused'
  /** No answer, or one that says that there is none now. */
  | 'unanswered'
  /** An answer that does not parse, is not the one that was asked for, or is longer than any can be. */
  | 'unreadable'
  /** An answer that can be read, with a value that cannot be one. */
  | 'senseless'
  /** This machine has no memory or file descriptor left to ask with. */
  | 'exhausted';

export type Service = 'EC2' | 'SSM' | 'IMDS';

export const codeOfKind: Record<Service, Record<Kind, FailureCode>> = {
  EC2: {
    throttled: 'EC2_THROTTLED',
    denied: 'EC2_DENIED',
    unauthenticated: 'EC2_AUTH',
    refused: 'EC2_REFUSED',
    unanswered: 'EC2_UNAVAILABLE',
    unreadable: 'EC2_UNAVAILABLE',
    senseless: 'EC2_UNAVAILABLE',
    exhausted: 'SYSTEM_EXHAUSTED',
  },
  SSM: {
    throttled: 'SSM_THROTTLED',
    denied: 'SSM_DENIED',
    unauthenticated: 'SSM_FAILED',
    refused: 'SSM_REFUSED',
    unanswered: 'SSM_FAILED',
    unreadable: 'SSM_FAILED',
    senseless: 'SSM_FAILED',
    exhausted: 'SYSTEM_EXHAUSTED',
  },
  IMDS: {
    throttled: 'IMDS_ERROR',
    denied: 'IMDS_FORBIDDEN',
    unauthenticated: 'IMDS_ERROR',
    refused: 'IMDS_ERROR',
    unanswered: 'IMDS_UNREACHABLE',
    unreadable: 'IMDS_ERROR',
    senseless: 'IMDS_ERROR',
    exhausted: 'SYSTEM_EXHAUSTED',
  },
};

/**
 * EC2 has not said no: it has not answered, or cannot be asked, its credentials among the reasons. A node that has what it
 * needs goes on without it.
 */
export const CLOUD_SILENT: readonly FailureCode[] = [
  'EC2_UNAVAILABLE',
  'EC2_THROTTLED',
  'EC2_AUTH',
  'NO_INSTANCE_ROLE',
  'IMDS_UNREACHABLE',
  'IMDS_ERROR',
  'IMDS_INCOMPLETE',
];

/** Errors of the system, and those of agent/port that have a code like them. Source: errno(3). */
const kindOfErrno: Record<string, Kind> = {
  EMFILE: 'exhausted',
  ENFILE: 'exhausted',
  ENOMEM: 'exhausted',
  EMSGSIZE: 'unreadable',
  EBADMSG: 'unreadable',
};

/** Undefined for what is no error of the system, and for one that says nothing but that there was no answer. */
export function kindOfSystemError(error: unknown): Kind | undefined {
  const code = codeOf(error);
  return code === undefined ? undefined : kindOfErrno[code];
}

/**
 * What a thrown value is called that nobody expected where it was thrown. The system's refusals of a file have a code;
 * what has no name is a defect.
 */
export function failureOf(error: unknown): Failure {
  if (isFailure(error)) return error;
  const message = error instanceof Error ? error.message : String(error);
  const errno = codeOf(error);
  if (kindOfSystemError(error) === 'exhausted')
    return new Failure('SYSTEM_EXHAUSTED', message, { errno }, error);
  if (error instanceof Error && 'syscall' in error) {
    const path = 'path' in error ? error.path : undefined;
    return new Failure('FILE_WRITE', message, { errno, path }, error);
  }
  return new Failure('INTERNAL', message, { stack: error instanceof Error ? error.stack : undefined }, error);
}

function codeOf(error: unknown): string | undefined {
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : undefined;
}
