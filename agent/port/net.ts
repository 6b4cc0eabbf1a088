// Plain HTTP and TCP for the agent. Not fetch(): it would send instance metadata requests through a proxy
// named in the environment, and pulls in much more at start-up.
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
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
}

const keepAlive = new Agent({ keepAlive: true, maxSockets: 8 });

/** One plain HTTP exchange on port 80. Rejects with the system's error, or one with code ETIMEDOUT. */
export function http(call: HttpCall): Promise<HttpAnswer> {
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
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('error', settle);
        incoming.on('end', () => {
          if (!incoming.complete) return settle(systemError('ECONNRESET', 'the answer was cut short'));
          settle(undefined, { status: incoming.statusCode ?? 0, body: Buffer.concat(chunks) });
        });
        incoming.on('close', () => settle(systemError('ECONNRESET', 'the answer was cut short')));
      },
    );
    const timer = setTimeout(() => {
      settle(systemError('ETIMEDOUT', `no answer within ${call.timeoutMs} ms`));
      outgoing.destroy();
    }, call.timeoutMs);
    let settled = false;
    function settle(error?: Error, answer?: HttpAnswer): void {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      if (answer === undefined) reject(error ?? systemError('EIO', 'no answer'));
      else resolve(answer);
    }
    outgoing.on('error', settle);
    outgoing.end();
  });
}

/** `transient`: the same may succeed a moment later. */
export class DownloadError extends Error {
  readonly transient: boolean;

  constructor(message: string, transient: boolean) {
    super(message);
    this.transient = transient;
  }
}

/**
 * Downloads to a file, whole or not at all as far as the caller can see: it gets the SHA-256 of what was
 * written, or a DownloadError (status, size, time-out, connection). No redirects: an address is what was published.
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

/** Whether a TCP connection (from `localAddress`, where one is given) opens within `timeoutMs`; otherwise the reason it did not. */
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

function systemError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}
