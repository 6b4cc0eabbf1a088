// The program of a pod, behind its sidecar: answers with its own name and with the address that the sidecar saw.
//   node server.ts NAME ZONE
import { createServer } from 'node:http';

/** On loopback, so only the pod's own sidecar reaches it. */
export const APP_PORT = 8080;

/** The server's answer. */
export interface Answered {
  /** Name of the pod. */
  by: string;
  zone: string;
  /** The address from which the sidecar's connection came. */
  from: string;
  /** Number of the attempt, from 1 on. */
  attempt: number;
}

if (process.argv[1] === import.meta.filename) {
  const [by = '', zone = ''] = process.argv.slice(2);
  const server = createServer((request, response) => {
    const { 'x-forwarded-for': from, 'x-envoy-attempt-count': attempt } = request.headers;
    const answered: Answered = { by, zone, from: String(from ?? ''), attempt: Number(attempt ?? 1) };
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(answered));
  });
  // Never close: a server that closes an idle connection at the moment when the sidecar uses it again loses that
  // request.
  server.keepAliveTimeout = 0;
  server.listen(APP_PORT, '127.0.0.1');
}
