// Settings of eniboot-policy.service. Boot writes them, since it has resolved the configuration.
import { readFileSync } from 'node:fs';
import * as v from 'valibot';
import { RUN_DIR } from '../host/names.ts';
import { Failure } from '../messages/failure.ts';
import { readJsonIfPresent } from '../port/fs.ts';
import type { Identity } from '../port/https.ts';

export const POLICY_FILE = `${RUN_DIR}/policy.json`;

/** Paths of PEM files: a token, or a certificate with its key. */
const identitySchema = v.object({
  ca: v.string(),
  token: v.optional(v.string()),
  certificate: v.optional(v.string()),
  key: v.optional(v.string()),
});
const settingsSchema = v.object({
  schema: v.literal(1),
  /** https://host[:port] */
  apiServer: v.string(),
  /** The node's name as kubelet uses it. */
  nodeName: v.string(),
  strict: v.boolean(),
  identity: identitySchema,
});

export type Settings = v.InferOutput<typeof settingsSchema>;

export function settingsText(settings: Omit<Settings, 'schema'>): string {
  return `${JSON.stringify({ schema: 1, ...settings }, null, 2)}\n`;
}

/** @throws POLICY_OFF when no policies are in force on this node */
export function readSettings(): Settings {
  const read = v.safeParse(settingsSchema, readJsonIfPresent(POLICY_FILE));
  if (read.success) return read.output;
  throw new Failure('POLICY_OFF', `network policies are not in force on this node: no ${POLICY_FILE}`);
}

/** The present content of the files, which are renewed in place. @throws POLICY_API_FAILED, naming the file */
export function identityOf({ ca, token, certificate, key }: Settings['identity']): Identity {
  return {
    ca: text(ca),
    ...(token !== undefined && { token: text(token).trim() }),
    ...(certificate !== undefined && { cert: text(certificate) }),
    ...(key !== undefined && { key: text(key) }),
  };
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new Failure('POLICY_API_FAILED', `${path} cannot be read: ${String(error)}`, { path }, error);
  }
}
