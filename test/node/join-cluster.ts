// A cluster that nodes join by themselves. It has a CA of its own, tokens in Parameter Store, and the objects that
// plain TLS bootstrap and kubeadm need, from the files of docs/join.md.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, parseAllDocuments, stringify } from 'yaml';
import type { Cloud } from '../aws/index.ts';
import { type ControlPlane, startControlPlane } from './control.ts';
import { ensureBuilt, modules, versionOf } from './fetch.ts';

export const EXAMPLES = join(import.meta.dirname, '../../docs/examples/join');

export type Way = 'tls' | 'kubeadm';

/** The group of nodes that a token admits: for plain TLS bootstrap as in rbac.yaml, for kubeadm as kubeadm sets it. */
const GROUPS: Record<Way, string> = {
  tls: 'system:bootstrappers:prod-a',
  kubeadm: 'system:bootstrappers:kubeadm:default-node-token',
};

export interface JoinCluster {
  cloud: Cloud;
  control: ControlPlane;
  /** No token may appear in any output or file outside its place. */
  tokens: Record<Way, string>;
}

/** @param work folder for its data. @param certificateSeconds for which a node's certificate is valid */
export async function startJoinCluster(
  cloud: Cloud,
  work: string,
  certificateSeconds: number,
): Promise<JoinCluster> {
  const control = await startControlPlane(cloud, work, [], { joining: { certificateSeconds } });
  try {
    const tokens = { tls: newToken(), kubeadm: newToken() };
    prepareKubeadm(control, mkdtempSync(join(work, 'kubeadm-')));
    for (const document of parseAllDocuments(readFileSync(join(EXAMPLES, 'tls/rbac.yaml'), 'utf8')))
      await control.call('POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', document.toJS());
    for (const way of ['tls', 'kubeadm'] as const) {
      await control.call(
        'POST',
        '/api/v1/namespaces/kube-system/secrets',
        tokenSecret(tokens[way], GROUPS[way]),
      );
      const Name = parameterOf(way);
      cloud.ssm.send('PutParameter', { Name, Value: tokens[way], Type: 'SecureString' });
    }
    cloud.ssm.put('/eniboot/prod-a/ca', control.ca);
    return { cloud, control, tokens };
  } catch (error) {
    await control.stop();
    throw error;
  }
}

/** After this the token admits no node, as after its end. */
export async function revokeToken({ control, tokens }: JoinCluster, way: Way): Promise<void> {
  const [id] = tokens[way].split('.');
  await control.call('DELETE', `/api/v1/namespaces/kube-system/secrets/bootstrap-token-${id}`);
}

/** The sections `apiServer` and `join` of docs/examples/join/node.yaml, with this cluster's address, digest and token. */
export function joinSections({ control }: JoinCluster, way: Way): Record<string, object> {
  const { apiServer, join: section } = parse(readFileSync(join(EXAMPLES, 'node.yaml'), 'utf8'));
  return {
    apiServer: { ...apiServer, endpoint: control.url },
    join: { ...section, token: `ssm:${parameterOf(way)}`, caCertHashes: [hashOf(control.ca)] },
  };
}

function parameterOf(way: Way): string {
  return way === 'tls' ? '/eniboot/prod-a/join-token' : '/eniboot/prod-a/kubeadm-token';
}

/** In the form that kubeadm prints. */
function hashOf(pem: string): string {
  const key = new X509Certificate(pem).publicKey.export({ type: 'spki', format: 'der' });
  return `sha256:${createHash('sha256').update(key).digest('hex')}`;
}

function newToken(): string {
  return `${randomBytes(3).toString('hex')}.${randomBytes(8).toString('hex')}`;
}

/** Source: Kubernetes reference, "Authenticating with Bootstrap Tokens", Bootstrap Token Secret Format. */
function tokenSecret(token: string, group: string): object {
  const [id = '', secret = ''] = token.split('.');
  return {
    metadata: { name: `bootstrap-token-${id}` },
    type: 'bootstrap.kubernetes.io/token',
    stringData: {
      ...{ 'token-id': id, 'token-secret': secret, 'auth-extra-groups': group },
      ...{ 'usage-bootstrap-authentication': 'true', 'usage-bootstrap-signing': 'true' },
      expiration: new Date(Date.now() + 3_600_000).toISOString(),
    },
  };
}

/**
 * Makes the objects that `kubeadm init` leaves in a cluster beside the control plane itself: ConfigMaps, RBAC and
 * cluster-info.
 */
function prepareKubeadm(control: ControlPlane, folder: string): void {
  const program = join(
    ensureBuilt(modules.kubeadm, () => {}),
    'kubeadm',
  );
  const [config, admin] = [join(folder, 'init.yaml'), join(folder, 'admin.conf')];
  const { hostname: advertiseAddress, host } = new URL(control.url);
  const kinds = [
    {
      kind: 'InitConfiguration',
      localAPIEndpoint: { advertiseAddress },
      nodeRegistration: { criSocket: 'unix:///none' },
    },
    {
      ...{ kind: 'ClusterConfiguration', kubernetesVersion: versionOf(modules.cluster) },
      ...{ controlPlaneEndpoint: host, networking: { serviceSubnet: '172.20.0.0/16' } },
    },
  ].map((one) => stringify({ apiVersion: 'kubeadm.k8s.io/v1beta4', ...one }));
  writeFileSync(config, kinds.join('---\n'));
  writeFileSync(admin, control.kubeconfig('admin'), { mode: 0o600 });
  for (const phase of [
    ['upload-config', 'all'],
    ['bootstrap-token', '--skip-token-print'],
  ])
    execFileSync(program, ['init', 'phase', ...phase, `--config=${config}`, `--kubeconfig=${admin}`], {
      stdio: 'pipe',
    });
}

interface Request {
  metadata: { name: string };
  spec: { username: string; request: string; signerName: string };
  status: { conditions?: { type: string; reason: string }[]; certificate?: string };
}

/** Requests for a node's client certificate, made with a bootstrap token or with the previous certificate. */
export async function requests({ control }: JoinCluster): Promise<Request[]> {
  const path = '/apis/certificates.k8s.io/v1/certificatesigningrequests';
  return (await control.call<{ items: Request[] }>('GET', path)).items;
}

/** Names of the existing nodes. */
export async function nodeNames({ control }: JoinCluster): Promise<string[]> {
  const { items } = await control.call<{ items: { metadata: { name: string } }[] }>('GET', '/api/v1/nodes');
  return items.map(({ metadata }) => metadata.name);
}

/** A node's certificate with its key, in PEM. */
export interface Credentials {
  cert: string;
  key: string;
}

/** Certificate and key are in one file. */
export function credentialsOf(pem: string): Credentials {
  const [cert] = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/) ?? [];
  const [key] = pem.match(/-----BEGIN EC PRIVATE KEY-----[^-]+-----END EC PRIVATE KEY-----/) ?? [];
  return {
    cert: cert ?? assert.fail(`no certificate: ${pem.slice(0, 40)}`),
    key: key ?? assert.fail('no key'),
  };
}

/**
 * Checks that the certificate is the cluster's and for this node alone, that the controller manager approved it without
 * an operator, and how long it is valid.
 *
 * @returns the end of its term, in milliseconds since the epoch
 */
export async function judgeCertificate(
  cluster: JoinCluster,
  name: string,
  { cert, key }: Credentials,
  certificateSeconds: number,
): Promise<number> {
  const { control } = cluster;
  const certificate = new X509Certificate(cert);
  assert.equal(certificate.subject.split('\n').sort().join(), `CN=system:node:${name},O=system:nodes`);
  assert.ok(certificate.verify(new X509Certificate(control.ca).publicKey), "it is of the cluster's CA");
  const end = Date.parse(certificate.validTo);
  assert.ok(end <= Date.now() + certificateSeconds * 1000, `good until ${certificate.validTo}`);
  const issued = (await requests(cluster)).find(
    ({ status }) =>
      Buffer.from(status.certificate ?? '', 'base64')
        .toString()
        .trim() === cert.trim(),
  );
  assert.equal(issued?.spec.signerName, 'kubernetes.io/kube-apiserver-client-kubelet');
  assert.deepEqual(
    issued?.status.conditions?.map(({ type, reason }) => [type, reason]),
    [['Approved', 'AutoApproved']],
  );
  assert.equal(await control.statusFor({ cert, key }, `/api/v1/nodes/${name}`).then(isKnown), true);
  return end;
}

/** Whether the API server knows the client. The requested object may exist or not. */
export function isKnown(status: number): boolean {
  return status === 200 || status === 404;
}
