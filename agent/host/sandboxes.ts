// The pod sandboxes of the container runtimes, listed by crictl. Code that frees an address because its pod is gone
// needs a complete list: every state and every runtime of the machine, or no list at all.
import { Failure } from '../messages/failure.ts';
import { isThere, statIfPresent } from '../port/fs.ts';
import { must } from './command.ts';

export interface Sandbox {
  /** The container ID in the sandbox's CNI calls. */
  id: string;
  namespace: string;
  name: string;
}

/** Sockets on which cri-o and containerd listen by default. */
const SOCKETS = ['/run/crio/crio.sock', '/run/containerd/containerd.sock'];

/** Sockets of the runtimes on this machine; a runtime that has never listened has no socket. */
export function runtimeSockets(): string[] {
  return SOCKETS.filter(isSocket);
}

/**
 * Sandboxes in all states, of every runtime that has a socket.
 *
 * @throws NO_SANDBOX_LIST when there is no runtime, a runtime does not answer, or its answer is not understood.
 */
export async function listSandboxes(): Promise<Sandbox[]> {
  const sockets = runtimeSockets();
  if (sockets.length === 0)
    throw new Failure('NO_SANDBOX_LIST', 'no container runtime listens', { sockets: SOCKETS });
  const lists = await Promise.all(sockets.map(listOf));
  return lists.flat();
}

async function listOf(socket: string): Promise<Sandbox[]> {
  // Without --state and --latest, crictl lists sandboxes in every state.
  const args = ['--runtime-endpoint', `unix://${socket}`, '--timeout', '10s', 'pods', '--output', 'json'];
  const { stdout } = await must('NO_SANDBOX_LIST', 'crictl', args, { timeoutMs: 15_000 });
  const items = parseItems(stdout);
  if (items !== undefined) return items;
  const message = `crictl's list of the sandboxes at ${socket} is not understood`;
  throw new Failure('NO_SANDBOX_LIST', message, { socket, output: stdout.slice(0, 500) });
}

function parseItems(text: string): Sandbox[] | undefined {
  try {
    const { items } = JSON.parse(text) as { items?: unknown };
    if (!Array.isArray(items)) return undefined;
    const sandboxes = items.map(toSandbox);
    return sandboxes.includes(undefined) ? undefined : (sandboxes as Sandbox[]);
  } catch {
    return undefined;
  }
}

function toSandbox(item: unknown): Sandbox | undefined {
  if (typeof item !== 'object' || item === null || !('id' in item)) return undefined;
  if (typeof item.id !== 'string' || item.id === '') return undefined;
  const metadata = ('metadata' in item ? item.metadata : undefined) as
    | { namespace?: unknown; name?: unknown }
    | undefined;
  return {
    id: item.id,
    namespace: typeof metadata?.namespace === 'string' ? metadata.namespace : '',
    name: typeof metadata?.name === 'string' ? metadata.name : '',
  };
}

function isSocket(path: string): boolean {
  return statIfPresent(path)?.isSocket() === true;
}

/** The container runtime of this machine; cri-o when both are installed. */
export function installedRuntime(): 'crio' | 'containerd' {
  const isHere = (name: string) =>
    ['/usr/bin', '/usr/local/bin'].some((folder) => isThere(`${folder}/${name}`));
  return !isHere('crio') && isHere('containerd') ? 'containerd' : 'crio';
}
