// A node on which operations are played: the interface that all drivers have.
import type { Cloud, Instance } from '../aws/index.ts';
import type { Look } from './look.ts';
import type { Operation } from './operations.ts';

export interface Called {
  /** null when a signal ended the program. */
  exit: number | null;
  stdout: string;
  stderr: string;
  /** The SIGKILL came before the program had ended. */
  killed: boolean;
}

export interface Machine {
  cloud: Pick<Cloud, 'vpc' | 'ec2' | 'faults' | 'calls' | 'latency' | 'settled' | 'leakReport'>;
  instance: Pick<Instance, 'id' | 'enis'>;
  /** Operations that this driver cannot do. */
  lacks: ReadonlySet<Operation['kind']>;
  /**
   * Calls the plugin as a runtime does. A kill is a SIGKILL to the plugin, and not to its children, so many milliseconds after its
   * start, or at the nearest moment that the driver has.
   */
  cni(
    command: string,
    variables: Record<string, string>,
    config: object,
    killAfterMs: number | undefined,
  ): Promise<Called>;
  /** Runs a command of the agent. */
  eniboot(args: string[], killAfterMs: number | undefined): Promise<Called>;
  /** Waits until the children of killed programs have ended. */
  settle(): Promise<void>;
  addNamespaces(names: string[]): Promise<void>;
  /** Deletes a namespace; returns the interfaces that were in it, without `lo`. */
  endNamespace(name: string): Promise<string[]>;
  flushNft(): Promise<void>;
  /** Sets the list of the runtime's sandboxes. */
  sandboxes(ids: string[]): Promise<void>;
  look(namespaces: string[]): Promise<Look>;
  /** Lets so many milliseconds pass. */
  pause(ms: number): Promise<void>;
  /** Moves the boot clock on, as after a suspension of the machine. */
  wait(seconds: number): Promise<void>;
  /** Power cycle, with a new boot clock, and eniboot's boot up to READY; its first run may be killed. */
  reboot(killBootAfterMs: number | undefined): Promise<void>;
}
