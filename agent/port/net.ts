// Plain HTTP and TCP for the agent. Not fetch(): it would send instance metadata requests through a proxy named in the
// environment, and loads much more at start-up.
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';

export interface HttpAnswer {
  status: number;
  body: Buffer;
}

export interface HttpCall {
  method: 'GET' | 'PUT';
  host: string;
  path: string;
  headers?: Record<string, string>;
  /** Milliseconds for the whole exchange. */
  timeoutMs: number;
  /** The most bytes that the body may have. */
  maxBytes: number;
}

const keepAlive = new Agent({ keepAlive: true, maxSockets: 8 });

/** An answer whose head has come. */
export type Incoming = IncomingMessage;

/** One plain HTTP exchange on port 80. Rejects with the system's error, with ETIMEDOUT, or as readBody does. */
export function http(call: HttpCall): Promise<HttpAnswer> {
  const endsAt = performance.now() + call.timeoutMs;
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest(
      {
        agent: keepAlive,
        method: call.method,
        host: call.host,
        path: call.path,
        headers: call.headers ?? {},
      },
      (incoming) => {
        clearTimeout(timer);
        const rest = { maxBytes: call.maxBytes, timeoutMs: endsAt - performance.now() };
        readBody(incoming, rest).then((body) => resolve({ status: incoming.statusCode ?? 0, body }), reject);
      },
    );
    const timer = setTimeout(() => {
      reject(systemError('ETIMEDOUT', `no answer within ${call.timeoutMs} ms`));
      outgoing.destroy();
    }, call.timeoutMs);
    outgoing.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    outgoing.end();
  });
}

/**
 * The whole body of an answer: the only function that holds a body in memory. Rejects with code EMSGSIZE as soon as the body is
 * longer than allowed, with ETIMEDOUT, or with ECONNRESET when it was cut short; the connection is then closed.
 */
export function readBody(
  incoming: Incoming,
  limits: { maxBytes: number; timeoutMs: number },
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const timer = setTimeout(
      () => giveUp(systemError('ETIMEDOUT', 'the answer did not come to its end in time')),
      limits.timeoutMs,
    );
    function giveUp(error: Error): void {
      clearTimeout(timer);
      chunks.length = 0;
      incoming.off('data', take);
      incoming.destroy();
      reject(error);
    }
    function take(chunk: Buffer): void {
      bytes += chunk.length;
      if (bytes <= limits.maxBytes) chunks.push(chunk);
      else giveUp(systemError('EMSGSIZE', `the answer is longer than ${limits.maxBytes} bytes`));
    }
    incoming.on('data', take);
    incoming.on('error', giveUp);
    incoming.on('end', () => {
      if (!incoming.complete) return giveUp(systemError('ECONNRESET', 'the answer was cut short'));
      clearTimeout(timer);
      resolve(Buffer.concat(chunks));
    });
    incoming.on('close', () => {
      if (!incoming.complete) giveUp(systemError('ECONNRESET', 'the answer was cut short'));
    });
  });
}

/** `transient`: the same download may succeed a moment later. */
export class DownloadError extends Error {
  readonly transient: boolean;

  constructor(message: string, transient: boolean) {
    super(message);
    this.transient = transient;
  }
}

/**
 * Downloads to a file. For the caller, the file is whole or absent: it gets the SHA-256 of what was written, or a DownloadError
 * (status, size, time-out, connection). No redirects are followed: the address is the one that was published.
 */
export function download(
  url: string,
  path: string,
  limits: { timeoutMs: number; maxBytes: number },
): Promise<string> {
  return new Promise((resolve, reject) => {
    const hash = createHash('sha256');
    const file = createWriteStream(path, { mode: 0o600 });
    let bytes = 0;
    const timer = setTimeout(() => fail(`not complete within ${limits.timeoutMs} ms`), limits.timeoutMs);
    const request = url.startsWith('https:') ? httpsRequest : httpRequest;
    const outgoing = request(url, { headers: { accept: '*/*' } }, (incoming) => {
      const { statusCode = 0 } = incoming;
      if (statusCode !== 200) return fail(`the answer is ${statusCode}`, statusCode >= 500);
      incoming.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > limits.maxBytes) return fail(`more than ${limits.maxBytes} bytes`);
        hash.update(chunk);
        if (!file.write(chunk)) {
          incoming.pause();
          file.once('drain', () => incoming.resume());
        }
      });
      incoming.on('error', (error) => fail(error.message, true));
      incoming.on('close', () => {
        if (!incoming.complete) fail('the answer was cut short', true);
      });
      incoming.on('end', () => {
        // The time-out covers the disk too, which may be slower than the network.
        file.end(() => {
          clearTimeout(timer);
          resolve(hash.digest('hex'));
        });
      });
    });
    function fail(reason: string, transient = false): void {
      clearTimeout(timer);
      outgoing.destroy();
      file.destroy();
      reject(new DownloadError(reason, transient));
    }
    file.on('error', (error) => fail(error.message));
    outgoing.on('error', (error) => fail(error.message, true));
    outgoing.end();
  });
}

/** Whether a TCP connection (from `localAddress`, if given) opens within `timeoutMs`; otherwise the reason why it did not. */
export function tcpReaches(
  host: string,
  port: number,
  localAddress: string | undefined,
  timeoutMs: number,
): Promise<{ ok: true; ms: number } | { ok: false; reason: string }> {
  const started = performance.now();
  return new Promise((resolve) => {
    const socket = connect({ host, port, ...(localAddress === undefined ? {} : { localAddress }) });
    const timer = setTimeout(() => finish(`no answer within ${timeoutMs} ms`), timeoutMs);
    function finish(reason?: string): void {
      clearTimeout(timer);
      socket.destroy();
      resolve(reason === undefined ? { ok: true, ms: performance.now() - started } : { ok: false, reason });
    }
    socket.on('connect', () => finish());
    socket.on('error', (error) => finish(error.message));
  });
}

/** An error with a code of the system, for a condition that the system itself does not report as an error. */
export function systemError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}
