import { hasCode, listIfPresent, readBytesIfPresent } from '../port/fs.ts';
import type { ConfigSource } from './load.ts';
import { userDataSources } from './userdata.ts';

const configFile = '/etc/eniboot/config.yaml';
const dropInFolder = '/etc/eniboot/config.d';
/** One byte more than a document may have: enough to see that it is too large. */
const readLimit = 64 * 1024 + 1;

/**
 * Where configuration stands on a node, from lowest to highest precedence: /etc/eniboot/config.yaml, the
 * drop-ins /etc/eniboot/config.d/*.yaml by name, and what the user data holds (as IMDS gives it: bytes, since
 * it may be compressed). Absent files are passed over; unreadable ones become refused sources.
 */
export function readConfigSources(extra: { userData?: Uint8Array | string } = {}): ConfigSource[] {
  return [
    ...(readSource(configFile) ?? []),
    ...dropIns(),
    ...(extra.userData === undefined ? [] : userDataSources(extra.userData)),
  ];
}

/**
 * The source at this path, undefined when there is no such file. A file may also hold user data
 * (MIME, gzip, base64): then its configuration parts.
 */
export function readSource(path: string): ConfigSource[] | undefined {
  let content: Uint8Array | undefined;
  try {
    content = readBytesIfPresent(path, readLimit);
  } catch (error) {
    return [{ name: path, refused: unreadable(error) }];
  }
  if (content === undefined) return undefined;
  return [{ name: path, content }];
}

function dropIns(): ConfigSource[] {
  let names: string[];
  try {
    names = listIfPresent(dropInFolder);
  } catch (error) {
    return [{ name: dropInFolder, refused: unreadable(error) }];
  }
  return names.flatMap((name) => {
    const path = `${dropInFolder}/${name}`;
    if (name.startsWith('.')) return [];
    if (name.endsWith('.yaml')) {
      const problem = 'is a link to a file that does not exist';
      return (
        readSource(path) ?? [{ name: path, refused: { problem, remedy: 'Correct the link or remove it.' } }]
      );
    }
    if (!/\.(yml|json|ya?ml\.txt|yaml)$/i.test(name)) return [];
    const remedy = `Rename it to ${name.replace(/\.[^.]*$|\.ya?ml\.txt$/i, '')}.yaml, or remove it.`;
    return [{ name: path, refused: { problem: 'is not read: only names in .yaml are', remedy } }];
  });
}

function unreadable(error: unknown): { problem: string; remedy: string } {
  if (hasCode(error, 'EISDIR')) {
    return { problem: 'is a folder', remedy: 'Put a file in its place, or remove it.' };
  }
  if (hasCode(error, 'EACCES', 'EPERM')) {
    return {
      problem: 'cannot be read: permission denied',
      remedy: 'Run this as root, or correct the mode of the file.',
    };
  }
  const reason = error instanceof Error ? error.message : String(error);
  return { problem: `cannot be read: ${reason}`, remedy: 'Check the file system and the file.' };
}
