// Moments of a boot, as seen from outside.
import type { PhaseName } from '../../../agent/boot/phase.ts';
import type { Instance } from '../../aws/index.ts';

/** Resolves when the phase has begun (or the signal says that the boot is over). */
export async function phaseBegun(instance: Instance, name: PhaseName, over: AbortSignal): Promise<void> {
  await until(() => {
    const text = instance.read('/run/eniboot/status.json');
    if (text === undefined) return false;
    const status = JSON.parse(text) as { phases: { name: string; state: string }[] };
    return status.phases.some((phase) => phase.name === name && phase.state !== 'pending');
  }, over);
}

export async function until(holds: () => boolean, over: AbortSignal): Promise<void> {
  while (!over.aborted && !holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}
