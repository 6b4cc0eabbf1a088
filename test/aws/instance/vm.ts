// An instance that is a VM and that the caller runs: its ENIs are taps in this namespace.
import type { Eni } from '../ec2/state.ts';
import type { DeviceFault } from '../faults.ts';
import { type Network, portName } from '../network/network.ts';
import type { Body } from './body.ts';

/** Called when EC2 decides something about the VM. */
export interface VmHooks {
  /** An ENI was attached after launch: its tap exists and is connected. */
  onPlug(eni: Eni, tap: string): Promise<void>;
  /** Called before the tap is removed. */
  onUnplug(eni: Eni, tap: string): Promise<void>;
  /** The API asked for a change of power. After `start`, the taps of every attached ENI exist again. */
  onPower?(action: 'reboot' | 'stop' | 'start' | 'terminate'): Promise<void>;
}

export function createVm(hooks: VmHooks, present: () => Eni[], network: Network): Body {
  const taps = new Map<string, string>();

  async function connect(eni: Eni, fault: DeviceFault): Promise<string> {
    const tap = portName(eni);
    taps.set(eni.id, tap);
    await network.plug(eni, {
      kind: 'tap',
      device: tap,
      mtu: fault.mtu ?? 9001,
      carrier: fault.noCarrier !== true,
    });
    return tap;
  }

  return {
    powerOn: async () => {
      for (const eni of present()) if (!taps.has(eni.id)) await connect(eni, {});
    },
    // Taps stay: a guest that reboots keeps its cards, and QEMU holds them open.
    powerOff: async () => {},
    plug: async (eni, fault) => {
      if (fault.never !== true && !taps.has(eni.id)) await hooks.onPlug(eni, await connect(eni, fault));
    },
    unplug: async (eni) => {
      const tap = taps.get(eni.id);
      if (tap === undefined) return;
      await hooks.onUnplug(eni, tap);
      taps.delete(eni.id);
      await network.unplug(eni.id);
    },
    deviceOf: (eniId) => taps.get(eniId),
    destroy: async () => {
      for (const id of taps.keys()) await network.unplug(id);
      taps.clear();
    },
  };
}
