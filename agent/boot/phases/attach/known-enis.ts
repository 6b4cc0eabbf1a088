// The ENIs of this instance as EC2 last described them, for a boot that EC2 does not answer. The file's name has the instance
// ID, so an image made from this machine does not use it elsewhere.
import { STATE_DIR } from '../../../host/names.ts';
import { list, shape, text } from '../../../host/shape.ts';
import { readIfPresent, readJsonIfPresent } from '../../../port/fs.ts';
import type { WantedFile } from '../../change.ts';

/** ENIs of this instance as EC2 last described them: pod ENIs and foreign ENIs. */
export interface KnownEnis {
  pods: string[];
  foreign: string[];
}

/** The file that holds these ENIs. */
export function enisFile(instanceId: string, enis: KnownEnis): WantedFile {
  const path = fileOf(instanceId);
  return { path, text: `${JSON.stringify(enis)}\n`, mode: 0o600, found: readIfPresent(path) };
}

/** undefined on the first boot, and when the file is damaged: then EC2 has to be asked. */
export function recallEnis(instanceId: string): KnownEnis | undefined {
  const value = readJsonIfPresent(fileOf(instanceId));
  return isKnownEnis(value) ? value : undefined;
}

function fileOf(instanceId: string): string {
  return `${STATE_DIR}/${instanceId}/enis.json`;
}

const isKnownEnis = shape<KnownEnis>({ pods: list(text()), foreign: list(text()) });
