// Finds eniboot's configuration in EC2 user data, which it shares with cloud-init and shell scripts.
import { bounds } from '../port/bounds.ts';
import { gunzip } from '../port/gunzip.ts';
import { isMultipart, mimeParts } from './mime.ts';
import type { ConfigSource } from './source.ts';

/** Media type of a part that holds configuration. */
export const configMediaType = 'application/vnd.eniboot.config+yaml';
/** First line of a text that holds configuration. */
export const configMarker = '#eniboot-config';

/** gzip, base64 and MIME around one another: more layers than any tool makes. */
const maximumLayers = 6;

/**
 * The configuration in user data, lowest precedence first; empty when it holds none. Taken are a text whose
 * first line is `#eniboot-config`, and in a MIME multipart message such a text or a part of type
 * application/vnd.eniboot.config+yaml; each of them plain, gzipped or in base64, as cloud-init takes its own.
 * Never throws: what is eniboot's and cannot be read becomes a refused source.
 */
export function userDataSources(userData: Uint8Array | string, name = 'user data'): ConfigSource[] {
  // A string stands for its bytes in UTF-8.
  const bytes = typeof userData === 'string' ? Buffer.from(userData) : userData;
  const sources = unwrap(bytes, name, false, {
    layers: maximumLayers,
    budget: { left: bounds.userDataBytes },
  });
  if (sources.length <= bounds.userDataDocuments) return sources;
  const problem = `holds ${sources.length} documents, more than ${bounds.userDataDocuments}`;
  return [{ name, refused: { problem, remedy: 'Put the configuration into one.' } }];
}

/** What is left: of layers on the way down, and of bytes for all parts together. */
interface Room {
  layers: number;
  budget: { left: number };
}

function unwrap(bytes: Uint8Array, name: string, ours: boolean, room: Room): ConfigSource[] {
  if (room.layers === 0) return [];
  const within = { ...room, layers: room.layers - 1 };
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) {
    try {
      const unpacked = gunzip(bytes, room.budget.left);
      room.budget.left -= unpacked.length;
      return unwrap(unpacked, name, ours, within);
    } catch {
      const remedy = 'Compress it again with gzip; EC2 cuts nothing off, it refuses more than 16 KiB.';
      return [
        {
          name,
          refused: {
            problem: 'is gzip that cannot be unpacked, or unpacks to over 1 MiB with all its parts',
            remedy,
          },
        },
      ];
    }
  }
  const latin = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
  const text = latin.replace(/^\u00ef\u00bb\u00bf/, '');
  if (isMultipart(text)) return fromParts(text, name, within);
  const firstLine = (text.split('\n', 1)[0] ?? '').trimEnd();
  if (ours || firstLine === configMarker) return [{ name, content: bytes }];
  if (/^#\s*eniboot[\s_-]?config$/i.test(firstLine)) {
    const problem = `begins with ${JSON.stringify(firstLine.slice(0, 40))}, which is nearly but not ${configMarker}`;
    return [{ name, refused: { problem, remedy: `Write the first line as ${configMarker}, nothing else.` } }];
  }
  const packed = text.replace(/\s+/g, '');
  if (packed.length >= 16 && packed.length % 4 === 0 && /^[A-Za-z0-9+/]+={0,2}$/.test(packed)) {
    return unwrap(Buffer.from(packed, 'base64'), name, false, within);
  }
  return [];
}

function fromParts(text: string, name: string, within: Room): ConfigSource[] {
  return mimeParts(text).flatMap((part, index) => {
    const partName = `${name}, part ${index + 1}${part.filename === undefined ? '' : ` (${part.filename})`}`;
    const sources = unwrap(part.body, partName, part.type === configMediaType, within);
    if (sources.length === 0 || !part.cut) return sources;
    const remedy =
      'Check the boundary in its Content-Type header and the last line, which ends in two dashes.';
    return [{ name: partName, refused: { problem: 'ends before its closing MIME boundary', remedy } }];
  });
}
