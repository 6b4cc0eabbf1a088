// How the AWS SDK reaches AWS: every client is made with this, so that no answer is held in memory before its size is
// known to be one of AWS's. The SDK itself collects whatever comes. It asks for no compression and undoes none.
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { type Incoming, readBody, systemError } from '../port/net.ts';

interface AnswerLimits {
  /** Milliseconds until the answer begins, and again until it has come to its end. */
  answerMs: number;
  maxBytes: number;
}

/** The `Date` header of every answer, and when its request was sent, in milliseconds by the wall clock. */
export type OnDate = (date: string | undefined, sentMs: number) => void;

class BoundedHandler extends NodeHttpHandler {
  readonly #limits: AnswerLimits;
  readonly #onDate: OnDate;

  constructor(limits: AnswerLimits, onDate: OnDate) {
    super({ connectionTimeout: 2_000, requestTimeout: limits.answerMs, throwOnRequestTimeout: true });
    this.#limits = limits;
    this.#onDate = onDate;
  }

  override async handle(
    ...[request, options]: Parameters<NodeHttpHandler['handle']>
  ): ReturnType<NodeHttpHandler['handle']> {
    const sentMs = Date.now();
    const answer = await super.handle(request, options);
    this.#onDate(answer.response.headers['date'], sentMs);
    const body = await readBody(answer.response.body as Incoming, {
      maxBytes: this.#limits.maxBytes,
      timeoutMs: this.#limits.answerMs,
    });
    if (answer.response.statusCode < 300) refuseForeign(textOf(request.body), body);
    answer.response.body = body;
    return answer;
  }
}

/** Rejects with EMSGSIZE, ETIMEDOUT or ECONNRESET as readBody does, and with EBADMSG for somebody else's answer. */
export function boundedHandler(limits: AnswerLimits, onDate: OnDate = () => {}): NodeHttpHandler {
  return new BoundedHandler(limits, onDate);
}

/** The SDK's bodies of bytes warn whoever takes them for a string. */
function textOf(body: unknown): string {
  if (typeof body === 'string') return body;
  return body instanceof Uint8Array
    ? Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString()
    : '';
}

/**
 * The Query protocol names the action on both ways, and the SDK does not look: it takes a proxy's page, or nothing, for an
 * empty list. Source: EC2 API reference, "Structure of a response" (`<DescribeRegionsResponse xmlns=…>`).
 */
function refuseForeign(request: string, body: Buffer): void {
  const action = /^Action=(\w+)&/.exec(request)?.[1];
  if (action === undefined) return;
  const start = body.subarray(0, 400).toString('utf8');
  const [, root] = /^\s*(?:<\?[^>]*>\s*)?<(\w+)[\s>]/.exec(start) ?? [];
  if (root === `${action}Response`) return;
  throw systemError('EBADMSG', `it is no answer to ${action}: ${JSON.stringify(start.slice(0, 60))}`);
}
