import type { Eni } from '../ec2/state.ts';
import type { DeviceFault } from '../faults.ts';

/** The machine that an instance's ENIs are plugged into: namespaces, or a VM. */
export interface Body {
  /** Connects the attached ENIs, boot ENI first, and lets the machine run. */
  powerOn(): Promise<void>;
  powerOff(): Promise<void>;
  /** Connects an ENI while the machine runs. */
  plug(eni: Eni, fault: DeviceFault): Promise<void>;
  /** Takes an ENI away; does nothing when it was never connected. */
  unplug(eni: Eni): Promise<void>;
  /** Name of the ENI's device. */
  deviceOf(eniId: string): string | undefined;
  /** Deletes everything that the machine kept. */
  destroy(): Promise<void>;
}
