// Builds kubelet, the container runtimes and the control plane from the Go module proxy, and keeps them between runs:
// Debian has no kubelet and no cri-o, and its containerd is too old for CNI's STATUS. Each has a module of its own in
// go/, whose go.mod names the version and whose go.sum pins every module from which it is built.
//   node test/node/fetch.ts [NAME…]   builds what is missing, of all or of these (many minutes the first time; Go
//                                     fetches the toolchain it needs)
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../../agent/build/cache.ts';
import { goCommand } from '../go.ts';

interface GoModule {
  /** The module's folder in go/. */
  name: string;
  /** Executables by name, each with the package from which it is built; './…' for a package of this repository. */
  programs: Record<string, string>;
  /** The variable that `--version` prints. */
  versionVariable?: string;
  tags?: string[];
  /** Compiled tests, which have no main function, in the same form. */
  tests?: Record<string, string>;
  /** A program in C that is in the Go module, with its folder of sources. */
  inC?: { program: string; of: string; folder: string };
}

const kubelet: GoModule = {
  name: 'kubelet',
  programs: { kubelet: 'k8s.io/kubernetes/cmd/kubelet' },
  versionVariable: 'k8s.io/component-base/version.gitVersion',
};

const containerd: GoModule = {
  name: 'containerd',
  programs: Object.fromEntries(
    ['containerd', 'containerd-shim-runc-v2', 'ctr'].map((program) => [
      program,
      `github.com/containerd/containerd/v2/cmd/${program}`,
    ]),
  ),
  versionVariable: 'github.com/containerd/containerd/v2/version.Version',
};

/** Built without gpgme and btrfs, which would need C libraries: cri-o pulls no image here. */
const crio: GoModule = {
  name: 'crio',
  programs: { crio: 'github.com/cri-o/cri-o/cmd/crio' },
  tags: ['containers_image_openpgp', 'exclude_graphdriver_btrfs'],
  inC: { program: 'pinns', of: 'github.com/cri-o/cri-o', folder: 'pinns/src' },
};

const crictl: GoModule = {
  name: 'crictl',
  programs: { crictl: 'sigs.k8s.io/cri-tools/cmd/crictl' },
  versionVariable: 'sigs.k8s.io/cri-tools/pkg/version.Version',
};

/** The programs around kubelet in a cluster, from the same source as kubelet. */
const cluster: GoModule = {
  name: 'cluster',
  programs: {
    'kube-proxy': 'k8s.io/kubernetes/cmd/kube-proxy',
    'kube-apiserver': 'k8s.io/kubernetes/cmd/kube-apiserver',
  },
  versionVariable: 'k8s.io/component-base/version.gitVersion',
};

/** It has sums of its own: those of `cluster` do not cover its imports. */
const kubeadm: GoModule = {
  name: 'kubeadm',
  programs: { kubeadm: 'k8s.io/kubernetes/cmd/kubeadm' },
  versionVariable: 'k8s.io/component-base/version.gitVersion',
};

/**
 * The further programs of a whole cluster. They use the module of the tests: the sums of `cluster` do not cover their
 * imports.
 */
const controllers: GoModule = {
  name: 'conformance',
  programs: {
    'kube-controller-manager': 'k8s.io/kubernetes/cmd/kube-controller-manager',
    'kube-scheduler': 'k8s.io/kubernetes/cmd/kube-scheduler',
  },
  versionVariable: 'k8s.io/component-base/version.gitVersion',
};

const etcd: GoModule = { name: 'etcd', programs: { etcd: 'go.etcd.io/etcd/server/v3' } };

const critest: GoModule = {
  name: 'critest',
  programs: {},
  tests: { critest: 'sigs.k8s.io/cri-tools/cmd/critest' },
  versionVariable: 'sigs.k8s.io/cri-tools/pkg/version.Version',
};

/** Kubernetes' own tests of sig-network, and the program that runs in their pods. */
const conformance: GoModule = {
  name: 'conformance',
  programs: { agnhost: 'k8s.io/kubernetes/test/images/agnhost' },
  tests: { 'e2e.test': '.' },
  versionVariable: 'k8s.io/component-base/version.gitVersion',
};

/**
 * The part of agnhost that the tests of network policies use, and the part of kubelet that runs agnhost in pods of a
 * simulated node.
 */
const policyTools: GoModule = {
  name: 'conformance',
  programs: { agnhost: './agnhost', 'kubelet-exec': './kubelet' },
};

/** In the version of Kubernetes' own manifest (cluster/addons/dns/coredns). */
const coredns: GoModule = { name: 'coredns', programs: { coredns: 'github.com/coredns/coredns' } };

const pod: GoModule = { name: 'pod', programs: { pod: '.' } };

/** Another project's tests of network policies. */
const cyclonus: GoModule = { name: 'cyclonus', programs: { cyclonus: '.' } };

/** The program that makes Cyclonus' connections. */
const worker: GoModule = { name: 'worker', programs: { worker: '.' } };

export const modules = {
  kubelet,
  cluster,
  controllers,
  kubeadm,
  etcd,
  crio,
  containerd,
  crictl,
  critest,
  conformance,
  policyTools,
  coredns,
  cyclonus,
  worker,
  pod,
};

/** All programs that a module makes. */
export function programsOf({ programs, tests, inC }: GoModule): string[] {
  return [...Object.keys({ ...programs, ...tests }), ...(inC === undefined ? [] : [inC.program])];
}

const source = (module: GoModule) => join(import.meta.dirname, 'go', module.name);

/** The version in its go.mod: `v1.36.3`; empty for a program of this repository. */
export function versionOf(module: GoModule): string {
  const text = readFileSync(join(source(module), 'go.mod'), 'utf8');
  return /^require \S+ (v\S+)$/m.exec(text)?.[1] ?? '';
}

/** Builds the module's programs when they are missing. @returns their folder. @throws when they cannot be built. */
export function ensureBuilt(module: GoModule, say: (line: string) => void): string {
  const folder = folderOf(module);
  if (existsSync(folder)) return folder;
  say(`building ${module.name} ${versionOf(module)} (once for each version, some minutes)`);
  const go = goCommand();
  if (go === undefined) throw new Error(`${module.name} was not built: Go is not installed`);
  mkdirSync(join(folder, '..'), { recursive: true });
  // Built in another folder, which is then renamed, so that a folder that exists is complete.
  const work = mkdtempSync(join(folder, '..', '.build-'));
  try {
    for (const [program, path] of Object.entries(module.programs))
      compile(go, module, ['build'], path, join(work, program));
    for (const [program, path] of Object.entries(module.tests ?? {}))
      compile(go, module, ['test', '-c'], path, join(work, program));
    if (module.inC !== undefined) compileC(go, module, module.inC, work);
    try {
      renameSync(work, folder);
    } catch (error) {
      // Another run has built it in the meantime.
      if (!existsSync(folder)) throw error;
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

function compile(go: string, module: GoModule, verb: string[], path: string, output: string): void {
  const { versionVariable, tags = [] } = module;
  const stamp = versionVariable === undefined ? '' : ` -X ${versionVariable}=${versionOf(module)}`;
  const args = [...verb, '-mod=readonly', '-trimpath', '-buildvcs=false', `-tags=${tags.join(',')}`];
  run(go, [...args, `-ldflags=-s -w${stamp}`, '-o', output, path], source(module));
}

function compileC(go: string, module: GoModule, c: NonNullable<GoModule['inC']>, work: string): void {
  const folder = join(directoryOf(go, module, c.of), c.folder);
  const sources = readdirSync(folder).filter((name) => name.endsWith('.c'));
  // Static, so that the program does not need this machine's C library in the guest.
  run('gcc', ['-std=c99', '-O2', '-static', '-s', '-o', join(work, c.program), ...sources], folder);
}

/** The folder with the sources of a Go module from which `module` is built. */
export function sourceOf(module: GoModule, path: string): string {
  const go = goCommand();
  if (go === undefined) throw new Error(`${path} was not found: Go is not installed`);
  return directoryOf(go, module, path);
}

function directoryOf(go: string, module: GoModule, path: string): string {
  return run(go, ['list', '-m', '-f', '{{.Dir}}', path], source(module)).trim();
}

function run(file: string, args: string[], cwd: string): string {
  const env = { ...process.env, CGO_ENABLED: '0', GOFLAGS: '', GOTOOLCHAIN: 'auto' };
  const result = spawnSync(file, args, { cwd, env, encoding: 'utf8' });
  if (result.status === 0) return result.stdout;
  const why = result.error?.message ?? `${result.stderr}${result.stdout}`;
  throw new Error(`${file} ${args.join(' ')}: ${why}`);
}

function folderOf(module: GoModule): string {
  const hash = createHash('sha256').update(JSON.stringify(module));
  const own = Object.values(module.programs).filter((path) => path.startsWith('./'));
  const sources = own.map((path) => join(path, 'main.go'));
  for (const file of ['go.mod', 'go.sum', 'main.go', 'suite_test.go', ...sources]) {
    const path = join(source(module), file);
    if (existsSync(path)) hash.update(`${file}\n`).update(readFileSync(path));
  }
  const name = [module.name, versionOf(module), hash.digest('hex').slice(0, 12)].filter(
    (part) => part !== '',
  );
  return cacheFolder('node', name.join('-'));
}

if (process.argv[1] === import.meta.filename) {
  const names = process.argv.slice(2);
  const unknown = names.filter((name) => !Object.keys(modules).includes(name));
  if (unknown.length > 0) {
    process.stderr.write(`unknown: ${unknown.join(', ')}; there are ${Object.keys(modules).join(', ')}\n`);
    process.exit(2);
  }
  for (const [name, module] of Object.entries(modules))
    if (names.length === 0 || names.includes(name))
      process.stdout.write(`${ensureBuilt(module, (line) => process.stderr.write(`${line}\n`))}\n`);
}
