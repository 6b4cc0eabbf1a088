// A version's manifest, and whether the version's files are those of the manifest.
import { type Digest, digestOf } from '../../host/digest.ts';
import { Failure } from '../../messages/failure.ts';
import { hasCode, readIfPresent } from '../../port/fs.ts';

/** manifest.json, beside the executable; written by the build. */
export interface Manifest {
  version: string;
  files: { path: string; sha256: string }[];
  /** Names in the plugin folder; all are links to the executable. */
  plugins: string[];
  /** Families of the nftables tables that this version keeps on a node. */
  tables?: string[];
}

export interface FileDigest extends Digest {
  path: string;
}

/** @throws MANIFEST_MISSING when it is absent or damaged. */
export function readManifest(folder: string): Manifest {
  const path = `${folder}/manifest.json`;
  const text = readIfPresent(path);
  if (text === undefined) throw new Failure('MANIFEST_MISSING', `${path} is not there`, { path });
  try {
    const value = JSON.parse(text) as Partial<Manifest>;
    if (typeof value.version === 'string' && Array.isArray(value.files) && Array.isArray(value.plugins)) {
      return value as Manifest;
    }
  } catch {
    // Falls through: damaged text and a wrong shape are the same to the reader.
  }
  throw new Failure('MANIFEST_MISSING', `${path} is damaged`, { path });
}

/**
 * Digests of all files, as `hash` finds them. By default each file is hashed once in a boot.
 * @throws BAD_DIGEST for the first file that is missing or differs from the manifest.
 */
export async function checkFiles(
  folder: string,
  manifest: Manifest,
  hash: (path: string) => Promise<Digest> = digestOf,
): Promise<FileDigest[]> {
  return Promise.all(
    manifest.files.map(async (file) => {
      const path = `${folder}/${file.path}`;
      const { sha256, ms } = await hash(path).catch((error: unknown) => {
        if (!hasCode(error, 'ENOENT')) throw error;
        throw new Failure('BAD_DIGEST', `${path} is missing`, { path });
      });
      const facts = { path, wanted: file.sha256, actual: sha256 };
      if (sha256 !== file.sha256)
        throw new Failure('BAD_DIGEST', `${path} is not what its manifest says`, facts);
      return { path, sha256, ms };
    }),
  );
}
