// What a boot phase is, and what the phases share. Each phase observes, plans (pure), applies (idempotent)
// and verifies (evidence); the sequence in sequence.ts runs them under one deadline.

import type { Ec2 } from '../aws/ec2.ts';
import type { Imds } from '../aws/imds.ts';
import type { InstanceLimits } from '../aws/limits/limits.ts';
import type { BootEniMetadata, InstanceIdentity, MetadataEni } from '../aws/metadata.ts';
import type { Config } from '../config/schema.ts';
import type { Link } from '../host/links.ts';
import { Failure, type FailureCode } from '../messages/failure.ts';
import { redactValue } from '../messages/redact.ts';
import type { Clock } from '../port/clock.ts';
import type { Log } from '../port/log.ts';
import type { BundleState } from './bundle.ts';
import type { Provenance } from './node-config.ts';

export const phaseNames = [
  'identify',
  'reserve',
  'egress',
  'attach',
  'install',
  'kubelet',
  'verify',
  'ready',
] as const;
export type PhaseName = (typeof phaseNames)[number];

/** One thing to do, in words for people; phases add the data they need to do it. */
export interface Change {
  summary: string;
}

/** One fact that was looked at. `warn` never stops a boot; `skip` is one that this place cannot show, and is no pass. */
export interface Check {
  id: string;
  result: 'pass' | 'warn' | 'fail' | 'skip';
  summary: string;
  /** What was seen: values, not judgements. */
  evidence: Record<string, unknown>;
  /** Set when the result is `fail`. */
  code?: FailureCode;
  /** What to do, where it depends on what was found. */
  remedy?: string;
}

export interface Phase<Observed = unknown, Planned extends Change = Change> {
  name: PhaseName;
  /** Seconds this phase may take before it counts as failed; the boot's deadline may end it earlier. */
  budgetSeconds: number;
  observe(boot: Boot): Promise<Observed>;
  /** Pure: the same observation gives the same changes; none when everything is as it should be. */
  plan(observed: Observed, boot: Boot): Planned[];
  apply(changes: Planned[], observed: Observed, boot: Boot): Promise<void>;
  verify(boot: Boot): Promise<Check[]>;
  /** Before another try, where observing again would not find out what to mend. */
  mend?(boot: Boot): Promise<void>;
}

/** The node as identify found it. */
export interface NodeFacts {
  identity: InstanceIdentity;
  bootEni: BootEniMetadata;
  /** The boot ENI's device. */
  bootDevice: Link;
  /**
   * Addresses of the boot ENI that pods reach by their node, the primary first: those of EC2, and those that somebody has
   * given its device or the loopback (keepalived, kube-vip).
   */
  ownAddresses: { ipv4: string[]; ipv6: string[] };
  /** ENIs other than the boot ENI, as far as IMDS describes them completely. */
  otherEnis: MetadataEni[];
  limits: InstanceLimits;
  /** Target lifecycle state in a warm pool, for example `Warmed:Stopped`. */
  lifecycleTarget: string | undefined;
}

/** A pod ENI in use: EC2 and kernel both have it. */
export interface PodEni {
  eniId: string;
  mac: string;
  deviceIndex: number;
  subnetId: string;
  subnetCidr: string;
  primaryAddress: string;
  /** /28 prefixes and single addresses as CIDRs: what the pool is made of. */
  cidrs: string[];
  /** The /80 that its pods' IPv6 addresses are made of; undefined where pods have IPv4 alone. */
  ipv6Prefix: string | undefined;
}

/** What runs through a whole boot. */
export interface Boot {
  clock: Clock;
  log: Log;
  imds: Imds;
  config: Config;
  /** Of the configuration; undefined before it is read, and when it is the one the node booted with. */
  provenance: Provenance | undefined;
  /** Opened on first use; patience included. The region is only needed before identify is done. */
  ec2(region?: string): Promise<Ec2>;
  /** Boot-clock milliseconds at which the running phase must be over. */
  until(): number;
  /** Narrows until() for what follows, to at most so many milliseconds from now; undefined restores it. */
  limitPatience(ms: number | undefined): void;
  /** Runs a wait for the cloud and books its time, so that the agent's own time can be told apart. */
  waiting<T>(wait: Promise<T>): Promise<T>;
  /** Nothing may be changed in EC2, and nothing there needs to be looked up: repair. */
  localOnly: boolean;
  /** On a READY node, the configuration is the one it booted with: an edited one waits for the next run of boot. */
  asBooted: boolean;
  /** This run was handed the boot by another version: it hands over to nobody. */
  handedOver: boolean;
  /** What the install phase learned about the zone's bundle. */
  bundle: BundleState | undefined;
  /** Why this boot is degraded, if it is. */
  degradations: string[];
  /** EC2 has left a question of this boot unanswered. */
  ec2Silent: boolean;
  /** Known as soon as IMDS has said it, before anything else can fail. */
  identity: InstanceIdentity | undefined;
  node: NodeFacts | undefined;
  pods: PodEni[];
  /** ENIs on this instance that are neither the boot ENI nor ours. */
  foreignEnis: number;
}

/** The node, once identify has run. */
export function nodeOf(boot: Boot): NodeFacts {
  if (boot.node === undefined) throw new Failure('INTERNAL', 'a phase ran before identify');
  return boot.node;
}

/** Pods have IPv6 beside IPv4. */
export function isDualStack(boot: Boot): boolean {
  return boot.config.pods.ipFamily === 'dual-stack';
}

export function pass(id: string, summary: string, evidence: Record<string, unknown> = {}): Check {
  return shown({ id, result: 'pass', summary, evidence });
}

export function warn(id: string, summary: string, evidence: Record<string, unknown> = {}): Check {
  return shown({ id, result: 'warn', summary, evidence });
}

/** Not applicable here: `summary` says where it is. */
export function skip(id: string, summary: string): Check {
  return { id, result: 'skip', summary, evidence: {} };
}

export function fail(
  id: string,
  code: FailureCode,
  summary: string,
  evidence: Record<string, unknown> = {},
): Check {
  return shown({ id, result: 'fail', code, summary, evidence });
}

/** Evidence is often what a program has said. */
function shown(check: Check): Check {
  return redactValue(check) as Check;
}
