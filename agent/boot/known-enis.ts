// The ENIs of this instance as EC2 last described them, for a boot that EC2 does not answer. Keyed by instance ID: an image
// made from this machine carries them nowhere.
import { STATE_DIR } from '../host/names.ts';
import { readJsonIfPresent, writeIfChanged } from '../port/fs.ts';

/** ENIs of this instance as EC2 last described them: ours, and those that are not. */
export interface KnownEnis {
  pods: string[];
  foreign: string[];
}

export function rememberEnis(instanceId: string, enis: KnownEnis): void {
  writeIfChanged(fileOf(instanceId), `${JSON.stringify(enis)}\n`, 0o600);
}

/** undefined on the first boot, and when the file is damaged: then EC2 has to be asked. */
export function recallEnis(instanceId: string): KnownEnis | undefined {
  const value = readJsonIfPresent(fileOf(instanceId));
  return isKnownEnis(value) ? value : undefined;
}

function fileOf(instanceId: string): string {
  return `${STATE_DIR}/${instanceId}/enis.json`;
}

function isKnownEnis(value: unknown): value is KnownEnis {
  if (typeof value !== 'object' || value === null) return false;
  return 'pods' in value && Array.isArray(value.pods) && 'foreign' in value && Array.isArray(value.foreign);
}
