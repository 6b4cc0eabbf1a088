// A simulated instance with eniboot installed as in the image, and helpers for the tests.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Status } from '../../agent/boot/verdict/status.ts';
import type { ExecOptions, ExecResult } from '../../agent/port/exec-result.ts';
import type { Cloud, Instance, LaunchOptions } from '../aws/index.ts';

const root = join(import.meta.dirname, '../..');
/** Folder with the shipped executable for this CPU. */
export const OWN_BUILD = join(root, 'dist', process.arch === 'arm64' ? 'arm64' : 'x64');
const LIBEXEC = '/usr/libexec/eniboot';
/** The path by which systemd calls the executable. */
export const ENIBOOT = `${LIBEXEC}/current/eniboot`;
/** A kubelet version in the supported range, as the image build records it. */
const KUBELET = 'Kubernetes v1.36.1\n';

export interface BootResult {
  result: ExecResult;
  /** The final status, undefined when the run did not print one. */
  status: Status | undefined;
}

export interface Node {
  instance: Instance;
  boot(options?: ExecOptions): Promise<BootResult>;
  eniboot(args: string[], options?: ExecOptions): Promise<ExecResult>;
  reboot(): Promise<void>;
  /** Does what the machine does at power-on before eniboot runs; reboot() includes it, instance.start() does not. */
  afterPowerOn(): Promise<void>;
  /** Whether kubelet.service could start: its condition holds and its network configuration exists. */
  kubeletReleased(): boolean;
}

/** The smallest configuration, with the address of the simulated API; `pods` is added to its section. */
export function configText(cloud: Cloud, extra = '', pods: Record<string, string> = {}): string {
  const more = Object.entries(pods).map(([key, value]) => `\n  ${key}: ${value}`);
  return `cluster: demo
pods:
  subnets:
    tags: { eniboot: pods }${more.join('')}
aws:
  endpoints: { ec2: "${cloud.endpoints.ec2}", ssm: "${cloud.endpoints.ssm}" }
${extra}`;
}

export interface NodeOptions extends LaunchOptions {
  /** Folder with the executable and its manifest; default: the build for this CPU. */
  built?: string;
  /** Text of /etc/eniboot/config.yaml; default configText(cloud). null: no file. */
  config?: string | null;
}

export async function launchNode(cloud: Cloud, options: NodeOptions = {}): Promise<Node> {
  const { built = OWN_BUILD, config, files, ...launch } = options;
  if (!existsSync(join(built, 'eniboot')))
    throw new Error(`${built} is missing: npm test and the suites build it before they start`);
  const text = config === undefined ? configText(cloud) : config;
  const instance = await cloud.launch({
    ...launch,
    files: { ...(text === null ? {} : { '/etc/eniboot/config.yaml': text }), ...files },
  });
  await installEniboot(instance, built);
  return {
    instance,
    eniboot: (args, runOptions) => instance.run(ENIBOOT, args, { timeoutMs: 120_000, ...runOptions }),
    async boot(runOptions) {
      giveDigests(instance, built);
      const result = await instance.run(ENIBOOT, ['boot', '--json'], { timeoutMs: 120_000, ...runOptions });
      keepDigests(instance, built);
      return { result, status: parseStatus(result.stdout) };
    },
    async reboot() {
      await instance.reboot();
      await powerOn(instance, built);
    },
    afterPowerOn: () => powerOn(instance, built),
    kubeletReleased: () =>
      instance.read('/run/eniboot/kubelet-released') !== undefined &&
      instance.read('/etc/cni/net.d/10-eniboot.conflist') !== undefined,
  };
}

const DIGESTS = '/run/eniboot/digests.json';
/** By build: what the first boot in this process has kept of the executable's digest. */
const digests = new Map<string, string>();

/**
 * Gives a node the digest that a boot of the same build has computed before: it is the same file, which a boot knows by its
 * identity, and it takes 0.1 s of processor to hash. For cases that are not about a version's files.
 */
export function giveDigests(instance: Instance, built = OWN_BUILD): void {
  const known = digests.get(built);
  if (known !== undefined && instance.read(DIGESTS) === undefined) instance.write(DIGESTS, known, 0o600);
}

export function keepDigests(instance: Instance, built = OWN_BUILD): void {
  const computed = digests.has(built) ? undefined : instance.read(DIGESTS);
  if (computed !== undefined) digests.set(built, computed);
}

/** The executable is bind-mounted, not copied: 118 MB in each of many instances would not fit. */
export async function installEniboot(instance: Instance, built = OWN_BUILD): Promise<void> {
  const { version } = JSON.parse(readFileSync(join(built, 'manifest.json'), 'utf8')) as { version: string };
  const script = `set -e
mkdir -p ${LIBEXEC}/${version}
touch ${LIBEXEC}/${version}/eniboot
mount --bind "$1/eniboot" ${LIBEXEC}/${version}/eniboot
cp "$1/manifest.json" ${LIBEXEC}/${version}/
[ -e ${LIBEXEC}/current ] || ln -s ${version} ${LIBEXEC}/current
printf '%s' "$2" > ${LIBEXEC}/kubelet-version`;
  const result = await instance.run('sh', ['-c', script, 'install', built, KUBELET]);
  if (result.exitCode !== 0) throw new Error(`eniboot not installed in the instance: ${result.stderr}`);
}

async function powerOn(instance: Instance, built: string): Promise<void> {
  await installEniboot(instance, built);
  await removeBootCopies(instance);
}

/** Removes the files that tmpfiles.d removes at every boot before the runtime starts. */
async function removeBootCopies(instance: Instance): Promise<void> {
  const files = [
    '/etc/cni/net.d/10-eniboot.conflist',
    '/etc/kubernetes/kubelet.conf.d/10-eniboot.conf',
    '/etc/crio/crio.conf.d/10-eniboot.conf',
  ];
  await instance.run('rm', ['-f', ...files]);
}

function parseStatus(text: string): Status | undefined {
  try {
    const value = JSON.parse(text) as Partial<Status>;
    return value.schema === 1 ? (value as Status) : undefined;
  } catch {
    return undefined;
  }
}
