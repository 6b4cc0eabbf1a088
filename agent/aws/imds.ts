// The instance metadata service, version 2 only. It lags behind EC2, and answers 404 for one ENI while others are fine. So
// every read tells "absent" (undefined) from "failed" (a Failure).
import { Failure, isFailure } from '../messages/failure.ts';
import { codeOfKind, kindOfSystemError } from '../messages/kinds.ts';
import { bounds } from '../port/bounds.ts';
import type { Clock } from '../port/clock.ts';
import { http } from '../port/net.ts';

const HOST = '169.254.169.254';
/** The longest life that IMDS allows for a token, in seconds. Source: EC2 user guide, "Use IMDSv2". */
const TOKEN_SECONDS = 21_600;
const REQUEST_MS = 2_000;

export interface Imds {
  /** The text at a path below /latest/, or undefined when IMDS answers 404 (or an empty body). */
  read(path: string): Promise<string | undefined>;
  /** The same as bytes: user data may be compressed. */
  readBytes(path: string): Promise<Uint8Array | undefined>;
  /** Requests sent so far, token requests included. */
  readonly requests: number;
}

/** @param until boot-clock milliseconds after which a failing read gives up; called again for each read. */
export function createImds(clock: Clock, until: () => number): Imds {
  let token: Promise<string> | undefined;
  let requests = 0;

  async function fetchToken(): Promise<string> {
    requests += 1;
    const answer = await http({
      method: 'PUT',
      host: HOST,
      path: '/latest/api/token',
      headers: { 'x-aws-ec2-metadata-token-ttl-seconds': String(TOKEN_SECONDS) },
      timeoutMs: REQUEST_MS,
      maxBytes: bounds.imdsBytes,
    });
    if (answer.status !== 200) throw refusal('/latest/api/token', answer.status);
    const text = answer.body.toString('utf8').trim();
    if (/^[!-~]+$/.test(text)) return text;
    throw new Failure(codeOfKind.IMDS.senseless, 'IMDS answers with text that cannot be a token', {
      path: '/latest/api/token',
    });
  }

  async function attempt(path: string): Promise<Buffer | undefined> {
    token ??= fetchToken();
    const used = token;
    // Many reads share a token. Only the token that this read used is given up, not a newer one.
    const giveUp = () => {
      if (token === used) token = undefined;
    };
    const value = await used.catch((error: unknown) => {
      giveUp();
      throw error;
    });
    requests += 1;
    const answer = await http({
      method: 'GET',
      host: HOST,
      path: `/latest/${path}`,
      headers: { 'x-aws-ec2-metadata-token': value },
      timeoutMs: REQUEST_MS,
      maxBytes: bounds.imdsBytes,
    });
    if (answer.status === 200) return answer.body.length === 0 ? undefined : answer.body;
    if (answer.status === 404) return undefined;
    // The token is expired or revoked: the next attempt requests a new one.
    if (answer.status === 401) giveUp();
    throw refusal(`/latest/${path}`, answer.status);
  }

  async function patiently(path: string): Promise<Buffer | undefined> {
    for (let tries = 0; ; tries += 1) {
      try {
        return await attempt(path);
      } catch (error) {
        const failure = isFailure(error) ? error : unanswered(path, error);
        const pause = Math.min(2_000, 50 * 2 ** tries) * (0.5 + Math.random() / 2);
        if (!failure.transient || clock.bootMs() + pause >= until()) throw failure;
        await clock.sleep(pause);
      }
    }
  }

  return {
    get requests() {
      return requests;
    },
    readBytes: patiently,
    read: async (path) => (await patiently(path))?.toString('utf8'),
  };
}

function refusal(path: string, status: number): Failure {
  if (status === 403) return new Failure(codeOfKind.IMDS.denied, `IMDS refuses ${path}`, { path, status });
  return new Failure(codeOfKind.IMDS.refused, `IMDS answers ${status} for ${path}`, { path, status });
}

function unanswered(path: string, cause: unknown): Failure {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const kind = kindOfSystemError(cause) ?? 'unanswered';
  const what = kind === 'unanswered' ? `no answer from ${HOST}` : 'no usable answer from IMDS';
  return new Failure(codeOfKind.IMDS[kind], `${what} for ${path}: ${reason}`, { path, reason }, cause);
}
