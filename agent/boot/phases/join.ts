// What kubelet joins a cluster with: the cluster's CA, compared with its digest, and a bootstrap kubeconfig. The token in it
// comes from a source that only the node reads. It appears in no configuration, in no summary of a change and in no check.
// eniboot passes the token on and does not issue it; kubelet asks for its certificate itself.
import { createHash, X509Certificate } from 'node:crypto';
import { stringify as toYaml } from 'yaml';
import type { InstanceIdentity } from '../../aws/metadata.ts';
import { readVersioned } from '../../aws/ssm.ts';
import type { Config } from '../../config/schema.ts';
import { RUN_DIR } from '../../host/names.ts';
import { Failure, isFailure } from '../../messages/failure.ts';
import { bounds } from '../../port/bounds.ts';
import { isThere, readBytesIfPresent, readIfPresent, statIfPresent } from '../../port/fs.ts';
import type { WantedFile } from '../change.ts';
import type { Context } from '../context.ts';
import type { NodeFacts } from '../facts/facts.ts';
import { releasesNow } from './release.ts';

/** Only root can read it. */
export const BOOTSTRAP_KUBECONFIG = `${RUN_DIR}/join/bootstrap-kubeconfig`;
/** The CA alone, for kubelet's `authentication.x509.clientCAFile`. */
const CLUSTER_CA = `${RUN_DIR}/join/ca.crt`;

type Join = NonNullable<Config['join']>;

/** The files as they should be; for files that the configuration no longer asks for, only the names. */
export interface JoinFiles {
  wanted: WantedFile[];
  dropped: string[];
  /** Why there is no token, on a node that needs none now: kubelet has a certificate. */
  withoutToken?: Failure;
}

/**
 * A boot reads the token again, once in a run, and so does the repair that releases kubelet after a warm pool: by then the
 * boot's token may have run out. Other commands that use the booted configuration (repair, check) take the token from the file
 * while that exists.
 *
 * @throws JOIN_TOKEN_UNUSABLE, JOIN_CA_UNUSABLE, or why Parameter Store failed
 */
export async function observeJoin(
  context: Context,
  config: Config,
  { region }: Pick<InstanceIdentity, 'region'>,
  lifecycleTarget: NodeFacts['lifecycleTarget'],
): Promise<JoinFiles> {
  const { join, apiServer, cluster } = config;
  if (join === undefined || apiServer === undefined)
    return { wanted: [], dropped: [BOOTSTRAP_KUBECONFIG, CLUSTER_CA].filter(isThere) };
  const ca = pinnedCa(join);
  const found = foundAs(BOOTSTRAP_KUBECONFIG, 0o600);
  const keeps = context.mode.asBooted && !releasesNow(context, lifecycleTarget);
  const kept = keeps && found !== undefined ? TOKEN_LINE.exec(found)?.[1] : undefined;
  const token = kept ?? (context.joinToken ??= await tokenOrReason(context, config, join, region));
  const caFile = { path: CLUSTER_CA, mode: 0o644, found: foundAs(CLUSTER_CA, 0o644), text: ca };
  if (isFailure(token)) return { wanted: [caFile], dropped: [], withoutToken: token };
  return {
    wanted: [
      {
        ...{ path: BOOTSTRAP_KUBECONFIG, mode: 0o600, found },
        text: bootstrapKubeconfig(cluster, apiServer.endpoint, ca, token),
        purpose: `what kubelet joins ${cluster} with, its token from ${join.token}`,
      },
      caFile,
    ],
    dropped: [],
  };
}

/** The text of a file that has this mode. A secret that other users may read is written again. */
function foundAs(path: string, mode: number): string | undefined {
  const now = statIfPresent(path)?.mode;
  return now !== undefined && (now & 0o777) === mode ? readIfPresent(path) : undefined;
}

function bootstrapKubeconfig(cluster: string, server: string, ca: string, token: string): string {
  const data = Buffer.from(ca).toString('base64');
  return `# Written by eniboot at every boot; changes here are lost.\n${toYaml({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: cluster, cluster: { server, 'certificate-authority-data': data } }],
    users: [{ name: 'bootstrap', user: { token } }],
    contexts: [{ name: 'bootstrap', context: { cluster, user: 'bootstrap' } }],
    'current-context': 'bootstrap',
  })}`;
}

/** The form of a bootstrap token. Source: Kubernetes reference, "Authenticating with Bootstrap Tokens", Token Format. */
const TOKEN = /^[a-z0-9]{6}\.[a-z0-9]{16}$/;
/** The token's line in YAML: in quotes where the token could be a number. */
const TOKEN_LINE = /^ +token: "?([a-z0-9]{6}\.[a-z0-9]{16})"?$/m;

/**
 * kubelet's certificate in the default --cert-dir. While it is valid, kubelet reads no bootstrap kubeconfig. Source:
 * kubernetes, pkg/kubelet/certificate/bootstrap, LoadClientConfig.
 */
const KUBELET_CERTIFICATE = '/var/lib/kubelet/pki/kubelet-client-current.pem';

/** A node that has joined starts kubelet again also while Parameter Store is silent or the token is gone. */
async function tokenOrReason(context: Context, config: Config, join: Join, region: string) {
  try {
    return await readToken(context, config, join, region);
  } catch (error) {
    if (isFailure(error) && hasCertificate(context.clock.now())) return error;
    throw error;
  }
}

function hasCertificate(now: Date): boolean {
  try {
    const certificate = new X509Certificate(
      readBytesIfPresent(KUBELET_CERTIFICATE, bounds.documentBytes) ?? '',
    );
    return new Date(certificate.validTo) > now;
  } catch {
    return false;
  }
}

async function readToken(context: Context, config: Config, { token: from }: Join, region: string) {
  const text = from.startsWith('ssm:')
    ? await secretParameter(context, config, from.slice('ssm:'.length), region)
    : readFile(from, 'JOIN_TOKEN_UNUSABLE');
  const token = text.trim();
  if (TOKEN.test(token)) return token;
  const form = 'six and sixteen lower-case letters or digits with a dot between them';
  throw new Failure('JOIN_TOKEN_UNUSABLE', `${from} holds no bootstrap token (${form})`, { from });
}

async function secretParameter(context: Context, config: Config, name: string, region: string) {
  const found = await context.waiting(
    readVersioned([name], { region, endpoint: config.aws.endpoints.ssm, imds: context.imds }),
  );
  const parameter = found.get(name);
  if (parameter === undefined)
    throw new Failure('JOIN_TOKEN_UNUSABLE', `there is no parameter ${name} in ${region}`, { from: name });
  // Every role that may read parameters, which many read-only roles may, can read a String. For a SecureString, a role must also
  // be allowed to use its key.
  if (parameter.type !== 'SecureString')
    throw new Failure('JOIN_TOKEN_UNUSABLE', `parameter ${name} is a ${parameter.type}, not a SecureString`, {
      from: name,
    });
  return parameter.value;
}

/** The whole file, or the failure that says what is wrong with it. The failure does not show the content. */
function readFile(path: string, code: 'JOIN_TOKEN_UNUSABLE' | 'JOIN_CA_UNUSABLE'): string {
  let bytes: Uint8Array | undefined;
  try {
    bytes = readBytesIfPresent(path, bounds.documentBytes);
  } catch (error) {
    throw new Failure(code, `${path} cannot be read: ${String(error)}`, { path }, error);
  }
  if (bytes === undefined) throw new Failure(code, `${path} does not exist`, { path });
  return Buffer.from(bytes).toString('utf8');
}

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** The CA's certificates. The operator has named the digest of each. */
function pinnedCa({ ca: from, caCertHashes }: Join): string {
  const text = from.startsWith('/') ? readFile(from, 'JOIN_CA_UNUSABLE') : from;
  const where = from.startsWith('/') ? from : 'join.ca';
  const certificates = text.match(PEM) ?? [];
  if (certificates.length === 0)
    throw new Failure('JOIN_CA_UNUSABLE', `${where} holds no certificate in PEM`, { where });
  for (const pem of certificates) {
    const hash = hashOf(pem, where);
    if (!caCertHashes.includes(hash))
      throw new Failure(
        'JOIN_CA_UNUSABLE',
        `${where} holds a certificate whose public key has ${hash}, which join.caCertHashes does not name`,
        { where, hash },
      );
  }
  return `${certificates.join('\n')}\n`;
}

/** As `kubeadm token create --print-join-command` prints it: the digest of the certificate's SubjectPublicKeyInfo. */
function hashOf(pem: string, where: string): string {
  try {
    const key = new X509Certificate(pem).publicKey.export({ type: 'spki', format: 'der' });
    return `sha256:${createHash('sha256').update(key).digest('hex')}`;
  } catch (error) {
    throw new Failure(
      'JOIN_CA_UNUSABLE',
      `${where} holds a certificate that cannot be read`,
      { where },
      error,
    );
  }
}
