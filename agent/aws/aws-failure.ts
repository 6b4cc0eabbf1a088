// Which AWS error becomes which failure code.
import { Failure, type FailureCode, isFailure } from '../messages/failure.ts';

type Kind = 'throttled' | 'denied' | 'unauthenticated' | 'unanswered' | 'refused';

const codes: Record<'EC2' | 'SSM', Record<Kind, FailureCode>> = {
  EC2: {
    throttled: 'EC2_THROTTLED',
    denied: 'EC2_DENIED',
    unauthenticated: 'EC2_AUTH',
    unanswered: 'EC2_UNAVAILABLE',
    refused: 'EC2_REFUSED',
  },
  SSM: {
    throttled: 'SSM_THROTTLED',
    denied: 'SSM_DENIED',
    unauthenticated: 'SSM_DENIED',
    unanswered: 'SSM_FAILED',
    refused: 'SSM_REFUSED',
  },
};

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
  const of = codes[service];
  if (name === 'CredentialsProviderError' || name === 'TokenProviderError')
    return new Failure('NO_CREDENTIALS', `no AWS credentials to call ${action} with: ${message}`, {}, error);
  const all = { action, ...facts, [codeFact[service]]: name, ...(status === undefined ? {} : { status }) };
  if (THROTTLED.has(name) || status === TOO_MANY_REQUESTS)
    return new Failure(of.throttled, `${service} throttles ${action}`, all, error);
  if (DENIED.has(name)) return new Failure(of.denied, `this role may not call ${action}`, all, error);
  if (UNAUTHENTICATED.has(name)) {
    const code = caller === 'operator' ? 'CREDENTIALS_REFUSED' : of.unauthenticated;
    return new Failure(code, `${service} does not accept the credentials: ${name}`, all, error);
  }
  // Only an answer that names a code of AWS's is a refusal; everything else may be different next time.
  if (BUSY.has(name) || NAMELESS.has(name) || status === undefined || status >= 500) {
    const how = status === undefined ? '' : ` (HTTP ${status})`;
    return new Failure(
      of.unanswered,
      `no usable answer from ${service} to ${action}: ${message}${how}`,
      all,
      error,
    );
  }
  return new Failure(of.refused, `${service} refuses ${action}: ${name}: ${message}`, all, error);
}

function httpStatus(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('$metadata' in error)) return undefined;
  const metadata = error.$metadata as { httpStatusCode?: number };
  return metadata.httpStatusCode;
}
