// Which bandwidth limits a pod gets: what the runtime asks for, else its share of the node's by its CPU, else none.
import type { NodeBandwidth, NodeFile } from '../agent/host/node-file.ts';
import { type Limit, limitOf, type PodLimits } from '../agent/host/pod-limits.ts';
import { note } from '../agent/host/tally.ts';
import { Failure } from '../agent/messages/failure.ts';
import { readIfPresent } from '../agent/port/fs.ts';
import { standardStreams } from '../agent/port/runtime.ts';
import type { Configuration, Variables } from './call.ts';

const CGROUPS = '/sys/fs/cgroup';
/** What Kubernetes allows in its annotations: 1P (pkg/util/bandwidth). */
const MOST = 1e15;
/**
 * Kubernetes has no word for a burst; containerd says 2^32 - 1 bits and cri-o 2^35 - 9 where they mean none
 * (toCNIBandWidth; newPodNetwork).
 */
const NO_BURST = 2 ** 32 - 1;

interface Wanted {
  limits: PodLimits;
  /** Why a pod that should have its share by CPU has none. */
  problem?: string;
}

/**
 * A share that cannot be known limits nothing, and the runtime's log says why.
 *
 * @throws CNI_CONFIG naming the field.
 */
export function limitsOf(variables: Variables, configuration: Configuration, node: NodeFile): PodLimits {
  const { limits, problem } = wantedLimits(configuration, node);
  if (problem !== undefined) {
    standardStreams().stderr(`eniboot: ${variables.containerId}: no bandwidth limit by CPU: ${problem}\n`);
    note('unshared');
  }
  return limits;
}

function wantedLimits({ raw }: Configuration, node: NodeFile): Wanted {
  const runtime = (raw['runtimeConfig'] ?? {}) as Record<string, unknown>;
  const asked = readBandwidth(runtime['bandwidth']);
  const cgroupPath = readCgroupPath(runtime['cgroupPath']);
  if (node.bandwidth === undefined) return { limits: asked.limits };
  if (asked.ingress && asked.egress) return { limits: asked.limits };
  const share = shareOf(node.bandwidth, cgroupPath);
  if (typeof share === 'string') return { limits: asked.limits, problem: share };
  const byCpu = limitOf(share);
  if (byCpu === undefined) return { limits: asked.limits };
  return {
    limits: {
      ...(asked.ingress ? {} : { ingress: byCpu }),
      ...(asked.egress ? {} : { egress: byCpu }),
      ...asked.limits,
    },
  };
}

/** `ingress` and `egress`: whether that direction was asked for, also when no limit comes of it. */
function readBandwidth(value: unknown): { limits: PodLimits; ingress: boolean; egress: boolean } {
  const path = 'runtimeConfig.bandwidth';
  if (value === undefined || value === null) return { limits: {}, ingress: false, egress: false };
  if (typeof value !== 'object' || Array.isArray(value)) throw refused(path, value, 'is not an object');
  const fields = value as Record<string, unknown>;
  const direction = (name: 'ingress' | 'egress'): Limit | 'none' | undefined => {
    const rate = readNumber(`${path}.${name}Rate`, fields[`${name}Rate`]);
    const burst = readNumber(`${path}.${name}Burst`, fields[`${name}Burst`]);
    if (rate === 0) {
      if (burst > 0) throw refused(`${path}.${name}Burst`, burst, `means nothing without ${name}Rate`);
      return undefined;
    }
    if (rate > MOST) throw refused(`${path}.${name}Rate`, rate, `is above ${MOST} bit/s`);
    return limitOf(rate, burst === 0 || burst >= NO_BURST ? undefined : burst) ?? 'none';
  };
  const ingress = direction('ingress');
  const egress = direction('egress');
  return {
    limits: {
      ...(typeof ingress === 'object' ? { ingress } : {}),
      ...(typeof egress === 'object' ? { egress } : {}),
    },
    ingress: ingress !== undefined,
    egress: egress !== undefined,
  };
}

/** 0 when absent. */
function readNumber(path: string, value: unknown): number {
  if (value === undefined || value === null) return 0;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value;
  throw refused(path, value, 'is not a whole number of bits from 0 on');
}

function readCgroupPath(value: unknown): string {
  const path = 'runtimeConfig.cgroupPath';
  if (value === undefined || value === null || value === '') return '';
  if (typeof value !== 'string') throw refused(path, value, 'is not text');
  // Escapes of systemd's are the only reason for a backslash.
  if (/^[\w./:@\\-]+$/.test(value) && !value.split('/').includes('..')) return value;
  throw refused(path, value, 'is not the path of a control group');
}

/** Bit/s, or why they are not known. */
function shareOf(bandwidth: NodeBandwidth, cgroupPath: string): number | string {
  if (cgroupPath === '') return 'the runtime gave no cgroupPath';
  const group = podGroup(cgroupPath);
  if (group === undefined) return `${cgroupPath} is not the cgroup of a pod`;
  const folder = `${CGROUPS}${group}`;
  const max = readIfPresent(`${folder}/cpu.max`);
  const weight = readIfPresent(`${folder}/cpu.weight`);
  if (max === undefined || weight === undefined) return `${folder} has no cpu.max and cpu.weight (cgroup v2)`;
  const cpus = cpusOf(max, weight);
  if (cpus === undefined) return `${folder}: cpu.max and cpu.weight are not understood`;
  const part = Math.min(1, cpus / bandwidth.cpus);
  return Math.max(bandwidth.floorBits, bandwidth.baselineBits * part);
}

/**
 * The pod's own cgroup in what the runtime gives: kubelet's path (containerd), its last part alone (cri-o, a slice
 * whose dashes are its parents), or something in it. kubelet makes it before the sandbox, with the pod's values
 * (EnsureExists); the names are those of its GetPodContainerName.
 */
function podGroup(path: string): string | undefined {
  const parts = path.split('/').filter((part) => part !== '');
  const [only] = parts;
  const whole = parts.length === 1 && only?.endsWith('.slice') === true ? expandSlice(only) : parts;
  const at = whole.findIndex((part) => /(?:^|-)pod[0-9a-fA-F_-]{8,}(?:\.slice)?$/.test(part));
  return at === -1 ? undefined : `/${whole.slice(0, at + 1).join('/')}`;
}

/** `a-b-c.slice` stands in `a.slice/a-b.slice` (systemd.slice(5)). */
function expandSlice(name: string): string[] {
  const words = name.slice(0, -'.slice'.length).split('-');
  return words.map((_, at) => `${words.slice(0, at + 1).join('-')}.slice`);
}

/**
 * CPUs of a pod: its limit where all its containers have one, else its request. In a pod's cgroup the weight is
 * always kubelet's linear form of CPU shares (KEP-2254; getCPUWeight in pkg/kubelet/cm up to 1.37): the other
 * form, which runc and crun write since 2025, stands in containers' cgroups only.
 */
function cpusOf(max: string, weight: string): number | undefined {
  const [quota = '', period = ''] = max.trim().split(' ');
  if (quota !== 'max') {
    const cpus = Number(quota) / Number(period);
    return cpus > 0 && Number.isFinite(cpus) ? cpus : undefined;
  }
  const value = Number(weight.trim());
  if (!Number.isInteger(value) || value < 1 || value > 10_000) return undefined;
  const shares = 2 + ((value - 1) * 262_142) / 9_999;
  return shares / 1024;
}

function refused(path: string, value: unknown, problem: string): Failure {
  return new Failure('CNI_CONFIG', `${path}: ${JSON.stringify(value)} ${problem}`, { path, value });
}
