// What instances of a case are made of: namespaces.ts or vms.ts.
import type { Cloud, CloudOptions } from '../aws/index.ts';

type Record = Parameters<NonNullable<CloudOptions['machineFor']>>[0];
type RunMachine = ReturnType<NonNullable<CloudOptions['machineFor']>>;

export interface Disk {
  folder: string;
  /** Of a folder on the disk of a build instance that has stopped; absent or empty is the same. */
  names(path: string): Promise<string[]>;
}

export interface Report {
  fit: boolean;
  checks: { id: string; result: string; summary: string }[];
}

export interface Machines {
  /** An instance to build on; or, with the disk that its image was made of, a node. */
  launch(cloud: Cloud, record: Record, from: Disk | undefined): { disk: Disk; machine: RunMachine };
  /** Makes the copy of a template fit for them. */
  fit(template: string): string;
  /** How many times longer than with namespaces things may take. */
  slowness: number;
  /** By instance ID: what `eniboot image check --booted` says on a node before it goes. */
  booted: Map<string, Report>;
  /** Instance IDs of virtual machines that nobody has asked to go. */
  running(): string[];
  end(): Promise<void>;
}
