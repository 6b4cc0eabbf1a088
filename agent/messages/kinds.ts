// Errors outside of eniboot have few kinds, which are the same for every service: this table has the code for each kind and
// service. codes.ts says of each code whether a retry can help.
import { Failure, type FailureCode, isFailure, messageOf } from './failure.ts';

export type Kind =
  /** Too many requests: the same request is accepted later. */
  | 'throttled'
  | 'denied'
  /** The credentials are not accepted; new ones may be. */
  | 'unauthenticated'
  /** The request was understood, and refused for its contents. */
  | 'refused'
  /** No answer, or an answer that says that there is none now. */
  | 'unanswered'
  /** An answer that does not parse, is not the answer to the request, or is longer than any answer can be. */
  | 'unreadable'
  /** An answer that parses, but has a value that makes no sense. */
  | 'senseless'
  /** This machine has no memory or file descriptor left for the request. */
  | 'exhausted';

export type Service = 'EC2' | 'SSM' | 'CloudWatch' | 'IMDS';

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
  CloudWatch: {
    throttled: 'CLOUDWATCH_THROTTLED',
    denied: 'CLOUDWATCH_DENIED',
    unauthenticated: 'CLOUDWATCH_FAILED',
    refused: 'CLOUDWATCH_REFUSED',
    unanswered: 'CLOUDWATCH_FAILED',
    unreadable: 'CLOUDWATCH_FAILED',
    senseless: 'CLOUDWATCH_FAILED',
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

const CLOUD_SILENT: readonly FailureCode[] = [
  'EC2_UNAVAILABLE',
  'EC2_THROTTLED',
  'EC2_AUTH',
  'NO_INSTANCE_ROLE',
  'IMDS_UNREACHABLE',
  'IMDS_ERROR',
  'IMDS_INCOMPLETE',
];

/**
 * EC2 has not refused: it has not answered, or it cannot be asked, for example without credentials. A node that already has
 * what it needs goes on without EC2.
 */
export function isSilence(error: unknown): error is Failure {
  return isFailure(error) && isSilentCode(error.code);
}

/** As isSilence, by code. */
export function isSilentCode(code: string | undefined): boolean {
  return CLOUD_SILENT.some((silent) => silent === code);
}

/** Kinds of errors of the system, and of errors of agent/port with codes of the same form. Source: errno(3). */
const kindOfErrno: Record<string, Kind> = {
  EMFILE: 'exhausted',
  ENFILE: 'exhausted',
  ENOMEM: 'exhausted',
  EMSGSIZE: 'unreadable',
  EBADMSG: 'unreadable',
};

/** undefined for a value that is no error of the system, and for an error that only says that there was no answer. */
export function kindOfSystemError(error: unknown): Kind | undefined {
  const code = codeOf(error);
  return code === undefined ? undefined : kindOfErrno[code];
}

/**
 * The failure for a thrown value of any kind. The system's errors about a file have a code; a value without a known code is a
 * defect (INTERNAL).
 */
export function failureOf(error: unknown): Failure {
  if (isFailure(error)) return error;
  const message = messageOf(error);
  const errno = codeOf(error);
  if (kindOfSystemError(error) === 'exhausted')
    return new Failure('SYSTEM_EXHAUSTED', message, { errno }, error);
  if (error instanceof Error && 'syscall' in error) {
    const path = 'path' in error ? error.path : undefined;
    return new Failure('FILE_WRITE', message, { errno, path }, error);
  }
  return new Failure('INTERNAL', message, { stack: stackOf(error) }, error);
}

/**
 * Where it was thrown: files and lines of the source; undefined when no error was thrown. build.ts puts the plugin's sources into a folder of their own.
 */
export function stackOf(error: unknown): string | undefined {
  return error instanceof Error ? error.stack?.replaceAll(/\bplugin\/(?=agent\/|cni\/)/g, '') : undefined;
}

function codeOf(error: unknown): string | undefined {
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : undefined;
}
