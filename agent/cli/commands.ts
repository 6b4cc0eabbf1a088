// The list of commands. A module is loaded when its command is called: `eniboot status` must not load the AWS SDK.
import type { Command } from './command.ts';

interface Entry {
  /** As typed: `config`. */
  name: string;
  /** One line for `eniboot --help`. */
  summary: string;
  load(): Promise<Command>;
}

export const commands: readonly Entry[] = [
  {
    name: 'boot',
    summary: 'make this instance a node: all phases, one verdict',
    load: async () => (await import('./boot.ts')).bootCommand,
  },
  {
    name: 'plan',
    summary: 'what boot would change; changes nothing',
    load: async () => (await import('./plan.ts')).planCommand,
  },
  {
    name: 'status',
    summary: "this boot's verdict, phases and timings",
    load: async () => (await import('./status.ts')).statusCommand,
  },
  {
    name: 'check',
    summary: 'is this node healthy; read-only',
    load: async () => (await import('./check.ts')).checkCommand,
  },
  {
    name: 'repair',
    summary: 'put back what something else has changed since boot',
    load: async () => (await import('./repair.ts')).repairCommand,
  },
  {
    name: 'pods',
    summary: 'which pod has which address, and since when',
    load: async () => (await import('./pods.ts')).podsCommand,
  },
  {
    name: 'enis',
    summary: "this instance's ENIs as kernel, pool and EC2 see them",
    load: async () => (await import('./enis.ts')).enisCommand,
  },
  {
    name: 'pool',
    summary: 'the addresses kept for pods; refill or collect them',
    load: async () => (await import('./pool.ts')).poolCommand,
  },
  {
    name: 'trace',
    summary: "the paths of a pod's packets, and what is missing from them",
    load: async () => (await import('./trace.ts')).traceCommand,
  },
  {
    name: 'config',
    summary: 'check and show the configuration, print its schema, convert one of the Lyft CNI',
    load: async () => (await import('./config.ts')).configCommand,
  },
  {
    name: 'capacity',
    summary: 'how many pods an instance type can address, and why',
    load: async () => (await import('./capacity.ts')).capacityCommand,
  },
  {
    name: 'eni',
    summary: 'sweep: find and remove pod ENIs of dead instances',
    load: async () => (await import('./eni.ts')).eniCommand,
  },
  {
    name: 'iam-policy',
    summary: 'IAM policies for nodes, sweeps, rollouts and image releases: with the least rights they need',
    load: async () => (await import('./iam-policy.ts')).iamPolicyCommand,
  },
  {
    name: 'rollout',
    summary: 'bring a version to the fleet, one zone at a time; watch, halt, roll back',
    load: async () => (await import('./rollout.ts')).rolloutCommand,
  },
  {
    name: 'bundle',
    summary: 'build, publish and list the versions a fleet can run',
    load: async () => (await import('./bundle.ts')).bundleCommand,
  },
  {
    name: 'image',
    summary: 'check whether an image is fit to be an AMI; boot-test, publish and roll it back',
    load: async () => (await import('./image/command.ts')).imageCommand,
  },
  {
    name: 'policy',
    summary: 'network policies: which apply to a pod, and whether one pod may reach another',
    load: async () => (await import('./policy.ts')).policyCommand,
  },
  {
    name: 'update',
    summary: 'change the version of this node in place, or go back; called by rollouts',
    load: async () => (await import('./update.ts')).updateCommand,
  },
  {
    name: 'support-bundle',
    summary: 'one file with everything support needs, without secrets',
    load: async () => (await import('./support-bundle.ts')).supportBundleCommand,
  },
  {
    name: 'version',
    summary: 'version and commit of this executable',
    load: async () => (await import('./version.ts')).versionCommand,
  },
];
