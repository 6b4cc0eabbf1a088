// Kills the agent at one moment of a node's first boot, runs it again, and returns every difference from a node that was not
// disturbed.
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { INSTANCE_TAG, POD_ROLE, ROLE_TAG } from '../../agent/aws/tags.ts';
import type { PhaseName } from '../../agent/boot/phase.ts';
import type { Status } from '../../agent/boot/verdict/status.ts';
import { type Cloud, type Instance, type Latency, startCloud } from '../aws/index.ts';
import { temporaries } from './faults/machine.ts';
import { poolInEc2, poolOf } from './faults/pool.ts';
import { ENIBOOT, launchNode, type Node } from './node.ts';

/** Short waits of the simulated cloud, so that most moments are in the agent's own work. */
const SHORT: Partial<Latency> = {
  attachMs: 5,
  deviceMs: 3,
  detachMs: 5,
  describeLagMs: 5,
  imdsLagMs: 5,
  instanceMs: 5,
};

export type Moment =
  /** Milliseconds after the agent was started. */
  | { kind: 'time'; ms: number }
  /** When EC2 has carried out the action, before it answers. */
  | { kind: 'call'; action: string }
  /** So many milliseconds after that answer. */
  | { kind: 'answer'; action: string; ms: number }
  | { kind: 'phase'; phase: PhaseName; state: 'running' | 'done' }
  /** When the pool first holds so many addresses. */
  | { kind: 'pool'; addresses: number }
  /** When this file appears on the node. */
  | { kind: 'file'; path: string };

export interface Killed {
  moment: Moment;
  /** False when the boot was over before the moment came. */
  killed: boolean;
  /** Milliseconds the agent ran. */
  ranMs: number;
  /** The phase that was running, from the status file; undefined before the first phase. */
  during: PhaseName | undefined;
  /** Every difference; empty when the node converged. */
  problems: string[];
}

export function startKillCloud(): Promise<Cloud> {
  return startCloud({ latency: SHORT });
}

/** Milliseconds of an undisturbed first boot on this machine now. */
export async function measureBoot(cloud: Cloud): Promise<number> {
  const node = await launchNode(cloud);
  const started = performance.now();
  const { status, result } = await node.boot();
  const ms = performance.now() - started;
  if (status?.verdict !== 'ready') throw new Error(`a boot without any kill fails: ${result.stderr}`);
  await node.instance.terminate();
  return ms;
}

/** One node's life: launched, booted, killed at the moment, booted twice, terminated. */
export async function killOnce(cloud: Cloud, moment: Moment): Promise<Killed> {
  const node = await launchNode(cloud);
  const { instance } = node;
  const started = performance.now();
  const killed = await bootAndKill(cloud, instance, moment);
  const ranMs = performance.now() - started;
  const at = readStatus(instance);
  const during = at?.phases.find((phase) => phase.state === 'running')?.name;
  const problems: string[] = [];

  if (node.kubeletReleased() && at !== undefined && !beganReady(at)) {
    problems.push(`kubelet was released in ${during ?? 'no phase'}`);
  }
  problems.push(...(await bootOn(cloud, node)));
  return { moment, killed, ranMs, during, problems };
}

/**
 * Boots a node twice more after a disturbed boot, and terminates it. @returns every difference from a node that was not
 * disturbed
 */
export async function bootOn(cloud: Cloud, node: Node): Promise<string[]> {
  const { instance } = node;
  const problems: string[] = [];
  const lag = monitorEventLoopDelay();
  lag.enable();
  const seen = { imds: cloud.imds.length, calls: cloud.calls.length };
  const second = await node.boot();
  lag.disable();
  if (second.status?.verdict !== 'ready') {
    problems.push(
      `the run after it is not READY: ${second.result.stdout.slice(0, 600)}${second.result.stderr}`,
      await whatTheCloudSaw(cloud, node, seen, lag.max / 1e6),
    );
  }
  await cloud.settled();
  problems.push(...differences(cloud, node));
  const left = await temporaries(instance);
  if (left.length > 0) problems.push(`temporary files: ${left.join(', ')}`);

  const third = await node.boot();
  if (third.status?.verdict !== 'ready') problems.push('the run after that is not READY');
  const changes = third.status?.phases.flatMap((phase) => phase.changes) ?? [];
  if (changes.length > 0) problems.push(`the run after that changes: ${changes.join('; ')}`);
  if (third.status?.cloud.ec2Mutating !== 0) problems.push('the run after that changes something in EC2');

  await instance.terminate();
  await cloud.settled();
  const leaks = cloud.leakReport().filter((leak) => leak.tags[INSTANCE_TAG] === instance.id);
  if (leaks.length > 0) problems.push(`left when the instance is gone: ${JSON.stringify(leaks)}`);
  return problems;
}

/** What the cloud and the instance saw, to tell whether the agent, the simulation or the network between them failed the boot. */
async function whatTheCloudSaw(
  cloud: Cloud,
  { instance }: Node,
  before: { imds: number; calls: number },
  lagMs: number,
): Promise<string> {
  const imds = cloud.imds.slice(before.imds).filter((one) => one.instanceId === instance.id);
  const calls = cloud.calls.slice(before.calls).filter((one) => one.instanceId === instance.id);
  const look = await instance.run('sh', ['-c', 'ip neigh; ip route; ss -tan']);
  const unanswered = imds.filter((one) => one.status === 0).length;
  return `meanwhile the cloud saw ${imds.length} IMDS requests (${unanswered} unanswered) and ${calls.length} API calls, its longest pause was ${Math.round(lagMs)} ms; on the instance:\n${look.stdout}`;
}

export function showMoment(moment: Moment): string {
  if (moment.kind === 'time') return `${moment.ms} ms after the start`;
  if (moment.kind === 'call') return `when ${moment.action} is carried out`;
  if (moment.kind === 'answer') return `${moment.ms} ms after the answer to ${moment.action}`;
  if (moment.kind === 'phase') return `when ${moment.phase} is ${moment.state}`;
  if (moment.kind === 'pool') return `when the pool has ${moment.addresses} addresses`;
  return `when ${moment.path} appears`;
}

/** True when it was killed, false when it had ended by itself. */
async function bootAndKill(cloud: Cloud, instance: Instance, moment: Moment): Promise<boolean> {
  const agent = instance.spawn(ENIBOOT, ['boot', '--json'], { stdio: 'ignore' });
  let running = true;
  const ended = new Promise<void>((resolve) => {
    agent.once('close', () => {
      running = false;
      resolve();
    });
  });
  let killed = false;
  const kill = () => {
    if (!running || killed) return;
    killed = true;
    agent.kill('SIGKILL');
  };
  const stopWatching = watchFor(cloud, instance, moment, kill);
  await ended;
  stopWatching();
  return killed;
}

function watchFor(cloud: Cloud, instance: Instance, moment: Moment, kill: () => void): () => void {
  if (moment.kind === 'time') {
    const timer = setTimeout(kill, moment.ms);
    return () => clearTimeout(timer);
  }
  if (moment.kind === 'call' || moment.kind === 'answer') {
    const { send } = cloud.ec2;
    const watched: typeof send = (action, request, caller) => {
      const answer = send(action, request, caller);
      if (action === moment.action && caller?.instanceId === instance.id) {
        if (moment.kind === 'call') kill();
        else setTimeout(kill, moment.ms);
      }
      return answer;
    };
    cloud.ec2.send = watched;
    return () => {
      cloud.ec2.send = send;
    };
  }
  const timer = setInterval(() => {
    if (hasCome(instance, moment)) kill();
  }, 1);
  return () => clearInterval(timer);
}

function hasCome(instance: Instance, moment: Moment): boolean {
  if (moment.kind === 'pool') return poolOf(instance).addresses.length >= moment.addresses;
  if (moment.kind === 'file') return exists(join(instance.root, moment.path));
  if (moment.kind !== 'phase') return false;
  const phase = readStatus(instance)?.phases.find((one) => one.name === moment.phase);
  return phase?.state === moment.state || phase?.state === 'done';
}

/** Links are not followed: an absolute link would lead out of the instance. */
function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function readStatus(instance: Instance): Status | undefined {
  const text = instance.read('/run/eniboot/status.json');
  return text === undefined ? undefined : (JSON.parse(text) as Status);
}

/** True when the status allows kubelet to be released: every check holds. */
function beganReady(status: Status): boolean {
  return status.phases.every((phase) => phase.name === 'ready' || phase.state === 'done');
}

/** The differences between a booted node and EC2's assignments. */
export function differences(cloud: Cloud, node: Node): string[] {
  const { instance } = node;
  const problems: string[] = [];
  const pods = instance.enis.filter((eni) => eni.tags.get(ROLE_TAG) === POD_ROLE);
  if (instance.enis.length !== 2 || pods.length !== 1) problems.push(`${pods.length} pod ENIs instead of 1`);
  if (pods.some((eni) => eni.attachment?.deleteOnTermination !== true))
    problems.push('no delete-on-termination');
  if (pods.some((eni) => eni.prefixes.length !== 7))
    problems.push(`${pods[0]?.prefixes.length} prefixes instead of 7`);
  const has = JSON.stringify(poolOf(instance));
  const wanted = JSON.stringify(poolInEc2(instance));
  if (has !== wanted) problems.push(`the pool is ${has}, EC2 has ${wanted}`);
  if (!node.kubeletReleased()) problems.push('kubelet is not released');
  const leaks = cloud.leakReport().filter((leak) => leak.tags[INSTANCE_TAG] === instance.id);
  if (leaks.length > 0) problems.push(`left behind: ${JSON.stringify(leaks)}`);
  return problems;
}

/** Uniform in [0, 1), the same for the same seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
