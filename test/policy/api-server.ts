// A stand-in for kube-apiserver: lists in pages and watches with bookmarks over HTTPS, for namespaces, pods and policies. It is
// as strict as the original where the client relies on it: a list ends with the version at which it began, a page or a watch of
// a forgotten version gets 410, a watch ends at its timeoutSeconds, an identity is required. Source:
// kubernetes.io/docs/reference/using-api/api-concepts.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface ApiObject {
  metadata: { name: string; namespace?: string; resourceVersion?: string };
}

const PATHS: Record<string, string> = {
  '/api/v1/namespaces': 'namespaces',
  '/api/v1/pods': 'pods',
  '/apis/networking.k8s.io/v1/networkpolicies': 'networkpolicies',
};
interface Event {
  version: number;
  kind: string;
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  object: ApiObject;
}
/** Which objects a list or a watch is about. */
interface Selection {
  kind: string;
  namespace: string | undefined;
  node: string | undefined;
}
interface Watch extends Selection {
  answer: ServerResponse;
}

export interface ApiStandIn {
  url: string;
  ca: string;
  put(kind: string, object: ApiObject): void;
  remove(kind: string, object: ApiObject): void;
  /** Versions before the present one are compacted: pages and watches of them get 410. */
  compact(): void;
  bookmark(): void;
  /** Ends every watch as a dying server does: cut short. */
  cut(): void;
  /** Answers the next `times` requests with this status and these headers. */
  refuse(status: number, times: number, headers?: Record<string, string>): void;
  /** Sends a raw line into every watch. */
  say(line: string): void;
  requests: string[];
  /** Bytes of all answers, before TLS. */
  sentBytes(): number;
  watches(): number;
  stop(): Promise<void>;
}

export const TOKEN = 'let-me-in';

/** @param address of this machine, at which the server is reached. */
export async function startApiServer(address = '127.0.0.1'): Promise<ApiStandIn> {
  const { key, cert } = certificate(address);
  const objects = new Map<string, { kind: string; object: ApiObject }>();
  const events: Event[] = [];
  const watches = new Set<Watch>();
  const requests: string[] = [];
  const pages = new Map<string, { version: number; rest: ApiObject[] }>();
  let version = 1000;
  let compacted = 0;
  let sent = 0;
  let refusals = { status: 0, times: 0, headers: {} as Record<string, string> };

  const idOf = (kind: string, { metadata }: ApiObject) =>
    `${kind} ${metadata.namespace ?? ''}/${metadata.name}`;
  const isOf = ({ kind, namespace, node }: Selection, of: string, object: ApiObject) =>
    of === kind &&
    (namespace === undefined || object.metadata.namespace === namespace) &&
    (node === undefined || (object as { spec?: { nodeName?: string } }).spec?.nodeName === node);

  function happen(type: Event['type'], kind: string, object: ApiObject): void {
    version += 1;
    const stamped = { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } };
    if (type === 'DELETED') objects.delete(idOf(kind, object));
    else objects.set(idOf(kind, object), { kind, object: stamped });
    const event = { version, kind, type, object: stamped };
    events.push(event);
    for (const one of watches) tell(one, event);
  }

  function tell(watch: Watch, { kind, type, object }: Event): void {
    if (!isOf(watch, kind, object)) return;
    const line = `${JSON.stringify({ type, object })}\n`;
    sent += line.length;
    watch.answer.write(line);
  }

  function fail(answer: ServerResponse, status: number, message: string, headers = {}): void {
    answer.writeHead(status, { 'content-type': 'application/json', ...headers });
    answer.end(JSON.stringify({ kind: 'Status', status: 'Failure', code: status, message }));
  }

  function list(answer: ServerResponse, wanted: Selection, query: URLSearchParams): void {
    const token = query.get('continue');
    const page = token === null ? undefined : pages.get(token);
    if (token !== null && (page === undefined || page.version < compacted))
      return fail(answer, 410, 'The provided continue parameter is too old');
    const all =
      page?.rest ??
      [...objects.values()]
        .filter(({ kind, object }) => isOf(wanted, kind, object))
        .map(({ object }) => object);
    const at = page?.version ?? version;
    const limit = Number(query.get('limit') ?? all.length) || all.length;
    const rest = all.slice(limit);
    const next = rest.length > 0 ? `${JSON.stringify(wanted)} ${at} ${rest.length}` : '';
    if (next !== '') pages.set(next, { version: at, rest });
    answer.writeHead(200, { 'content-type': 'application/json' });
    // Items of a list have neither kind nor apiVersion, and the last page has no `continue`.
    const metadata = { resourceVersion: String(at), ...(next !== '' && { continue: next }) };
    const body = JSON.stringify({ kind: 'List', metadata, items: all.slice(0, limit) });
    sent += body.length;
    answer.end(body);
  }

  function watch(answer: ServerResponse, wanted: Selection, query: URLSearchParams): void {
    const since = Number(query.get('resourceVersion') ?? 0);
    answer.writeHead(200, { 'content-type': 'application/json' });
    answer.flushHeaders();
    // A compacted version is reported in the stream, not by the status.
    if (since < compacted) {
      const status = { kind: 'Status', code: 410, message: `too old resource version: ${since}` };
      answer.end(`${JSON.stringify({ type: 'ERROR', object: status })}\n`);
      return;
    }
    const one = { ...wanted, answer };
    watches.add(one);
    for (const event of events) if (event.version > since) tell(one, event);
    const timer = setTimeout(() => answer.end(), Number(query.get('timeoutSeconds') ?? 1800) * 1000);
    answer.on('close', () => {
      clearTimeout(timer);
      watches.delete(one);
    });
  }

  function answerTo(request: IncomingMessage, answer: ServerResponse): void {
    const { pathname, searchParams: query } = new URL(request.url ?? '/', 'https://api');
    requests.push(`${pathname}?${query}`);
    if (request.headers.authorization !== `Bearer ${TOKEN}`) return fail(answer, 401, 'Unauthorized');
    if (refusals.times > 0) {
      refusals.times -= 1;
      return fail(answer, refusals.status, 'refused by the test', refusals.headers);
    }
    const namespace = /^\/api\/v1\/namespaces\/([^/]+)\/pods$/.exec(pathname)?.[1];
    const kind = namespace === undefined ? PATHS[pathname] : 'pods';
    if (kind === undefined) return fail(answer, 403, `forbidden: ${pathname}`);
    const node = /^spec\.nodeName=(.+)$/.exec(query.get('fieldSelector') ?? '')?.[1];
    const wanted = { kind, namespace, node };
    if (query.get('watch') === 'true') watch(answer, wanted, query);
    else list(answer, wanted, query);
  }

  const server = createServer({ key, cert }, answerTo);
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  return {
    url: `https://${address}:${(server.address() as AddressInfo).port}`,
    ca: cert,
    requests,
    put: (kind, object) => happen(objects.has(idOf(kind, object)) ? 'MODIFIED' : 'ADDED', kind, object),
    remove: (kind, object) => happen('DELETED', kind, object),
    compact: () => {
      version += 1;
      compacted = version;
    },
    bookmark: () => {
      const object = { metadata: { resourceVersion: String(version) } };
      for (const one of watches) one.answer.write(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`);
    },
    cut: () => {
      for (const one of watches) one.answer.destroy();
      watches.clear();
    },
    refuse: (status, times, headers = {}) => {
      refusals = { status, times, headers };
    },
    say: (line) => {
      for (const one of watches) one.answer.write(`${line}\n`);
    },
    sentBytes: () => sent,
    watches: () => watches.size,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function certificate(address: string): { key: string; cert: string } {
  const folder = mkdtempSync(join(tmpdir(), 'eniboot-api-'));
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const name = [
    '-subj',
    '/CN=api',
    '-addext',
    `subjectAltName=IP:${address}`,
    '-addext',
    'basicConstraints=CA:TRUE',
  ];
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
    ].concat(['-keyout', key, '-out', cert], name),
    { stdio: 'ignore' },
  );
  const made = { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
  rmSync(folder, { recursive: true });
  return made;
}
