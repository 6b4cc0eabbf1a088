import { bounds } from '../port/bounds.ts';
import { hasCode, listIfPresent, readBytesIfPresent } from '../port/fs.ts';
import { type ConfigSource, configMarker, configMediaType } from './source.ts';
import { readUserData } from './userdata.ts';

const folder = '/etc/eniboot';
const fileName = 'config.yaml';
const dropInFolder = `${folder}/config.d`;
/** One byte more than a document may have: enough to see that it is too large. */
const readLimit = bounds.documentBytes + 1;

/**
 * The sources of configuration on a node, from lowest to highest precedence: /etc/eniboot/config.yaml, the drop-ins
 * /etc/eniboot/config.d/*.yaml by name, and the user data (as IMDS gives it: bytes, since it may be compressed). Absent files
 * are skipped; unreadable ones become refused sources.
 */
export function readConfigSources(extra: { userData?: Uint8Array | string } = {}): ConfigSource[] {
  return [
    ...listed(folder, (name) => (name === fileName ? readListed(`${folder}/${name}`) : [])),
    ...listed(dropInFolder, dropIn),
    ...(extra.userData === undefined ? [] : readUserData(extra.userData).sources),
  ];
}

/**
 * The sources in a file that an operator names: a configuration, or user data (MIME, gzip, base64) from which only the
 * configuration is taken. `isUserData`: reads the file as a node reads the instance's user data.
 */
export function readFileSources(path: string, isUserData = false): ConfigSource[] {
  const source = readSource(path);
  if (source === undefined) {
    return [{ name: path, refused: { problem: 'does not exist', remedy: 'Check the path.' } }];
  }
  if (!('content' in source)) return [source];
  const { sources, others, isText } = readUserData(source.content, path);
  const isOurs = sources.some((one) => !('passedOver' in one));
  if (isUserData) return sources;
  // A file for /etc/eniboot may begin with any comment; in user data the first line decides.
  if (isText && /\.(?:ya?ml|json)$/i.test(path)) return [source, ...sources.flatMap(inUserData)];
  if (isOurs) return sources;
  if (others.length === 0) return [source, unmarked(path)];
  const problem = `is user data without a part of type ${configMediaType} or one that begins with ${configMarker}: ${others.slice(0, 5).join(', ')}`;
  const remedy = 'Add that type or that first line to the part.';
  return [...sources, { name: path, refused: { problem, remedy } }];
}

/** What a node would refuse in this file if it were user data, for a file that a node would read from /etc/eniboot. */
function inUserData(source: ConfigSource): ConfigSource[] {
  if (!('refused' in source)) return [];
  const { problem, ...rest } = source.refused;
  return [{ name: source.name, passedOver: { ...rest, problem: `${problem}: in user data it is refused` } }];
}

/** A file that may be user data, and was read as configuration. */
function unmarked(path: string): ConfigSource {
  const problem = `does not begin with ${configMarker}: in user data it would not be read`;
  const remedy = `Make ${configMarker} its first line, or give it a name in .yaml when it is for ${folder}.`;
  return { name: path, passedOver: { problem, remedy, line: 1 } };
}

/** The file's content; undefined when there is no file. */
function readSource(path: string): ConfigSource | undefined {
  try {
    const content = readBytesIfPresent(path, readLimit);
    return content === undefined ? undefined : { name: path, content };
  } catch (error) {
    return { name: path, refused: unreadable(error) };
  }
}

/** What `read` returns for each name in a folder, in order. */
function listed(path: string, read: (name: string) => ConfigSource[]): ConfigSource[] {
  try {
    return listIfPresent(path).flatMap(read);
  } catch (error) {
    return [{ name: path, refused: unreadable(error) }];
  }
}

function readListed(path: string): ConfigSource[] {
  const problem = 'is a link to a file that does not exist';
  const remedy = 'Correct the link or remove it.';
  return [readSource(path) ?? { name: path, refused: { problem, remedy } }];
}

function dropIn(name: string): ConfigSource[] {
  const path = `${dropInFolder}/${name}`;
  if (name.startsWith('.')) return [];
  if (name.endsWith('.yaml')) return readListed(path);
  // A file of this name was most likely meant to be read. Backup files of editors and package managers were not.
  if (!/\.(ya?ml|json)(\.txt)?$/i.test(name)) return [];
  const remedy = `Rename it to ${name.replace(/\.(ya?ml|json)(\.txt)?$/i, '')}.yaml, or remove it.`;
  return [{ name: path, refused: { problem: 'is not read: only names in .yaml are', remedy } }];
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
