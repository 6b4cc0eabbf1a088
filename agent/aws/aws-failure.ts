// The kind of an error that the SDK throws.
import { Failure, isFailure, messageOf } from '../messages/failure.ts';
import { codeOfKind, type Kind, kindOfSystemError, type Service } from '../messages/kinds.ts';

/** Services that are called over the SDK. */
export type SdkService = Exclude<Service, 'IMDS'>;

const codeFact: Record<SdkService, string> = { EC2: 'ec2Code', SSM: 'ssmCode', CloudWatch: 'cloudwatchCode' };

// AWS's own codes. Source: EC2 API reference, "Error codes for the Amazon EC2 API"; SSM API reference, "Common Error Types".
// For throttling and time-outs also the codes after which AWS's own SDKs try again (@smithy/core,
// service-error-classification).
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
/** HTTP 429, Too Many Requests (RFC 6585): a proxy in front of AWS may throttle without a code of AWS. */
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
/** The SDK's names for an answer without a code of AWS: an answer of a proxy, an empty or a damaged one. */
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
 * The failure for an error that a call threw. AWS's own code is in its facts as `ec2Code`, `ssmCode` or `cloudwatchCode`.
 *
 * @param caller whose credentials the call used: on a node they come from the instance profile, an operator has to provide
 * them.
 */
export function awsFailure(
  service: SdkService,
  action: string,
  facts: Record<string, unknown>,
  error: unknown,
  caller: 'node' | 'operator' = 'node',
): Failure {
  if (isFailure(error)) return error;
  const name = error instanceof Error ? error.name : 'Error';
  // When the SDK cannot read an answer, its second line tells programmers where to look: it is left out.
  const [message = ''] = messageOf(error).split('\n');
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

/** Only an answer with a code of AWS is a refusal; any other error may not come again. */
function kindOf(error: unknown, name: string, status: number | undefined): Kind {
  const ofSystem = kindOfSystemError(error);
  if (ofSystem !== undefined) return ofSystem;
  if (THROTTLED.has(name) || status === TOO_MANY_REQUESTS) return 'throttled';
  if (DENIED.has(name)) return 'denied';
  if (UNAUTHENTICATED.has(name)) return 'unauthenticated';
  if (BUSY.has(name) || status === undefined || status >= 500) return 'unanswered';
  // An error after an answer with a status below 400 came from reading the answer: a date, a number, its depth.
  if (NAMELESS.has(name) || status < 400) return 'unreadable';
  return 'refused';
}

function httpStatus(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('$metadata' in error)) return undefined;
  const metadata = error.$metadata as { httpStatusCode?: number };
  return metadata.httpStatusCode;
}
