// Moments of a boot, observed from outside.
import type { PhaseName } from '../../../agent/boot/phase.ts';
import type { Instance } from '../../aws/index.ts';
import type { Bench } from './fault.ts';
import { standIn } from './stand-in.ts';

/** Resolves when the phase has begun, or when the signal tells that the boot is over. */
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

const DONE = '/run/fault-done';

/**
 * Makes phase verify wait at its first call of a program, until `faultDone`. Without this the fault could come after the verdict
 * on a busy machine, when no boot would repair it.
 */
export function verifyWaitsAt(program: string): (bench: Bench) => Promise<void> {
  return (bench) =>
    standIn(
      bench,
      program,
      `if grep -A1 '"name": "verify"' /run/eniboot/status.json 2>/dev/null | grep -q running; then
  for i in $(seq 200); do [ -e ${DONE} ] && break; sleep 0.1; done
fi
exec /usr/sbin/${program} "$@"`,
    );
}

export function faultDone({ instance }: Bench): void {
  instance.write(DONE, '');
}
