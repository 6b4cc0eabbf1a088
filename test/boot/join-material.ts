// A cluster's CA and another one (made with `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 36500`), the
// digests of their public keys (`openssl x509 -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256`), and a token.
import type { Cloud } from '../aws/index.ts';

export const CA = `-----BEGIN CERTIFICATE-----
MIIBgTCCASegAwIBAgIUT7f4At2YdIVMi8NucCCzj1VY94swCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKa3ViZXJuZXRlczAgFw0yNjExMjkyMjI5NTFaGA8yMTI2MTEw
NTIyMjk1MVowFTETMBEGA1UEAwwKa3ViZXJuZXRlczBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABN3Dy0kxsXUfL3tR7TWPdfprqH560yE1OU7avMJxMgqWetaZkR9e
pGIpc6dX95eW+Wv2VCf8Zu/A1H4MAAlYeyWjUzBRMB0GA1UdDgQWBBQnIthHcjLQ
pIzNo7FghoqEGVWmYzAfBgNVHSMEGDAWgBQnIthHcjLQpIzNo7FghoqEGVWmYzAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQD5lNILrfr9MaRdLkEw
IsD8aOLtC5eWVi4MiU9pSgSGbQIgMXedZX0Xsf/O6rFatUDgBxLeW2Q1iJiNZ6CP
hBqW6SQ=
-----END CERTIFICATE-----
`;
export const CA_HASH = 'sha256:2a444c551efed627e39c9a4d4946718448c24eb7aabf820d13cfab188bf28751';
export const OTHER_CA = `-----BEGIN CERTIFICATE-----
MIIBgTCCASegAwIBAgIUTXUYCrLuOxjBLQHITtMEixqKiA8wCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKa3ViZXJuZXRlczAgFw0yNjExMjkyMjI5NTFaGA8yMTI2MTEw
NTIyMjk1MVowFTETMBEGA1UEAwwKa3ViZXJuZXRlczBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABNHsPRK9uESgMDYgWeoBp89s95khw4gQnoO4b/koiqNkdJmZq6QR
trn3zcFJm90ElJJXqoti5k/mMY8l2znxuT+jUzBRMB0GA1UdDgQWBBTkipfbGnWD
lVEFu29WGxsdDnXwEzAfBgNVHSMEGDAWgBTkipfbGnWDlVEFu29WGxsdDnXwEzAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIBRabglF3olQyFfF3VCI
4GwsYpe84DInRS5ZhltQFRhnAiEAlwLQotxzekWh9XiyzgxCefocGrnTyzEOiCQt
I50rIjQ=
-----END CERTIFICATE-----
`;
export const OTHER_CA_HASH = 'sha256:18cbecf41eb0d7591ee09715bbbe682a360ed71a5e0e3eda6e2b4b170cef546e';
/** A certificate that has run out (`openssl x509 -signkey … -days -1`). */
export const EXPIRED = `-----BEGIN CERTIFICATE-----
MIIBhTCCASugAwIBAgIUORm3J1nFsw6S6ge04Uh9KeEbXGowCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNc3lzdGVtOm5vZGU6eDAeFw0yNjExMzAwOTM3NTVaFw0yNjEx
MjkwOTM3NTVaMBgxFjAUBgNVBAMMDXN5c3RlbTpub2RlOngwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAATBFZVLr7piq7UeCKxq8iZkF3Ba1ifsoSQ8R0grCjvuzKqe
GeaQYPwmTDJsJRk0pYDvhrlpU17pIklrbxUaFAjfo1MwUTAdBgNVHQ4EFgQUTJDi
jBeMDSYVYqURCz5hNQh1riUwHwYDVR0jBBgwFoAUTJDijBeMDSYVYqURCz5hNQh1
riUwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBsE8HOfNcXhzXA
grk/x0axhVVTNY9oz/uPE/DQ2X+qSwIhAOOdZ63rDb78yzs45hQoazXPRk7WKXwa
PprDQDkGSXrw
-----END CERTIFICATE-----
`;
export const TOKEN = '07401b.f395accd246ae52d';
export const TOKEN_PARAMETER = '/eniboot/demo/join-token';

/** Sections of a configuration: joins with CA and the token of TOKEN_PARAMETER. */
export function joining(changes: Record<string, unknown> = {}): Record<string, object> {
  return {
    apiServer: { endpoint: 'https://10.0.0.250:6443' },
    join: { token: `ssm:${TOKEN_PARAMETER}`, ca: CA, caCertHashes: [CA_HASH], ...changes },
  };
}

export function putToken(
  { ssm }: Cloud,
  value = TOKEN,
  type: 'SecureString' | 'String' = 'SecureString',
): void {
  ssm.send('PutParameter', { Name: TOKEN_PARAMETER, Value: value, Type: type, Overwrite: true });
}

/** The same as YAML. */
export function joiningText(changes?: Record<string, unknown>): string {
  return Object.entries(joining(changes))
    .map(([name, section]) => `${name}: ${JSON.stringify(section)}\n`)
    .join('');
}
