import type { Eni } from '../ec2/state.ts';
import type { DeviceFault } from '../faults.ts';

/** What an instance's ENIs are plugged into: namespaces, or a VM. */
export interface Body {
  /** Connects the ENIs that are attached now, boot ENI first, and lets the machine run. */
  powerOn(): Promise<void>;
  powerOff(): Promise<void>;
  /** Connects one more ENI while it runs. */
  plug(eni: Eni, fault: DeviceFault): Promise<void>;
  /** Takes one away; nothing happens when it was never connected. */
  unplug(eni: Eni): Promise<void>;
  /** The device an ENI came as. */
  deviceOf(eniId: string): string | undefined;
  /** Forgets everything the machine kept. */
  destroy(): Promise<void>;
}
