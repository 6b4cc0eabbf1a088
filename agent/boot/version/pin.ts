// A rollout updates nodes before their zone's parameter names the version; a node that boots meanwhile comes up on the version
// before. A node that was updated keeps the new version over a reboot, until the parameter is written again: with the next
// version or, in a rollback, with the old one once more.
import { rmSync } from 'node:fs';
import type { ReadParameter } from '../../aws/ssm.ts';
import { STATE_DIR } from '../../host/names.ts';
import { readJsonIfPresent, writeAtomic } from '../../port/fs.ts';

export interface Pin {
  version: string;
  /** The zone's parameter at that time; null without one. */
  zoneSaid: ReadParameter | null;
  /** The rollout that pinned the version; undefined for an operator. */
  rollout: string | undefined;
  /** The version that ran before; undefined when the version that wrote the pin is too old to note it. */
  from: string | undefined;
}

export function readPin(instanceId: string): Pin | undefined {
  const value = readJsonIfPresent(pathOf(instanceId)) as Partial<Pin> | null | undefined;
  // A damaged file: the node follows its zone.
  return typeof value?.version === 'string'
    ? { version: value.version, zoneSaid: value.zoneSaid ?? null, rollout: value.rollout, from: value.from }
    : undefined;
}

export function writePin(instanceId: string, pin: Pin): void {
  writeAtomic(pathOf(instanceId), `${JSON.stringify(pin)}\n`);
}

export function forgetPin(instanceId: string): void {
  rmSync(pathOf(instanceId), { recursive: true, force: true });
}

export function isAhead(pin: Pin | undefined, running: string, zoneSays: ReadParameter): boolean {
  const { value, version } = pin?.zoneSaid ?? {};
  return pin?.version === running && value === zoneSays.value && version === zoneSays.version;
}

function pathOf(instanceId: string): string {
  return `${STATE_DIR}/${instanceId}/version.json`;
}
