// HTTPS with the cluster's own certificate authority, for the API server. Not fetch(): in the compiled executable it ignores
// the authority and the client's certificate. Source: https://github.com/oven-sh/bun/issues/22734.
import { request } from 'node:https';
import { type Incoming, systemError } from './net.ts';

/** PEM. */
export interface Identity {
  ca: string;
  token?: string;
  cert?: string;
  key?: string;
}

/**
 * The head of an answer; its body comes from readBody or linesOf. Rejects with the system's error, or with ETIMEDOUT when no
 * head came in time. `signal` ends the connection at any time.
 */
export function httpsGet(
  url: URL,
  identity: Identity,
  { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
): Promise<Incoming> {
  const { ca, cert, key, token } = identity;
  return new Promise((resolve, reject) => {
    const outgoing = request(
      url,
      {
        ca,
        ...(cert !== undefined && { cert }),
        ...(key !== undefined && { key }),
        headers: {
          accept: 'application/json',
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
        },
        // One connection for each watch, and no idle connection that waits for the next request.
        agent: false,
        signal,
      },
      (incoming) => {
        clearTimeout(timer);
        resolve(incoming);
      },
    );
    const timer = setTimeout(() => {
      outgoing.destroy(systemError('ETIMEDOUT', `no answer within ${timeoutMs} ms`));
    }, timeoutMs);
    outgoing.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    outgoing.end();
  });
}

/**
 * The lines of a body as they come. Throws with code ETIMEDOUT when nothing comes for `idleMs`, EMSGSIZE when a line is longer
 * than `maxBytes`, ECONNRESET when the body is cut short.
 */
export async function* linesOf(
  incoming: Incoming,
  { idleMs, maxBytes }: { idleMs: number; maxBytes: number },
): AsyncGenerator<string> {
  let rest: Buffer[] = [];
  let bytes = 0;
  const idle = setTimeout(
    () => incoming.destroy(systemError('ETIMEDOUT', `nothing came for ${idleMs} ms`)),
    idleMs,
  );
  try {
    for await (const chunk of incoming as AsyncIterable<Buffer>) {
      idle.refresh();
      let from = 0;
      for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, from)) {
        rest.push(chunk.subarray(from, end));
        yield Buffer.concat(rest).toString();
        rest = [];
        bytes = 0;
        from = end + 1;
      }
      rest.push(chunk.subarray(from));
      bytes += chunk.length - from;
      if (bytes > maxBytes) throw systemError('EMSGSIZE', `a line is longer than ${maxBytes} bytes`);
    }
    if (!incoming.complete) throw systemError('ECONNRESET', 'the answer was cut short');
  } finally {
    clearTimeout(idle);
    incoming.destroy();
  }
}
