/** An error as AWS answers it: code, text and HTTP status. */
export class AwsError extends Error {
  override name = 'AwsError';
  readonly code: string;
  readonly status: number;

  constructor(code: string, message: string, status?: number) {
    super(message);
    this.code = code;
    this.status = status ?? statusByCode[code] ?? 400;
  }
}

// EC2 answers 400 to client errors, and these statuses for the codes below ("Error codes for the Amazon EC2 API").
const statusByCode: Record<string, number> = {
  AuthFailure: 401,
  DryRunOperation: 412,
  InternalError: 500,
  InternalFailure: 500,
  MissingAuthenticationToken: 403,
  RequestLimitExceeded: 503,
  ServiceUnavailable: 503,
  SignatureDoesNotMatch: 403,
  Unavailable: 503,
  UnauthorizedOperation: 403,
};

export function missing(parameter: string): AwsError {
  return new AwsError('MissingParameter', `The request must contain the parameter ${parameter}`);
}

export function invalidValue(message: string): AwsError {
  return new AwsError('InvalidParameterValue', message);
}

export function throttled(): AwsError {
  return new AwsError('RequestLimitExceeded', 'Request limit exceeded.');
}
