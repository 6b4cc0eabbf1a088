// The part of a driver that is the same wherever programs can be run: on this machine, or in a VM.
import { setTimeout as delay } from 'node:timers/promises';
import { ENIBOOT } from '../boot/node.ts';
import { insideOf, LOOK, readLook } from './look.ts';
import type { Called, Machine } from './machine.ts';

const PLUGIN = '/opt/cni/bin/eniboot';

export interface CallOptions {
  env?: Record<string, string>;
  input?: string;
  killAfterMs?: number | undefined;
  /** A program that runs longer is killed as well, and this is an error; default 150 s. */
  endAfterMs?: number;
}

export interface Shell {
  /** Runs a program under the machine's boot clock. */
  call(file: string, args: string[], options: CallOptions): Promise<Called>;
  /** Runs a script under the machine's boot clock; throws when it fails. */
  sh(script: string): Promise<string>;
}

type Made = Pick<
  Machine,
  | 'cni'
  | 'eniboot'
  | 'settle'
  | 'addNamespaces'
  | 'endNamespace'
  | 'flushNft'
  | 'sandboxes'
  | 'look'
  | 'pause'
>;

export function throughShell({ call, sh }: Shell, instance: Machine['instance']): Made {
  return {
    cni: (command, variables, config, killAfterMs) =>
      call(PLUGIN, [], {
        env: { CNI_COMMAND: command, CNI_PATH: '/opt/cni/bin', ...variables },
        input: JSON.stringify(config),
        killAfterMs,
      }),
    eniboot: (args, killAfterMs) => call(ENIBOOT, args, { killAfterMs }),
    async settle() {
      await sh(
        `for try in $(seq 200); do pgrep -P 1 -f -- '-batch|stand-in/switch' >/dev/null || exit 0; sleep 0.05; done; exit 1`,
      );
    },
    async addNamespaces(names) {
      await sh(names.map((name) => `ip netns add ${name}`).join('; '));
    },
    async endNamespace(name) {
      return insideOf((await sh(`ip -n ${name} -br link; ip netns del ${name}`)).split('\n')) ?? [];
    },
    async flushNft() {
      await sh('nft delete table inet eniboot 2>/dev/null || :');
    },
    async sandboxes(ids) {
      const items = ids.map((id) => ({ id, metadata: { name: id, namespace: 'n' } }));
      await sh(`cat > /run/model/sandboxes.json <<'EOF'\n${JSON.stringify({ items })}\nEOF`);
    },
    async look(namespaces) {
      const inside = namespaces.map(
        (name) =>
          `echo == inside ${name}; if [ -e /run/netns/${name} ]; then ip -n ${name} -br addr; else echo gone; fi`,
      );
      return readLook(await sh(`${LOOK}${inside.join('\n')}\n:`), namespaces, instance);
    },
    pause: (ms) => delay(ms),
  };
}
