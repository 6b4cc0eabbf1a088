// Follows one kind of object of the API server: a list in pages, then a watch from where the list ended. Source:
// kubernetes.io/docs/reference/using-api/api-concepts, "Efficient detection of changes".
import * as v from 'valibot';
import { Failure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import { hasCode } from '../port/fs.ts';
import { httpsGet, type Identity, linesOf } from '../port/https.ts';
import { type Incoming, readBody, systemError } from '../port/net.ts';

export interface ApiServer {
  url: string;
  /** Read again for each request, since the files are replaced when a token or certificate is renewed. */
  identity(): Identity;
}

export interface Resource {
  /** `/api/v1/pods` */
  path: string;
  query?: Readonly<Record<string, string>>;
}

/** Receives what the API server says. `object` has the API's own form. */
export interface Follower {
  /** The whole list follows, one put for each object. An object that is not in it no longer exists. */
  begin(): void;
  put(object: unknown): void;
  end(): void;
  remove(object: unknown): void;
  /** The API server does not answer now. What it said before stays valid. */
  silent(problem: Error): void;
}

const PAGE = 500;
/**
 * The most bytes of a page or an event. An object has at most 1.5 MiB in etcd (its --max-request-bytes), as Protobuf. There a
 * peer `{"podSelector":{},"namespaceSelector":{}}` takes 6 bytes, and 42 in JSON: 10.5 MiB. Reading takes some ten times as
 * much memory, and the service has 512 MiB.
 */
const MAX_BYTES = 12 * 2 ** 20;
const ANSWER_MS = 30_000;
const PAGE_MS = 60_000;
/** The API server sends a bookmark about once a minute. A connection that is silent for longer than two minutes is dead. */
const IDLE_MS = 150_000;
const LEAST_WAIT_MS = 500;
const MOST_WAIT_MS = 30_000;

const listSchema = v.object({
  metadata: v.object({ resourceVersion: v.string(), continue: v.optional(v.string(), '') }),
  items: v.array(v.unknown()),
});
const eventSchema = v.object({
  type: v.string(),
  object: v.looseObject({
    metadata: v.optional(v.looseObject({ resourceVersion: v.optional(v.string()) })),
    code: v.optional(v.number()),
    message: v.optional(v.string()),
  }),
});

/** The list is too old to be continued, or the watch to be resumed: a new list is needed. */
class Gone extends Error {}

/** Codes of events that cannot be taken. A watch from before one would come to it again, and a list has what it says. */
const UNTAKEN = ['EMSGSIZE', 'EBADMSG'];

/** Too many requests. The API server says how long to wait. */
class Busy extends Failure {
  readonly waitMs: number;

  constructor(message: string, waitMs: number) {
    super('POLICY_API_FAILED', message);
    this.waitMs = waitMs;
  }
}

/** Runs until `signal` is aborted. Never rejects: a failure is told to the follower, and the request is tried again. */
export async function follow(
  api: ApiServer,
  resource: Resource,
  follower: Follower,
  { clock, signal, random }: { clock: Clock; signal: AbortSignal; random: () => number },
): Promise<void> {
  let version: string | undefined;
  let failures = 0;
  while (!signal.aborted) {
    try {
      version ??= await list(api, resource, follower, signal);
      for await (const seen of watch(api, resource, follower, version, { signal, random })) {
        version = seen;
        failures = 0;
      }
    } catch (error) {
      if (signal.aborted) return;
      failures += 1;
      if (error instanceof Gone || hasCode(error, ...UNTAKEN)) version = undefined;
      if (!(error instanceof Gone)) follower.silent(error as Error);
      if (error instanceof Busy) await clock.sleep(error.waitMs, signal).catch(() => undefined);
    }
    // Full jitter, so that nodes that lost the API server at the same time do not all come back at the same time.
    const most = Math.min(MOST_WAIT_MS, LEAST_WAIT_MS * 2 ** failures);
    await clock.sleep(random() * most, signal).catch(() => undefined);
  }
}

/** @returns the resource version from which a watch goes on. */
async function list(
  api: ApiServer,
  { path, query = {} }: Resource,
  follower: Follower,
  signal: AbortSignal,
): Promise<string> {
  let next = '';
  let limit = PAGE;
  for (;;) {
    const page = await pageOf(
      api,
      path,
      { ...query, limit: String(limit), ...(next && { continue: next }) },
      signal,
    );
    if (page === 'too long') {
      if (limit === 1)
        throw systemError('EMSGSIZE', `an object of ${path} is longer than ${MAX_BYTES} bytes`);
      // From the beginning, since the API server may refuse to continue a list with another limit.
      limit = Math.ceil(limit / 8);
      next = '';
      continue;
    }
    if (next === '') follower.begin();
    for (const object of page.items) follower.put(object);
    next = page.metadata.continue;
    if (next === '') {
      follower.end();
      return page.metadata.resourceVersion;
    }
  }
}

async function pageOf(
  api: ApiServer,
  path: string,
  query: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<v.InferOutput<typeof listSchema> | 'too long'> {
  const incoming = await ask(api, path, query, signal);
  try {
    const body = await readBody(incoming, { maxBytes: MAX_BYTES, timeoutMs: PAGE_MS });
    return v.parse(listSchema, JSON.parse(body.toString()));
  } catch (error) {
    if (hasCode(error, 'EMSGSIZE')) return 'too long';
    throw error;
  }
}

/** @yields the resource version up to which everything was told. */
async function* watch(
  api: ApiServer,
  { path, query = {} }: Resource,
  follower: Follower,
  version: string,
  { signal, random }: { signal: AbortSignal; random: () => number },
): AsyncGenerator<string> {
  const asked = {
    ...query,
    watch: 'true',
    allowWatchBookmarks: 'true',
    resourceVersion: version,
    // As in client-go: 5 to 10 minutes, so that watches are not all renewed at the same time.
    timeoutSeconds: String(Math.floor(300 + 300 * random())),
  };
  const incoming = await ask(api, path, asked, signal);
  for await (const line of linesOf(incoming, { idleMs: IDLE_MS, maxBytes: MAX_BYTES })) {
    const { type, object } = eventIn(line);
    if (type === 'ERROR') {
      if (object.code === 410) throw new Gone(object.message);
      throw new Failure('POLICY_API_FAILED', `the watch of ${path} ended: ${object.message}`, { path });
    }
    if (type === 'ADDED' || type === 'MODIFIED') follower.put(object);
    if (type === 'DELETED') follower.remove(object);
    if (object.metadata?.resourceVersion !== undefined) yield object.metadata.resourceVersion;
  }
}

function eventIn(line: string): v.InferOutput<typeof eventSchema> {
  const read = v.safeParse(eventSchema, parsed(line));
  if (read.success) return read.output;
  throw systemError('EBADMSG', `a line of a watch is no event: ${read.issues[0].message}`);
}

async function ask(
  { url, identity }: ApiServer,
  path: string,
  query: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Incoming> {
  const target = new URL(path, url);
  target.search = new URLSearchParams(query).toString();
  const incoming = await httpsGet(target, identity(), { timeoutMs: ANSWER_MS, signal });
  const { statusCode = 0, headers } = incoming;
  if (statusCode === 200) return incoming;
  const body = await readBody(incoming, { maxBytes: MAX_BYTES, timeoutMs: ANSWER_MS });
  const status = v.safeParse(v.object({ message: v.string() }), parsed(body.toString()));
  const message = `${statusCode} for ${path}: ${status.success ? status.output.message : 'no reason given'}`;
  if (statusCode === 410) throw new Gone(message);
  if (statusCode === 429) throw new Busy(message, 1000 * (Number(headers['retry-after']) || 1));
  throw new Failure('POLICY_API_FAILED', message, { path, status: statusCode });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
