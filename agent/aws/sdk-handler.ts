// How the AWS SDK reaches AWS. Every client is made with this handler: it limits the size of an answer before the answer is in
// memory, while the SDK itself collects everything that arrives. It requests no compression and decodes none.
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { type Incoming, readBody, systemError } from '../port/net.ts';

interface AnswerLimits {
  /** Milliseconds until the answer begins, and again from then until it ends. */
  answerMs: number;
  maxBytes: number;
}

/** Gets the `Date` header of every answer and the time when its request was sent, in milliseconds by the wall clock. */
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

/** Rejects with EMSGSIZE, ETIMEDOUT or ECONNRESET as readBody does, and with EBADMSG for an answer that is not of AWS. */
export function boundedHandler(limits: AnswerLimits, onDate: OnDate = () => {}): NodeHttpHandler {
  return new BoundedHandler(limits, onDate);
}

/** A body as text. The SDK prints a warning when one of its bodies of bytes is used as a string. */
function textOf(body: unknown): string {
  if (typeof body === 'string') return body;
  return body instanceof Uint8Array
    ? Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString()
    : '';
}

/**
 * In the Query protocol the answer names the action. The SDK does not check this: it takes the page of a proxy, or an empty
 * body, for an empty list. Source: EC2 API reference, "Structure of a response" (`<DescribeRegionsResponse xmlns=…>`).
 */
function refuseForeign(request: string, body: Buffer): void {
  const action = /^Action=(\w+)&/.exec(request)?.[1];
  if (action === undefined) return;
  const start = body.subarray(0, 400).toString('utf8');
  const [, root] = /^\s*(?:<\?[^>]*>\s*)?<(\w+)[\s>]/.exec(start) ?? [];
  if (root === `${action}Response`) return;
  throw systemError('EBADMSG', `it is no answer to ${action}: ${JSON.stringify(start.slice(0, 60))}`);
}
