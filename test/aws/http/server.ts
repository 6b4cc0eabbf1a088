// One HTTP endpoint for EC2 (Query protocol), SSM and CloudWatch (JSON protocol). The header X-Amz-Target tells them apart.
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import type { ApiCall } from '../calls.ts';
import { type CloudWatch, isCloudWatchMutating } from '../cloudwatch/cloudwatch.ts';
import type { Ec2 } from '../ec2/ec2.ts';
import { isMutating } from '../ec2/ec2.ts';
import { AwsError } from '../ec2/errors.ts';
import type { Caller } from '../ec2/state.ts';
import type { Ec2Fault, Faults, Rules } from '../faults.ts';
import { pour } from '../pour.ts';
import { checkRequest } from '../requests/check.ts';
import { isSsmMutating, type Ssm } from '../ssm/ssm.ts';
import { decodeRequest, encodeError, encodeResponse } from './codec.ts';
import { type KnownKey, verifySignature } from './signature.ts';

export interface ApiOptions {
  ec2: Ec2;
  ssm: Ssm;
  cloudwatch: CloudWatch;
  faults: Faults;
  keyOf: (accessKeyId: string) => KnownKey | undefined;
  /** The least number of milliseconds that a call takes. */
  latencyMs: () => number;
}

/** What differs between the services. */
interface Service {
  name: ApiCall['service'];
  /** Name of the service in the scope of credentials; `name` where it is left out. */
  signs?: string;
  rules: Rules<Ec2Fault>;
  mutating: (action: string) => boolean;
  decode: () => object;
  send: (request: object, caller: Caller) => object;
  encode: (answer: object) => string;
  encodeError: (error: AwsError) => string;
  contentType: string;
  /** Headers of an error, added to those that all services send. */
  errorHeaders?: (error: AwsError) => Record<string, string>;
}

/** A server that does not listen yet. */
export function createApi(options: ApiOptions): Server {
  const { ec2, ssm, cloudwatch, faults } = options;

  function ec2Service(action: string, form: URLSearchParams, requestId: string): Service {
    return {
      name: 'ec2',
      rules: faults.ec2,
      mutating: isMutating,
      decode: () => decodeRequest(action, form),
      send: (request, caller) => ec2.send(action, request, caller),
      encode: (answer) => encodeResponse(action, answer, requestId),
      encodeError: (error) => encodeError(error.code, error.message, requestId),
      contentType: 'text/xml;charset=UTF-8',
    };
  }

  function ssmService(action: string, body: string): Service {
    return {
      name: 'ssm',
      rules: faults.ssm,
      mutating: isSsmMutating,
      decode: () => JSON.parse(body) as object,
      send: (request, caller) => ssm.send(action, request, caller),
      encode: (answer) => JSON.stringify(answer),
      encodeError: (error) => JSON.stringify({ __type: error.code, message: error.message }),
      contentType: 'application/x-amz-json-1.1',
    };
  }

  /**
   * CloudWatch's model of the API names AWS JSON 1.0 beside Query; a header carries the error code of the Query protocol.
   * Source: Smithy, "awsQueryCompatible trait". Endpoint and signatures are those of `monitoring`.
   */
  function cloudwatchService(action: string, body: string): Service {
    return {
      name: 'cloudwatch',
      signs: 'monitoring',
      rules: faults.cloudwatch,
      mutating: isCloudWatchMutating,
      decode: () => JSON.parse(body) as object,
      send: (request, caller) => cloudwatch.send(action, request, caller),
      encode: (answer) => JSON.stringify(answer, inSeconds),
      encodeError: (error) =>
        JSON.stringify({ __type: `com.amazonaws.cloudwatch#${error.code}`, message: error.message }),
      contentType: 'application/x-amz-json-1.0',
      errorHeaders: (error) => ({
        'x-amzn-query-error': `${error.code};${error.status < 500 ? 'Sender' : 'Receiver'}`,
      }),
    };
  }

  async function serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await bodyOf(incoming);
    const requestId = randomUUID();
    const [, api, target] = TARGET.exec(String(incoming.headers['x-amz-target'] ?? '')) ?? [];
    const form = new URLSearchParams(target === undefined ? body : '');
    const action = target ?? form.get('Action') ?? '';
    const service =
      api === 'AmazonSSM'
        ? ssmService(action, body)
        : api === undefined
          ? ec2Service(action, form, requestId)
          : cloudwatchService(action, body);
    const reply = (status: number, text: string, headers: Record<string, string> = {}): void => {
      response.writeHead(status, {
        ...headers,
        'content-type': service.contentType,
        'x-amzn-requestid': requestId,
        'content-length': Buffer.byteLength(text),
      });
      response.end(text);
    };
    const replyError = (error: AwsError): void =>
      reply(error.status, service.encodeError(error), service.errorHeaders?.(error));
    const refuse = (error: AwsError, caller: Caller): void => {
      ec2.calls.push({
        service: service.name,
        action,
        instanceId: caller.instanceId,
        at: ec2.world.scheduler.now(),
        mutating: service.mutating(action),
        accepted: false,
        error: error.code,
      });
      replyError(error);
    };

    let caller: Caller = {};
    try {
      const { method = 'POST', url = '/', headers } = incoming;
      const scope = { region: ec2.world.region, service: service.signs ?? service.name };
      caller = {
        instanceId: verifySignature(
          { method, url, headers, body },
          scope,
          options.keyOf,
          ec2.world.scheduler.now(),
        ).instanceId,
      };
    } catch (error) {
      if (error instanceof AwsError) return refuse(error, caller);
      throw error;
    }
    const fault = service.rules.take(
      (rule) =>
        (rule.action === action || rule.action === '*') &&
        (rule.instanceId === undefined || rule.instanceId === caller.instanceId),
    );
    const wait = options.latencyMs() + (fault?.delayMs ?? 0);
    if (wait > 0) await delay(wait);
    let request: object;
    try {
      request = service.decode();
      // With a fault, too, a request that AWS would refuse is refused first.
      if (fault !== undefined) checkRequest(service.name, action, request, ec2.world.scheduler.now());
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      return refuse(error, caller);
    }
    if (fault?.unanswered === true) return;
    if (fault?.close === true) return void incoming.socket.destroy();
    if (fault?.error !== undefined)
      return refuse(
        new AwsError(fault.error, fault.message ?? `Simulated ${fault.error}`, fault.status),
        caller,
      );
    let answer: object;
    try {
      answer = service.send(request, caller);
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      return replyError(error);
    }
    if (fault?.lost === 'hang') return;
    if (fault?.lost === 'close') return void incoming.socket.destroy();
    const text = service.encode(
      fault?.edit === undefined ? answer : fault.edit(structuredClone(answer) as never),
    );
    const sent = fault?.rewrite?.(text) ?? text;
    if (fault?.endless === undefined) return reply(200, sent);
    // Without its closing tags the document could go on.
    pour(response, service.contentType, sent.slice(0, sent.length / 2), fault.endless);
  }

  return createServer((incoming, response) => {
    serve(incoming, response).catch((error: unknown) => {
      process.stderr.write(
        `simulated API: ${error instanceof Error ? (error.stack ?? '') : String(error)}\n`,
      );
      response.writeHead(500).end();
    });
  });
}

/** Targets of the JSON protocol; 2010-08-01 is the version of CloudWatch's API. */
const TARGET = /^(AmazonSSM|GraniteServiceVersion20100801)\.(\w+)$/;

/** Writes a time as seconds since the epoch. JSON.stringify has made a string of it before the replacer gets it. */
function inSeconds(this: Record<string, unknown>, key: string, value: unknown): unknown {
  const original = this[key];
  return original instanceof Date ? original.getTime() / 1000 : value;
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}
