// Signatures of releases: whoever may write a parameter does not thereby decide what nodes run. Ed25519 (RFC 8032) by
// Node's crypto, with keys as OpenSSL writes them (openssl-genpkey(1), RFC 8410): no key format and no program of our own.
import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import { Failure } from '../messages/failure.ts';

/** What is signed of an archive. The version is in it so that an old archive cannot be passed off as a new version. */
export interface Signed {
  version: string;
  arch: 'x64' | 'arm64';
  sha256: string;
}

/** Signs with a key file's text; also its public key, as nodes' configuration has it. @throws SIGNING_KEY_UNUSABLE. */
export function signer(pem: string, file: string): { publicKey: string; sign: (what: Signed) => string } {
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType !== 'ed25519') throw new Error(`it is of type ${key.asymmetricKeyType}`);
    const publicKey = createPublicKey(key).export({ format: 'der', type: 'spki' }).toString('base64');
    return { publicKey, sign: (what) => sign(null, textOf(what), key).toString('base64') };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Failure('SIGNING_KEY_UNUSABLE', `${file}: ${why}`, { file }, error);
  }
}

/** Whether one of the keys has signed this: DER of SubjectPublicKeyInfo (RFC 8410, section 4) in base64. */
export function isSignedBy(keys: readonly string[], what: Signed, signature: string): boolean {
  return keys.some((key) => {
    try {
      const publicKey = createPublicKey({ key: Buffer.from(key, 'base64'), format: 'der', type: 'spki' });
      return verify(null, textOf(what), publicKey, Buffer.from(signature, 'base64'));
    } catch {
      // Not a point of the curve: nothing is signed by it.
      return false;
    }
  });
}

/** The first line keeps it apart from anything else that is ever signed with the same key. */
function textOf({ version, arch, sha256 }: Signed): Buffer {
  return Buffer.from(`eniboot bundle 1\nversion ${version}\narchitecture ${arch}\nsha256 ${sha256}\n`);
}
