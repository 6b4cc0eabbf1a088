// A client of a cluster's API: single calls, and what Kubernetes calls an informer.
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { bodyHeaders } from '../node/control.ts';

export interface KubeApi {
  /** One call; any status other than 2xx is thrown with the API's message. */
  call<T>(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: object): Promise<T>;
  /**
   * Calls `changed` with all objects of a collection, by namespace and name, whenever one of them changes. While the
   * API does not answer, the last objects remain valid: a lost control plane says nothing about its pods.
   */
  inform<T extends KubeObject>(path: string, changed: (objects: Map<string, T>) => void): void;
}

export interface KubeObject {
  metadata: {
    name: string;
    namespace?: string;
    labels?: Record<string, string>;
    deletionTimestamp?: string;
    resourceVersion?: string;
  };
}

interface KubeEvent<T> {
  type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  object: T;
}

/**
 * The server sends a bookmark about once a minute (client-go, reflector), so a connection that is silent for longer is
 * dead.
 */
const SILENCE_MS = 90_000;

/** @param kubeconfig a file with one cluster and a token, in JSON. */
export function kubeApi(kubeconfig: string): KubeApi {
  const { clusters, users } = JSON.parse(readFileSync(kubeconfig, 'utf8'));
  const { server, 'certificate-authority-data': ca } = clusters[0].cluster;
  const agent = new Agent({ keepAlive: true, ca: Buffer.from(ca, 'base64') });
  const authorization = `Bearer ${users[0].user.token}`;

  function open(method: string, path: string, body?: object): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const text = body === undefined ? undefined : JSON.stringify(body);
      const headers = { authorization, ...(text === undefined ? {} : bodyHeaders(text)) };
      const request = httpsRequest(
        `${server}${path}`,
        { method, agent, headers, timeout: SILENCE_MS },
        resolve,
      );
      request.on('timeout', () => request.destroy(new Error(`${method} ${path}: silence`)));
      request.on('error', reject);
      request.end(text);
    });
  }

  async function call<T>(method: string, path: string, body?: object): Promise<T> {
    const answer = await open(method, path, body);
    let text = '';
    for await (const chunk of answer.setEncoding('utf8')) text += chunk;
    const { statusCode = 0 } = answer;
    if (statusCode < 200 || statusCode > 299) throw new Error(`${method} ${path}: ${statusCode} ${text}`);
    return JSON.parse(text) as T;
  }

  /** Lists the collection and then watches it until the connection ends. */
  async function follow<T extends KubeObject>(path: string, changed: (objects: Map<string, T>) => void) {
    const list = await call<{ metadata: { resourceVersion: string }; items: T[] }>('GET', path);
    const objects = new Map(list.items.map((one) => [keyOf(one), one]));
    changed(objects);
    const join = path.includes('?') ? '&' : '?';
    const watch = `watch=1&allowWatchBookmarks=true&resourceVersion=${list.metadata.resourceVersion}`;
    const stream = await open('GET', `${path}${join}${watch}`);
    for await (const line of createInterface({ input: stream })) {
      const { type, object } = JSON.parse(line) as KubeEvent<T>;
      if (type === 'ERROR') return; // the version is too old: list again
      if (type === 'BOOKMARK') continue;
      if (type === 'DELETED') objects.delete(keyOf(object));
      else objects.set(keyOf(object), object);
      changed(objects);
    }
  }

  return {
    call,
    inform: (path, changed) => {
      void (async () => {
        for (;;) {
          await follow(path, changed).catch(() => {});
          await delay(500);
        }
      })();
    },
  };
}

function keyOf({ metadata }: KubeObject): string {
  return `${metadata.namespace}/${metadata.name}`;
}
