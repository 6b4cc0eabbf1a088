import { connectLines } from './lines.ts';

interface QmpMessage {
  id?: number;
  return?: unknown;
  error?: { class: string; desc: string };
  event?: string;
  data?: Record<string, unknown>;
}

/** QEMU's machine protocol: commands out, answers and events in. */
export interface Qmp {
  command(name: string, args?: Record<string, unknown>): Promise<unknown>;
  /** Runs a line of the human monitor, the only one that has savevm; throws its error message. */
  monitor(line: string): Promise<void>;
  /** Resolves at the next event of that name whose data match. */
  event(name: string, matches: (data: Record<string, unknown>) => boolean, timeoutMs: number): Promise<void>;
  close(): void;
}

export async function connectQmp(path: string): Promise<Qmp> {
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  const listeners = new Set<(message: QmpMessage) => void>();
  let lastId = 0;

  const socket = await connectLines(path, (line) => {
    const message = JSON.parse(line) as QmpMessage;
    if (message.event !== undefined) {
      for (const listener of listeners) listener(message);
      return;
    }
    const request = waiting.get(message.id ?? -1);
    if (request === undefined) return;
    waiting.delete(message.id ?? -1);
    if (message.error === undefined) request.resolve(message.return);
    else request.reject(new Error(`QEMU: ${message.error.desc}`));
  });
  socket.on('close', () => {
    for (const { reject } of waiting.values()) reject(new Error('QEMU closed its control socket'));
    waiting.clear();
  });

  function command(name: string, args: Record<string, unknown> = {}): Promise<unknown> {
    lastId += 1;
    const id = lastId;
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      socket.write(`${JSON.stringify({ execute: name, arguments: args, id })}\n`);
    });
  }

  await command('qmp_capabilities');
  return {
    command,
    monitor: async (line) => {
      const answer = await command('human-monitor-command', { 'command-line': line });
      if (typeof answer === 'string' && answer.trim() !== '')
        throw new Error(`QEMU: ${line}: ${answer.trim()}`);
    },
    event: (name, matches, timeoutMs) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          listeners.delete(listener);
          reject(new Error(`QEMU: no ${name} within ${timeoutMs} ms`));
        }, timeoutMs);
        function listener(message: QmpMessage): void {
          if (message.event !== name || !matches(message.data ?? {})) return;
          clearTimeout(timer);
          listeners.delete(listener);
          resolve();
        }
        listeners.add(listener);
      }),
    close: () => socket.destroy(),
  };
}
