// A control plane: kube-apiserver on etcd, as processes of the sandbox, where the simulated AWS is. Nodes and pods reach
// it at the address of the simulated APIs, inside the VPC. Scheduler and controllers are there where a test asks for
// them; without, it writes Services and their EndpointSlices itself, and pods come from files.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Cloud } from '../aws/index.ts';
import { ensureBuilt, modules } from './fetch.ts';

/** As eniboot's example for a cluster has it; `kubernetes.default` gets its first address. */
const serviceCidr = '172.20.0.0/16';

export interface ControlPlane {
  /** https://ADDRESS:PORT, as nodes reach it. */
  url: string;
  /** One call as administrator; anything but a 2xx is thrown with the API's words. */
  call<T>(method: 'GET' | 'POST' | 'PUT', path: string, body?: object): Promise<T>;
  /** For `admin`, for `kube-proxy`, or for the kubelet of a node that may join, by its name. */
  kubeconfig(member: string): string;
  /** @throws when one of its processes has ended, with what that said. */
  assertAlive(): void;
  /** The addresses from which a path was asked for, as the audit log has them. */
  clientsOf(path: string): string[];
  stop(): Promise<void>;
}

/**
 * @param work folder for its data and logs.
 * @param nodes names of those that may join.
 * @param controllers with the controller manager and the scheduler, as a whole cluster has them.
 */
export async function startControlPlane(
  cloud: Cloud,
  work: string,
  nodes: readonly string[],
  controllers = false,
): Promise<ControlPlane> {
  const folder = mkdtempSync(join(work, 'control-'));
  const silent = () => undefined;
  const program = (module: (typeof modules)['etcd'], name: string) => join(ensureBuilt(module, silent), name);
  const address = new URL(cloud.endpoints.ec2).hostname;
  const url = `https://${address}:6443`;
  const children = new Map<string, ChildProcess>();

  function start(name: string, file: string, args: string[]): void {
    const log = openSync(join(folder, `${name}.log`), 'w');
    children.set(name, spawn(file, args, { stdio: ['ignore', log, log] }));
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
    // Without controllers nobody makes service accounts.
    ...(controllers ? [] : ['--disable-admission-plugins=ServiceAccount']),
    // Names of nodes are no names in the VPC's DNS here.
    '--kubelet-preferred-address-types=InternalIP',
    ...[`--audit-policy-file=${policy}`, `--audit-log-path=${audit}`],
  ]);

  const ca = () => readFileSync(join(certificates, 'apiserver.crt'));

  function call<T>(method: string, path: string, body?: object): Promise<T> {
    return new Promise((resolve, reject) => {
      const headers = {
        authorization: `Bearer ${tokens.get('admin')}`,
        accept: 'application/json',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      };
      const request = httpsRequest(
        `${url}${path}`,
        { method, ca: ca(), headers, timeout: 60_000 },
        (answer) => {
          let text = '';
          answer.setEncoding('utf8');
          answer.on('data', (chunk: string) => {
            text += chunk;
          });
          answer.on('end', () => {
            const { statusCode = 0 } = answer;
            const json = answer.headers['content-type'] === 'application/json';
            if (statusCode >= 200 && statusCode < 300) resolve((json ? JSON.parse(text) : text) as T);
            else reject(new Error(`${method} ${path}: ${statusCode} ${text}`));
          });
        },
      );
      request.on('timeout', () => request.destroy(new Error(`${method} ${path}: no answer in 60 s`)));
      request.on('error', reject);
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  async function stop(): Promise<void> {
    await Promise.all([...children.values()].map(ended));
    rmSync(folder, { recursive: true, force: true });
  }

  try {
    await ready();
    if (controllers) startControllers();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url,
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
    stop,
  };

  function startControllers(): void {
    const admin = join(folder, 'admin.kubeconfig');
    writeFileSync(admin, kubeconfig(url, ca(), tokens.get('admin') ?? ''));
    const common = [
      ...[`--kubeconfig=${admin}`, '--leader-elect=false'],
      ...['--bind-address=127.0.0.1', `--cert-dir=${certificates}`],
    ];
    start('kube-controller-manager', program(modules.conformance, 'kube-controller-manager'), [
      ...[...common, `--service-account-private-key-file=${files.key}`],
      ...[`--root-ca-file=${join(certificates, 'apiserver.crt')}`, '--use-service-account-credentials'],
      // An emulated kubelet may be late with its lease.
      '--node-monitor-grace-period=5m',
    ]);
    start('kube-scheduler', program(modules.conformance, 'kube-scheduler'), common);
  }

  async function ready(): Promise<void> {
    const giveUpAt = performance.now() + 300_000;
    for (let last = ''; ; await delay(500)) {
      if (existsSync(join(certificates, 'apiserver.crt'))) {
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
