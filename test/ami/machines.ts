// The interface of a case's instances: namespaces.ts or vms.ts.
import type { Cloud, CloudOptions } from '../aws/index.ts';

type Record = Parameters<NonNullable<CloudOptions['machineFor']>>[0];
type RunMachine = ReturnType<NonNullable<CloudOptions['machineFor']>>;

export interface Disk {
  folder: string;
  /** Names in a folder on the disk of a stopped build instance; empty also when the folder does not exist. */
  names(path: string): Promise<string[]>;
}

export interface Report {
  fit: boolean;
  checks: { id: string; result: string; summary: string }[];
}

export interface Machines {
  /** Launches a build instance; or a node, when `from` is the disk of its image's instance. */
  launch(cloud: Cloud, record: Record, from: Disk | undefined): { disk: Disk; machine: RunMachine };
  /** Adapts the copy of a template to these machines. */
  fit(template: string): string;
  /** The factor by which time limits are longer than with namespaces. */
  slowness: number;
  /** By instance ID: the output of `eniboot image check --booted` on a node before it is terminated. */
  booted: Map<string, Report>;
  /** IDs of virtual machines that run and were not asked to end. */
  running(): string[];
  end(): Promise<void>;
}
