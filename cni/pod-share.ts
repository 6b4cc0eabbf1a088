// Which bandwidth limits a pod gets: those that the runtime asks for, otherwise its share of the node's bandwidth by
// its CPU, otherwise none.

import { type Limit, limitOf, type PodLimits } from '../agent/attachment/limits.ts';
import type { NodeBandwidth, NodeFile } from '../agent/host/node-file.ts';
import { note } from '../agent/host/tally.ts';
import type { Failure } from '../agent/messages/failure.ts';
import { readIfPresent } from '../agent/port/fs.ts';
import { standardStreams } from '../agent/port/runtime.ts';
import { type Configuration, type Variables, wrongConfig } from './call.ts';

const CGROUPS = '/sys/fs/cgroup';
/** The largest value that Kubernetes allows in its annotations: 1P (pkg/util/bandwidth). */
const MOST = 1e15;
/**
 * Kubernetes has no annotation for a burst. For no burst containerd sends 2^32 - 1 bits and cri-o 2^35 - 9
 * (toCNIBandWidth; newPodNetwork).
 */
const NO_BURST = 2 ** 32 - 1;

interface Wanted {
  limits: PodLimits;
  /** Why a pod that should get a share by CPU gets none. */
  problem?: string;
}

/**
 * A pod whose share is unknown gets no limit, and the reason is in the runtime's log.
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
  const { ingress, egress } = readBandwidth(runtime['bandwidth']);
  const cgroupPath = readCgroupPath(runtime['cgroupPath']);
  const orShare = (asked: Asked, share?: Limit) => (asked === 'none' ? undefined : (asked ?? share));
  const limits = (share?: Limit) => ({ ingress: orShare(ingress, share), egress: orShare(egress, share) });
  if (node.bandwidth === undefined || (ingress && egress)) return { limits: limits() };
  const share = shareOf(node.bandwidth, cgroupPath);
  return typeof share === 'string'
    ? { limits: limits(), problem: share }
    : { limits: limits(limitOf(share)) };
}

/** The request for one direction; `none`: the runtime asked for a value that leads to no limit. */
type Asked = Limit | 'none' | undefined;

function readBandwidth(value: unknown): { ingress?: Asked; egress?: Asked } {
  const path = 'runtimeConfig.bandwidth';
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) throw refused(path, value, 'is not an object');
  const fields = value as Record<string, unknown>;
  const direction = (name: 'ingress' | 'egress'): Asked => {
    const rate = readNumber(`${path}.${name}Rate`, fields[`${name}Rate`]);
    const burst = readNumber(`${path}.${name}Burst`, fields[`${name}Burst`]);
    if (rate === 0) {
      if (burst > 0) throw refused(`${path}.${name}Burst`, burst, `means nothing without ${name}Rate`);
      return undefined;
    }
    if (rate > MOST) throw refused(`${path}.${name}Rate`, rate, `is above ${MOST} bit/s`);
    return limitOf(rate, burst === 0 || burst >= NO_BURST ? undefined : burst) ?? 'none';
  };
  return { ingress: direction('ingress'), egress: direction('egress') };
}

/** 0 when the value is absent. */
function readNumber(path: string, value: unknown): number {
  if (value === undefined || value === null) return 0;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value;
  throw refused(path, value, 'is not a whole number of bits from 0 on');
}

function readCgroupPath(value: unknown): string {
  const path = 'runtimeConfig.cgroupPath';
  if (value === undefined || value === null || value === '') return '';
  if (typeof value !== 'string') throw refused(path, value, 'is not text');
  // Only systemd's escapes contain a backslash.
  if (/^[\w./:@\\-]+$/.test(value) && !value.split('/').includes('..')) return value;
  throw refused(path, value, 'is not the path of a control group');
}

/** The share in bit/s, or the reason why it is unknown. */
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
 * The pod's own cgroup, from the path that the runtime gives: kubelet's path (containerd), its last part alone (cri-o;
 * dashes separate the names of a slice's parents), or the path of something inside it. kubelet makes this cgroup before
 * the sandbox, with the pod's values (EnsureExists); the names are those of its GetPodContainerName.
 */
function podGroup(path: string): string | undefined {
  const parts = path.split('/').filter((part) => part !== '');
  const [only] = parts;
  const whole = parts.length === 1 && only?.endsWith('.slice') === true ? expandSlice(only) : parts;
  const at = whole.findIndex((part) => /(?:^|-)pod[0-9a-fA-F_-]{8,}(?:\.slice)?$/.test(part));
  return at === -1 ? undefined : `/${whole.slice(0, at + 1).join('/')}`;
}

/** `a-b-c.slice` is inside `a.slice/a-b.slice` (systemd.slice(5)). */
function expandSlice(name: string): string[] {
  const words = name.slice(0, -'.slice'.length).split('-');
  return words.map((_, at) => `${words.slice(0, at + 1).join('-')}.slice`);
}

/**
 * CPUs of a pod: its limit when all its containers have one, otherwise its request. In a pod's cgroup kubelet always
 * computes the weight from CPU shares by the linear form (KEP-2254; getCPUWeight in pkg/kubelet/cm up to 1.37). The
 * other form, which runc and crun write since 2025, occurs in containers' cgroups only.
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
  return wrongConfig(path, `${JSON.stringify(value)} ${problem}`, { value });
}
