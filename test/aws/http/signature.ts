// Verifies AWS Signature Version 4 from the published description of the algorithm, without the client's own code.
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { AwsError } from '../ec2/errors.ts';

export interface SignedRequest {
  method: string;
  /** Path and query as they came. */
  url: string;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

export interface KnownKey {
  secretAccessKey: string;
  /** Set for temporary credentials; the request must carry it. */
  sessionToken?: string;
  /** The instance whose role it is; undefined for an operator. */
  instanceId?: string;
}

const allowedSkewMs = 5 * 60_000;

/** Returns the caller who signed the request. Throws the AwsError that EC2 would answer. */
export function verifySignature(
  request: SignedRequest,
  scope: { region: string; service: string },
  keyOf: (accessKeyId: string) => KnownKey | undefined,
  now: number,
): KnownKey {
  const header = text(request, 'authorization');
  if (header === '')
    throw new AwsError('MissingAuthenticationToken', 'Request is missing Authentication Token');
  const found =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(
      header,
    );
  if (found === null) throw new AwsError('IncompleteSignature', 'Authorization header is malformed');
  const [, accessKeyId = '', day = '', region = '', service = '', signedHeaders = '', signature = ''] = found;
  const key = keyOf(accessKeyId);
  if (key === undefined)
    throw new AwsError('AuthFailure', 'AWS was not able to validate the provided access credentials');
  if (key.sessionToken !== undefined && text(request, 'x-amz-security-token') !== key.sessionToken)
    throw new AwsError('AuthFailure', 'AWS was not able to validate the provided access credentials');
  if (region !== scope.region || service !== scope.service)
    throw new AwsError(
      'SignatureDoesNotMatch',
      `Credential should be scoped to a valid region and correct service: '${scope.region}/${scope.service}'.`,
    );

  const stamp = text(request, 'x-amz-date');
  const signedAt = Date.parse(
    stamp.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'),
  );
  if (!stamp.startsWith(day) || Number.isNaN(signedAt) || !signedHeaders.split(';').includes('host'))
    throw new AwsError('IncompleteSignature', 'Date or host is missing from the signed headers');
  if (Math.abs(now - signedAt) > allowedSkewMs) throw new AwsError('RequestExpired', 'Request has expired.');

  const expected = sign(
    request,
    signedHeaders.split(';'),
    stamp,
    [day, region, service],
    key.secretAccessKey,
  );
  if (!timingSafeEqual(Buffer.from(expected), Buffer.from(signature)))
    throw new AwsError(
      'SignatureDoesNotMatch',
      'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.',
    );
  return key;
}

function sign(
  request: SignedRequest,
  signedHeaders: string[],
  stamp: string,
  scope: [string, string, string],
  secret: string,
): string {
  const [path = '/', query = ''] = request.url.split('?');
  const canonical = [
    request.method,
    path,
    query.split('&').sort().join('&'),
    ...signedHeaders.map((name) => `${name}:${text(request, name).trim().replace(/ +/g, ' ')}`),
    '',
    signedHeaders.join(';'),
    sha256(request.body),
  ].join('\n');
  const toSign = ['AWS4-HMAC-SHA256', stamp, `${scope.join('/')}/aws4_request`, sha256(canonical)].join('\n');
  let key: Buffer = Buffer.from(`AWS4${secret}`);
  for (const part of [...scope, 'aws4_request']) key = createHmac('sha256', key).update(part).digest();
  return createHmac('sha256', key).update(toSign).digest('hex');
}

function sha256(data: string): string {
  return createHash('sha256').update(data).digest('hex');
}

function text(request: SignedRequest, name: string): string {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(',') : (value ?? '');
}
