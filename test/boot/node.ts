// A simulated instance with eniboot installed the way the image has it, and what tests ask of it.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Status } from '../../agent/boot/status.ts';
import type { ExecOptions, ExecResult } from '../../agent/port/exec-result.ts';
import type { Cloud, Instance, LaunchOptions } from '../aws/index.ts';

const root = join(import.meta.dirname, '../..');
const built = join(root, 'dist', process.arch === 'arm64' ? 'arm64' : 'x64');
const LIBEXEC = '/usr/libexec/eniboot';
/** The executable as systemd calls it. */
export const ENIBOOT = `${LIBEXEC}/current/eniboot`;
/** A kubelet version in the supported range: the stand-in for what the image build records. */
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
  /** What the machine does at power-on before eniboot runs; reboot() includes it, instance.start() does not. */
  afterPowerOn(): Promise<void>;
  /** Whether kubelet.service would be allowed to start: its condition and its network configuration. */
  kubeletReleased(): boolean;
}

/** The smallest configuration, pointed at the simulated API; `pods` is added to its section. */
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
  /** /etc/eniboot/config.yaml; default configText(cloud). null: none. */
  config?: string | null;
}

export async function launchNode(cloud: Cloud, options: NodeOptions = {}): Promise<Node> {
  if (!existsSync(join(built, 'eniboot'))) throw new Error('dist/ is missing: run `npm run build` first');
  const { config, files, ...launch } = options;
  const text = config === undefined ? configText(cloud) : config;
  const instance = await cloud.launch({
    ...launch,
    files: { ...(text === null ? {} : { '/etc/eniboot/config.yaml': text }), ...files },
  });
  await installEniboot(instance);
  return {
    instance,
    eniboot: (args, runOptions) => instance.run(ENIBOOT, args, { timeoutMs: 120_000, ...runOptions }),
    async boot(runOptions) {
      const result = await instance.run(ENIBOOT, ['boot', '--json'], { timeoutMs: 120_000, ...runOptions });
      return { result, status: parseStatus(result.stdout) };
    },
    async reboot() {
      await instance.reboot();
      await powerOn(instance);
    },
    afterPowerOn: () => powerOn(instance),
    kubeletReleased: () =>
      instance.read('/run/eniboot/kubelet-released') !== undefined &&
      instance.read('/etc/cni/net.d/10-eniboot.conflist') !== undefined,
  };
}

/** The executable is bound in, not copied: 118 MB for each of many instances would not fit. */
export async function installEniboot(instance: Instance): Promise<void> {
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

async function powerOn(instance: Instance): Promise<void> {
  await installEniboot(instance);
  await removeBootCopies(instance);
}

/** What tmpfiles.d does at every boot before the runtime starts. */
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
