// A node that operations are done to: what the drivers have in common.
import type { Cloud, Instance } from '../aws/index.ts';
import type { Look } from './look.ts';
import type { Operation } from './operations.ts';

export interface Called {
  /** null when a signal ended it. */
  exit: number | null;
  stdout: string;
  stderr: string;
  /** The SIGKILL came before it had ended. */
  killed: boolean;
}

export interface Machine {
  cloud: Pick<Cloud, 'vpc' | 'ec2' | 'faults' | 'calls' | 'latency' | 'settled' | 'leakReport'>;
  instance: Pick<Instance, 'id' | 'enis'>;
  /** What cannot happen to it. */
  lacks: ReadonlySet<Operation['kind']>;
  /**
   * The plugin, called as a runtime does. A kill is a SIGKILL to it, and to nothing it has started, so many
   * milliseconds after its start, or what comes nearest.
   */
  cni(
    command: string,
    variables: Record<string, string>,
    config: object,
    killAfterMs: number | undefined,
  ): Promise<Called>;
  /** The agent's command. */
  eniboot(args: string[], killAfterMs: number | undefined): Promise<Called>;
  /** Waits until what killed programs had started has ended. */
  settle(): Promise<void>;
  addNamespaces(names: string[]): Promise<void>;
  /** Deletes a namespace; the interfaces that were in it, without `lo`. */
  endNamespace(name: string): Promise<string[]>;
  flushNft(): Promise<void>;
  /** What the runtime lists from now on. */
  sandboxes(ids: string[]): Promise<void>;
  look(namespaces: string[]): Promise<Look>;
  /** Lets so many milliseconds pass. */
  pause(ms: number): Promise<void>;
  /** Moves the boot clock on, as a suspended machine's does. */
  wait(seconds: number): Promise<void>;
  /** Power cycle, with a boot clock that starts anew, and eniboot's boot up to READY; its first run may be killed. */
  reboot(killBootAfterMs: number | undefined): Promise<void>;
}
