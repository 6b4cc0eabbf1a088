// Of which kind an error of AWS is, as the SDK throws it.
import { Failure, isFailure } from '../messages/failure.ts';
import { codeOfKind, type Kind, kindOfSystemError } from '../messages/kinds.ts';

const codeFact = { EC2: 'ec2Code', SSM: 'ssmCode' } as const;

// AWS's own codes. Source: EC2 API reference, "Error codes for the Amazon EC2 API"; SSM API reference, "Common Error Types";
// for throttling and time-outs also what AWS's own SDKs try again after (@smithy/core, service-error-classification).
const THROTTLED = new Set([
  'RequestLimitExceeded',
  'Throttling',
  'ThrottlingException',
  'ThrottledException',
  'EC2ThrottledException',
  'RequestThrottled',
  'RequestThrottledException',
  'TooManyRequestsException',
  'SlowDown',
  'BandwidthLimitExceeded',
  'PriorRequestNotComplete',
  'TooManyUpdates',
  'ResourceAlreadyAssociated.Throttled',
]);
/** HTTP 429, Too Many Requests (RFC 6585): what stands before AWS may throttle in its own words. */
const TOO_MANY_REQUESTS = 429;
const BUSY = new Set([
  'Unavailable',
  'ServiceUnavailable',
  'InternalError',
  'InternalFailure',
  'InternalServerError',
  'RequestTimeout',
  'RequestTimeoutException',
]);
/** What the SDK calls an answer that names no code of AWS's: one of a proxy, an empty or a damaged one. */
const NAMELESS = new Set(['Error', 'Unknown', 'UnknownError', 'NotFound', 'SyntaxError']);
const DENIED = new Set([
  'UnauthorizedOperation',
  'AccessDenied',
  'AccessDeniedException',
  'OptInRequired',
  'Blocked',
]);
const UNAUTHENTICATED = new Set([
  'AuthFailure',
  'SignatureDoesNotMatch',
  'RequestExpired',
  'InvalidClientTokenId',
  'InvalidSignatureException',
  'UnrecognizedClientException',
  'ExpiredToken',
  'ExpiredTokenException',
]);

/**
 * The failure behind whatever a call threw, AWS's own code in its facts as `ec2Code` or `ssmCode`.
 *
 * @param caller whose credentials they are: a node's come by themselves, a person's do not.
 */
export function awsFailure(
  service: 'EC2' | 'SSM',
  action: string,
  facts: Record<string, unknown>,
  error: unknown,
  caller: 'node' | 'operator' = 'node',
): Failure {
  if (isFailure(error)) return error;
  const name = error instanceof Error ? error.name : 'Error';
  // Of an answer it cannot read, the SDK tells programmers in a second line where to look.
  const [message = ''] = (error instanceof Error ? error.message : String(error)).split('\n');
  const status = httpStatus(error);
  if (name === 'CredentialsProviderError' || name === 'TokenProviderError')
    return new Failure('NO_CREDENTIALS', `no AWS credentials to call ${action} with: ${message}`, {}, error);
  const all = { action, ...facts, [codeFact[service]]: name, ...(status === undefined ? {} : { status }) };
  const kind = kindOf(error, name, status);
  const how = status === undefined ? '' : ` (HTTP ${status})`;
  const unusable = `no usable answer from ${service} to ${action}: ${message}${how}`;
  const words: Record<Kind, string> = {
    throttled: `${service} throttles ${action}`,
    denied: `this role may not call ${action}`,
    unauthenticated: `${service} does not accept the credentials: ${name}`,
    refused: `${service} refuses ${action}: ${name}: ${message}`,
    unanswered: unusable,
    unreadable: unusable,
    senseless: unusable,
    exhausted: `${action} cannot be called: ${message}`,
  };
  const code =
    kind === 'unauthenticated' && caller === 'operator' ? 'CREDENTIALS_REFUSED' : codeOfKind[service][kind];
  return new Failure(code, words[kind], all, error);
}

/** Only an answer that names a code of AWS's is a refusal; everything else may be different next time. */
function kindOf(error: unknown, name: string, status: number | undefined): Kind {
  const ofSystem = kindOfSystemError(error);
  if (ofSystem !== undefined) return ofSystem;
  if (THROTTLED.has(name) || status === TOO_MANY_REQUESTS) return 'throttled';
  if (DENIED.has(name)) return 'denied';
  if (UNAUTHENTICATED.has(name)) return 'unauthenticated';
  if (BUSY.has(name) || status === undefined || status >= 500) return 'unanswered';
  // What failed after an answer that was none of an error failed in reading it: a date, a number, its depth.
  if (NAMELESS.has(name) || status < 400) return 'unreadable';
  return 'refused';
}

function httpStatus(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('$metadata' in error)) return undefined;
  const metadata = error.$metadata as { httpStatusCode?: number };
  return metadata.httpStatusCode;
}
