import { createConnection, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** Connects to a unix socket that another process is about to make, and passes on every line that it sends. */
export async function connectLines(
  path: string,
  onLine: (line: string) => void,
  timeoutMs = 10_000,
): Promise<Socket> {
  const giveUpAt = performance.now() + timeoutMs;
  for (;;) {
    const socket = await connect(path);
    if (socket instanceof Error) {
      if (performance.now() > giveUpAt) throw socket;
      await delay(20);
      continue;
    }
    let rest = '';
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) onLine(line);
    });
    // After a reset, the exit of the machine's process reports the end.
    socket.on('error', () => undefined);
    return socket;
  }
}

function connect(path: string): Promise<Socket | Error> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once('connect', () => resolve(socket));
    socket.once('error', resolve);
  });
}
