// A modelled fleet behind HTTP, in the AWS SDK's protocol, on the fleet's time: requests are answered in order, and time moves on
// only while a request or a sleep waits for it.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AwsError } from '../../aws/ec2/errors.ts';
import { decodeRequest, encodeError, encodeResponse } from '../../aws/http/codec.ts';
import type { Fleet } from '../../rollout/fleet.ts';

/** Milliseconds that a call takes. */
const CALL_MS = 50;

/** Returns the server's address, and a function that ends it. */
export async function serveFleet(fleet: Fleet): Promise<{ url: string; stop: () => void }> {
  const serve = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const pieces: Buffer[] = [];
    for await (const piece of incoming) pieces.push(piece as Buffer);
    await passTime(fleet, CALL_MS);
    const target = /^AmazonSSM\.(\w+)$/.exec(String(incoming.headers['x-amz-target'] ?? ''))?.[1];
    const { status, text } = answer(fleet, target, Buffer.concat(pieces).toString());
    response.writeHead(status, {
      date: new Date(fleet.scheduler.now()).toUTCString(),
      'content-type': target === undefined ? 'text/xml;charset=UTF-8' : 'application/x-amz-json-1.1',
      'content-length': Buffer.byteLength(text),
    });
    response.end(text);
  };
  const server: Server = createServer((incoming, response) => {
    serve(incoming, response).catch((error: unknown) => response.destroy(error as Error));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop: () => server.close().closeAllConnections(),
  };
}

/** Milliseconds on the fleet's clock. */
export async function passTime(fleet: Fleet, ms: number): Promise<void> {
  let over = false;
  fleet.scheduler.after(ms, () => {
    over = true;
  });
  await fleet.scheduler.run(() => over);
}

function answer(fleet: Fleet, target: string | undefined, body: string): { status: number; text: string } {
  const requestId = randomUUID();
  const form = new URLSearchParams(target === undefined ? body : '');
  const action = target ?? form.get('Action') ?? '';
  try {
    const request = target === undefined ? decodeRequest(action, form) : (JSON.parse(body) as object);
    const result = fleet.answer(action, request);
    const text = target === undefined ? encodeResponse(action, result, requestId) : JSON.stringify(result);
    return { status: 200, text };
  } catch (error) {
    if (!(error instanceof AwsError)) throw error;
    const { code, message, status } = error;
    const text =
      target === undefined
        ? encodeError(code, message, requestId)
        : JSON.stringify({ __type: code, message });
    return { status, text };
  }
}
