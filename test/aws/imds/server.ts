// IMDSv2 on 169.254.169.254: a session token by PUT, then GET with it. Version 1 (GET without a token) is refused.
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import type { InstanceRecord } from '../ec2/state.ts';
import { eniByAddress, enisOf, type World } from '../ec2/world.ts';
import type { ImdsFault, Rules } from '../faults.ts';
import { pour } from '../pour.ts';
import { lookUp, metadata, type RoleCredentials } from './tree.ts';

export interface ImdsRequest {
  instanceId?: string | undefined;
  method: string;
  path: string;
  at: number;
  /** 0 when it was never answered. */
  status: number;
}

export interface ImdsOptions {
  world: World;
  faults: Rules<ImdsFault>;
  requests: ImdsRequest[];
  lagMs: () => number;
  credentialsOf: (instanceId: string) => RoleCredentials;
}

interface Session {
  instanceId: string;
  expires: number;
}

interface Answer {
  status: number;
  body: string;
  headers?: Record<string, string>;
}

/** A server that does not listen yet: the caller chooses the address. */
export function createImds(options: ImdsOptions): Server {
  const { world } = options;
  const sessions = new Map<string, Session>();
  const credentialTexts = new Map<string, { text: string; expires: number }>();

  function credentialText(instanceId: string): string {
    const now = world.scheduler.now();
    const known = credentialTexts.get(instanceId);
    if (known !== undefined && known.expires - now > 15 * 60_000) return known.text;
    const pair = options.credentialsOf(instanceId);
    const expires = now + 6 * 3_600_000;
    const text = JSON.stringify(
      {
        Code: 'Success',
        LastUpdated: new Date(now).toISOString(),
        Type: 'AWS-HMAC',
        AccessKeyId: pair.accessKeyId,
        SecretAccessKey: pair.secretAccessKey,
        Token: pair.sessionToken,
        Expiration: new Date(expires).toISOString().replace(/\.\d+Z$/, 'Z'),
      },
      null,
      2,
    );
    credentialTexts.set(instanceId, { text, expires });
    return text;
  }

  function token(request: IncomingMessage, instance: InstanceRecord): Answer {
    if (request.headers['x-forwarded-for'] !== undefined) return page(403, 'Forbidden');
    const ttl = Number(request.headers['x-aws-ec2-metadata-token-ttl-seconds'] ?? Number.NaN);
    if (!Number.isInteger(ttl) || ttl < 1 || ttl > 21_600) return page(400, 'Bad Request');
    const text = `${randomBytes(40).toString('base64url')}==`;
    const early = options.faults.find((fault) => fault.tokenLifeMs !== undefined)?.tokenLifeMs;
    sessions.set(text, { instanceId: instance.id, expires: world.scheduler.now() + (early ?? ttl * 1000) });
    return { status: 200, body: text, headers: { 'x-aws-ec2-metadata-token-ttl-seconds': String(ttl) } };
  }

  function read(request: IncomingMessage, instance: InstanceRecord, path: string): Answer {
    const session = sessions.get(String(request.headers['x-aws-ec2-metadata-token'] ?? ''));
    if (
      session === undefined ||
      session.instanceId !== instance.id ||
      session.expires <= world.scheduler.now()
    )
      return page(401, 'Unauthorized');
    const found = /^\/(?:latest|\d{4}-\d{2}-\d{2})(?:\/(.*))?$/.exec(path);
    if (path === '/') return { status: 200, body: '1.0\n2021-07-15\nlatest' };
    if (found === null) return page(404, 'Not Found');
    const lag = { imdsLagMs: options.lagMs() };
    const text = lookUp(
      metadata(world, instance, lag, () => credentialText(instance.id)),
      found[1] ?? '',
    );
    return text === undefined ? page(404, 'Not Found') : { status: 200, body: text };
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = decodeURIComponent((request.url ?? '/').split('?')[0] ?? '/');
    const method = request.method ?? 'GET';
    const instance = callerOf(world, request.socket.remoteAddress ?? '');
    const record: ImdsRequest = {
      instanceId: instance?.id,
      method,
      path,
      at: world.scheduler.now(),
      status: 0,
    };
    options.requests.push(record);
    if (instance === undefined) return send(response, record, page(404, 'Not Found'));
    const fault = options.faults.take(
      (rule) => rule.tokenLifeMs === undefined && applies(rule, method, path, instance.id),
    );
    if (fault?.delayMs !== undefined) await delay(fault.delayMs);
    if (fault?.unanswered === true) return; // the client's own time-out ends the request
    if (fault?.close === true) return void request.socket.destroy();
    if (fault?.status !== undefined) return send(response, record, page(fault.status, 'Simulated'));
    const answer =
      method === 'PUT' && path === '/latest/api/token'
        ? token(request, instance)
        : method === 'GET'
          ? read(request, instance, path)
          : page(405, 'Method Not Allowed');
    if (answer.status === 200 && fault?.edit !== undefined) answer.body = fault.edit(answer.body, path);
    if (fault?.endless !== undefined) {
      record.status = answer.status;
      return pour(response, 'text/plain', `${answer.body}\n`, fault.endless);
    }
    if (fault?.truncate !== undefined) return cut(response, record, answer, fault.truncate);
    send(response, record, answer);
  }

  return createServer((request, response) => {
    serve(request, response).catch((error: unknown) => {
      process.stderr.write(`simulated IMDS: ${String(error)}\n`);
      response.destroy();
    });
  });
}

function applies(rule: ImdsFault, method: string, path: string, instanceId: string): boolean {
  if (rule.instanceId !== undefined && rule.instanceId !== instanceId) return false;
  if (rule.method !== undefined && rule.method !== method) return false;
  if (rule.path === undefined) return true;
  return typeof rule.path === 'string' ? path.startsWith(rule.path) : rule.path.test(path);
}

/** Finds the instance by the source address, as the Nitro card knows the interface that a request came from. */
function callerOf(world: World, address: string): InstanceRecord | undefined {
  for (const instance of world.instances.values())
    if (instance.state === 'running' && enisOf(world, instance.id)[0]?.primaryIp === address) return instance;
  return world.instances.get(eniByAddress(world, address)?.attachment?.instanceId ?? '');
}

function page(status: number, title: string): Answer {
  return {
    status,
    body: `<?xml version="1.0" encoding="iso-8859-1"?>\n<html><head><title>${status} - ${title}</title></head><body><h1>${status} - ${title}</h1></body></html>\n`,
    headers: { 'content-type': 'text/html' },
  };
}

function send(response: ServerResponse, record: ImdsRequest, answer: Answer): void {
  record.status = answer.status;
  response.writeHead(answer.status, {
    'content-type': 'text/plain',
    server: 'EC2ws',
    ...answer.headers,
    'content-length': Buffer.byteLength(answer.body),
  });
  response.end(answer.body);
}

/** Announces the length of the whole body and closes the connection after its first `bytes`. */
function cut(response: ServerResponse, record: ImdsRequest, answer: Answer, bytes: number): void {
  record.status = answer.status;
  response.writeHead(answer.status, {
    'content-type': 'text/plain',
    'content-length': Buffer.byteLength(answer.body),
  });
  response.write(Buffer.from(answer.body).subarray(0, bytes), () => response.destroy());
}
