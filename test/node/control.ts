// A control plane: kube-apiserver on etcd, as processes of the sandbox beside the simulated AWS, or on an instance.
// Nodes and pods reach it inside the VPC. A test may ask for scheduler and controllers. Without them, the test writes
// Services and their EndpointSlices itself, and pods come from files.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Cloud } from '../aws/index.ts';
import { ensureBuilt, modules } from './fetch.ts';

/** As in eniboot's example for a cluster; `kubernetes.default` gets its first address. */
const serviceCidr = '172.20.0.0/16';

export interface ControlPlane {
  /** https://ADDRESS:PORT, at which nodes reach it. */
  url: string;
  /** The CA of its certificate: the certificate itself, or with `joining` the cluster's CA. */
  ca: string;
  /** One call as administrator; any status other than 2xx is thrown with the API's message. */
  call<T>(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: object): Promise<T>;
  /**
   * The kubeconfig of `admin`, of `kube-proxy`, of one of `users`, or, by its name, of the kubelet of a node that may
   * join.
   */
  kubeconfig(member: string): string;
  /** @throws when one of its processes has ended, with the end of its output. */
  assertAlive(): void;
  /** The addresses that have requested a path, from the audit log. */
  clientsOf(path: string): string[];
  /** How the API server judges a member's certificate now: the status code of a call with it. */
  statusFor(client: { cert: string; key: string }, path: string): Promise<number>;
  stop(): Promise<void>;
}

export interface ControlOptions {
  /** Starts the scheduler and all controllers, as a whole cluster has them, or only these controllers. */
  controllers?: 'all' | readonly string[];
  /** Further users; RBAC grants their rights. */
  users?: readonly string[];
  /**
   * Nodes may ask for certificates with bootstrap tokens. The cluster has a CA of its own, whose certificates for nodes
   * are valid for so many seconds. The controllers that approve, sign and tidy up run too.
   */
  joining?: { certificateSeconds: number };
  /** Where its processes run, and their address there; by default beside the simulated AWS. */
  host?: { address: string; spawn(file: string, args: string[], options: SpawnOptions): ChildProcess };
}

/**
 * @param work folder for its data and logs.
 * @param nodes names of the nodes that may join.
 */
export async function startControlPlane(
  cloud: Cloud,
  work: string,
  nodes: readonly string[],
  {
    controllers,
    joining,
    users = [],
    host = { address: new URL(cloud.endpoints.ec2).hostname, spawn },
  }: ControlOptions = {},
): Promise<ControlPlane> {
  const folder = mkdtempSync(join(work, 'control-'));
  const silent = () => undefined;
  const program = (module: (typeof modules)['etcd'], name: string) => join(ensureBuilt(module, silent), name);
  const { address } = host;
  const url = `https://${address}:6443`;
  const children = new Map<string, ChildProcess>();

  function start(name: string, file: string, args: string[]): void {
    const log = openSync(join(folder, `${name}.log`), 'w');
    children.set(name, host.spawn(file, args, { stdio: ['ignore', log, log] }));
  }

  const tokens = new Map<string, string>();
  const rows: string[] = [];
  const admit = (key: string, user: string, groups: string) => {
    const token = randomBytes(16).toString('hex');
    tokens.set(key, token);
    rows.push(`${token},${user},${user},"${groups}"`);
  };
  admit('admin', 'admin', 'system:masters');
  admit('kube-proxy', 'system:kube-proxy', '');
  for (const node of nodes) admit(node, `system:node:${node}`, 'system:nodes');
  for (const user of users) admit(user, user, '');
  const files = { tokens: join(folder, 'tokens.csv'), key: join(folder, 'service-accounts.pem') };
  writeFileSync(files.tokens, `${rows.join('\n')}\n`);
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  writeFileSync(files.key, privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const policy = join(folder, 'audit.yaml');
  writeFileSync(
    policy,
    'apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{ level: Metadata }]\n',
  );
  const audit = join(folder, 'audit.log');
  const certificates = join(folder, 'certificates');
  mkdirSync(certificates);
  const pki = joining === undefined ? undefined : makePki(certificates, address);

  const etcd = 'http://127.0.0.1:2379';
  start('etcd', program(modules.etcd, 'etcd'), [
    ...[
      `--data-dir=${join(folder, 'etcd')}`,
      `--listen-client-urls=${etcd}`,
      `--advertise-client-urls=${etcd}`,
    ],
    ...['--listen-peer-urls=http://127.0.0.1:2380', '--unsafe-no-fsync'],
  ]);
  start('kube-apiserver', program(modules.cluster, 'kube-apiserver'), [
    ...[`--etcd-servers=${etcd}`, `--service-cluster-ip-range=${serviceCidr}`],
    ...[`--bind-address=${address}`, `--advertise-address=${address}`, `--cert-dir=${certificates}`],
    ...[`--token-auth-file=${files.tokens}`, '--authorization-mode=Node,RBAC'],
    ...[`--service-account-issuer=${url}`, `--service-account-key-file=${files.key}`],
    `--service-account-signing-key-file=${files.key}`,
    '--enable-admission-plugins=NodeRestriction',
    // Without controllers no service accounts are made.
    ...(controllers === 'all' ? [] : ['--disable-admission-plugins=ServiceAccount']),
    // The VPC's DNS here does not have the names of nodes.
    '--kubelet-preferred-address-types=InternalIP',
    ...(pki === undefined
      ? []
      : [
          ...[`--client-ca-file=${pki.ca}`, '--enable-bootstrap-token-auth'],
          ...[`--tls-cert-file=${pki.cert}`, `--tls-private-key-file=${pki.key}`],
        ]),
    ...[`--audit-policy-file=${policy}`, `--audit-log-path=${audit}`],
  ]);

  const authority = pki?.ca ?? join(certificates, 'apiserver.crt');
  const ca = () => readFileSync(authority);

  function call<T>(method: string, path: string, body?: object): Promise<T> {
    return new Promise((resolve, reject) => {
      const text = body === undefined ? undefined : JSON.stringify(body);
      const headers = {
        authorization: `Bearer ${tokens.get('admin')}`,
        accept: 'application/json',
        ...(text === undefined ? {} : bodyHeaders(text)),
      };
      const request = httpsRequest(
        `${url}${path}`,
        { method, ca: ca(), headers, timeout: 60_000 },
        (answer) => {
          let said = '';
          answer.setEncoding('utf8');
          answer.on('data', (chunk: string) => {
            said += chunk;
          });
          answer.on('end', () => {
            const { statusCode = 0 } = answer;
            const json = answer.headers['content-type'] === 'application/json';
            if (statusCode >= 200 && statusCode < 300) resolve((json ? JSON.parse(said) : said) as T);
            else reject(new Error(`${method} ${path}: ${statusCode} ${said}`));
          });
        },
      );
      request.on('timeout', () => request.destroy(new Error(`${method} ${path}: no answer in 60 s`)));
      request.on('error', reject);
      request.end(text);
    });
  }

  async function stop(): Promise<void> {
    await Promise.all([...children.values()].map(ended));
    rmSync(folder, { recursive: true, force: true });
  }

  try {
    await ready();
    const wanted = controllers ?? (joining === undefined ? undefined : JOINING_CONTROLLERS);
    if (wanted !== undefined) startControllers(wanted);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url,
    ca: ca().toString(),
    call,
    kubeconfig: (member) => kubeconfig(url, ca(), tokens.get(member) ?? ''),
    assertAlive: () => {
      const gone = dead();
      assert.deepEqual(gone, [], logs(gone));
    },
    clientsOf: (path) =>
      readFileSync(audit, 'utf8')
        .split('\n')
        .filter((line) => line.includes(`"requestURI":"${path}"`))
        .flatMap((line) => (JSON.parse(line) as { sourceIPs: string[] }).sourceIPs),
    statusFor: (client, path) =>
      new Promise((resolve, reject) => {
        // Each call has a connection of its own: the server checks a certificate when a connection begins.
        const options = { ca: ca(), ...client, agent: false, timeout: 60_000 };
        const request = httpsRequest(`${url}${path}`, options, (answer) => {
          answer.resume();
          resolve(answer.statusCode ?? 0);
        });
        request.on('error', reject);
        request.end();
      }),
    stop,
  };

  function startControllers(wanted: 'all' | readonly string[]): void {
    const admin = join(folder, 'admin.kubeconfig');
    writeFileSync(admin, kubeconfig(url, ca(), tokens.get('admin') ?? ''));
    const common = [
      ...[`--kubeconfig=${admin}`, '--leader-elect=false'],
      ...['--bind-address=127.0.0.1', `--cert-dir=${certificates}`],
    ];
    start('kube-controller-manager', program(modules.controllers, 'kube-controller-manager'), [
      ...[...common, `--service-account-private-key-file=${files.key}`],
      `--root-ca-file=${authority}`,
      ...(pki === undefined
        ? []
        : [
            ...[`--cluster-signing-cert-file=${pki.ca}`, `--cluster-signing-key-file=${pki.caKey}`],
            `--cluster-signing-duration=${joining?.certificateSeconds}s`,
          ]),
      // Each controller has a service account of its own; a controller makes these accounts, too.
      ...(wanted === 'all' ? ['--use-service-account-credentials'] : [`--controllers=${wanted.join(',')}`]),
      // An emulated kubelet may be late in renewing its lease.
      '--node-monitor-grace-period=5m',
    ]);
    if (wanted === 'all') start('kube-scheduler', program(modules.controllers, 'kube-scheduler'), common);
  }

  async function ready(): Promise<void> {
    const giveUpAt = performance.now() + 900_000;
    for (let last = ''; ; await delay(500)) {
      if (existsSync(authority)) {
        const answer = await call<string>('GET', '/readyz').catch((error: Error) => error.message);
        if (answer === 'ok') return;
        last = answer;
      }
      if (dead().length === 0 && performance.now() < giveUpAt) continue;
      assert.fail(`the control plane did not start: ${last}\n${logs([...children.keys()])}`);
    }
  }

  function dead(): string[] {
    return [...children]
      .filter(([, { exitCode, signalCode }]) => exitCode !== null || signalCode !== null)
      .map(([name]) => name);
  }

  function logs(names: string[]): string {
    return names.map((name) => readFileSync(join(folder, `${name}.log`), 'utf8').slice(-3000)).join('\n');
  }
}

/** Nodes get their certificates by some of these; the others tidy up old tokens and requests. */
const JOINING_CONTROLLERS = [
  'certificatesigningrequest-approving-controller',
  'certificatesigningrequest-signing-controller',
  'certificatesigningrequest-cleaner-controller',
  'bootstrap-signer-controller',
  'token-cleaner-controller',
];

/** Makes a cluster's CA, and a certificate of the CA for the API server. Returns paths. */
function makePki(folder: string, address: string): { ca: string; caKey: string; cert: string; key: string } {
  const file = (name: string) => join(folder, name);
  const [ca, caKey, cert, key] = [file('ca.crt'), file('ca.key'), file('api.crt'), file('api.key')];
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
  const fresh = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  openssl('req', '-x509', ...fresh, '-keyout', caKey, '-out', ca, '-subj', '/CN=kubernetes');
  const names = `subjectAltName=IP:${address},IP:172.20.0.1,DNS:kubernetes,DNS:kubernetes.default.svc`;
  openssl(
    ...['req', '-x509', ...fresh, '-keyout', key, '-out', cert, '-subj', '/CN=kube-apiserver'],
    ...['-CA', ca, '-CAkey', caKey, '-addext', names, '-addext', 'basicConstraints=critical,CA:FALSE'],
  );
  return { ca, caKey, cert, key };
}

/** Node's client sends no length for the body of a DELETE, and the server would take the body for the next request. */
export function bodyHeaders(text: string): Record<string, string | number> {
  return { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
}

function kubeconfig(server: string, ca: Buffer, token: string): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'e2e',
    contexts: [{ name: 'e2e', context: { cluster: 'e2e', user: 'e2e' } }],
    clusters: [{ name: 'e2e', cluster: { server, 'certificate-authority-data': ca.toString('base64') } }],
    users: [{ name: 'e2e', user: { token } }],
  });
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await gone;
}
