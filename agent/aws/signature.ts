// Signatures of releases: the right to write a parameter is not enough to decide what nodes run. Ed25519 (RFC 8032) by Node's
// crypto, with keys in the form that OpenSSL writes (openssl-genpkey(1), RFC 8410): eniboot defines no key format and brings no
// program for keys.
import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import { Failure, messageOf } from '../messages/failure.ts';

/** The signed facts of an archive. The version is one of them, so that an old archive cannot pass as a new version. */
export interface Signed {
  version: string;
  arch: 'x64' | 'arm64';
  sha256: string;
}

/**
 * Signs with the key in the file's text. `publicKey`: its public key, in the form of the nodes' configuration. @throws
 * SIGNING_KEY_UNUSABLE.
 */
export function signer(pem: string, file: string): { publicKey: string; sign: (what: Signed) => string } {
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType !== 'ed25519') throw new Error(`it is of type ${key.asymmetricKeyType}`);
    const publicKey = createPublicKey(key).export({ format: 'der', type: 'spki' }).toString('base64');
    return { publicKey, sign: (what) => sign(null, textOf(what), key).toString('base64') };
  } catch (error) {
    const why = messageOf(error);
    throw new Failure('SIGNING_KEY_UNUSABLE', `${file}: ${why}`, { file }, error);
  }
}

/** Whether one of the keys has signed these facts. Keys: DER of SubjectPublicKeyInfo (RFC 8410, section 4) in base64. */
export function isSignedBy(keys: readonly string[], what: Signed, signature: string): boolean {
  return keys.some((key) => {
    try {
      const publicKey = createPublicKey({ key: Buffer.from(key, 'base64'), format: 'der', type: 'spki' });
      return verify(null, textOf(what), publicKey, Buffer.from(signature, 'base64'));
    } catch {
      // The key is not a point of the curve, so it has signed nothing.
      return false;
    }
  });
}

/** The first line keeps the text different from any other text that is signed with the same key. */
function textOf({ version, arch, sha256 }: Signed): Buffer {
  return Buffer.from(`eniboot bundle 1\nversion ${version}\narchitecture ${arch}\nsha256 ${sha256}\n`);
}
