// Every series that eniboot writes for Prometheus, and the form of its text files. docs/metrics.md is made from this list
// (test/pages.ts), and eniboot can write only series of this list.

import { guardCounters } from '../node-rules/nft-guard.ts';

export interface Description {
  type: 'gauge' | 'counter' | 'histogram';
  help: string;
  /** The file in /var/lib/eniboot/metrics that holds it. */
  file: 'boot.prom' | 'node.prom';
  /** Name and meaning. */
  labels: Record<string, string>;
}

const phase = 'phase of the boot';
const plugin = '`eniboot`, `eniboot-ipam`, `eniboot-ptp` or `eniboot-policy`';
const command = '`ADD` or `DEL`';
const action = "EC2's name of the call, such as `AssignPrivateIpAddresses`";

/** A series about the last boot. */
const ofBoot = (help: string, labels: Description['labels'] = {}): Description => ({
  type: 'gauge',
  help,
  file: 'boot.prom',
  labels,
});
/** A series about what runs between boots. */
const ofNode = (
  type: Description['type'],
  help: string,
  labels: Description['labels'] = {},
): Description => ({
  type,
  help,
  file: 'node.prom',
  labels,
});

export const series = {
  eniboot_boot_ready: ofBoot('1 when the last boot ended READY.', {
    version: 'version of eniboot',
    code: 'failure code, empty when there is none',
  }),
  eniboot_boot_degraded: ofBoot('1 when it ended READY without something that was asked for.'),
  eniboot_boot_seconds: ofBoot('Seconds from the first run of the agent to its verdict.'),
  eniboot_boot_attempts: ofBoot('Runs of the agent until the verdict.'),
  eniboot_boot_phase_seconds: ofBoot(
    'Seconds of each phase, and the part of them spent waiting for the cloud.',
    { phase, part: '`total` or `waiting`' },
  ),
  eniboot_boot_ec2_calls: ofBoot('EC2 calls of the last boot by action.', { action }),
  eniboot_boot_imds_requests: ofBoot('Requests to the instance metadata service.'),
  eniboot_max_pods: ofBoot('Pods kubelet was told it may run.'),
  eniboot_cni_calls_total: ofNode('counter', 'Plugin calls that ended, by what they ended with.', {
    plugin,
    command,
    code: '`OK` or a failure code',
  }),
  eniboot_cni_seconds: ofNode('histogram', 'Seconds of plugin calls, by phase.', {
    plugin,
    command,
    phase:
      '`start`: until the call is read, `lease`: finding, taking or ending the lease, `kernel`: links, routes, rules and tables, `total`',
    outcome: '`ok` or `failed`',
  }),
  eniboot_cni_unshared_total: ofNode(
    'counter',
    'Pods without a bandwidth limit because their share by CPU could not be known.',
  ),
  eniboot_ec2_calls_total: ofNode(
    'counter',
    'EC2 calls of boots, refills and repairs, each attempt by itself.',
    { action, outcome: '`accepted` or a failure code' },
  ),
  eniboot_guard_drops_total: ofNode('counter', 'Packets that the guards have dropped since boot.', {
    reason: Object.entries(guardCounters)
      .map(([name, what]) => `\`${name}\`: ${what}`)
      .join('; '),
  }),
  eniboot_policy_denied_packets_total: ofNode(
    'counter',
    'Packets that network policies have denied since boot. Written only where policies are in force.',
    {
      policy:
        '`namespace/name` of the policy that isolates the pod; `namespace/*` where several do; `namespace/` before its rules are known; `others` beyond 100 series',
      direction: '`ingress` or `egress`',
    },
  ),
  eniboot_policy_pods: ofNode(
    'gauge',
    'Pods of this node by whether network policies isolate them. Written only where policies are in force.',
    {
      state:
        '`isolated`, `open`, or `pending`: policy tables that are still to be written, the node’s own included',
    },
  ),
  eniboot_policy_put_back_total: ofNode(
    'counter',
    'Policy tables that were written again since another program, as a pod with NET_ADMIN, had changed them. Written only where policies are in force.',
  ),
  eniboot_pool_addresses: ofNode('gauge', 'Addresses of the pool, by ENI and state.', {
    eni: 'ID of the pod ENI',
    state:
      '`leased`, `ready`, `resting` (its pod is gone), `in-use` (an ADD found it carried without a lease) or `retiring` (on its way back to EC2)',
  }),
} satisfies Record<string, Description>;

export type SeriesName = keyof typeof series;

/** Upper bounds of the histograms' buckets in seconds. */
export const BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

export interface Histogram {
  /**
   * For each bucket, observations that are at most as large as its bound and larger than the bound before; the last entry:
   * observations larger than all bounds.
   */
  counts: number[];
  /** Seconds. */
  sum: number;
}

export interface Sample {
  name: SeriesName;
  labels: Record<string, string>;
  value: number | Histogram;
}

/** Prometheus text format, for node_exporter's textfile collector: the samples of a series in one block. */
export function exposition(samples: Sample[]): string {
  const names = [...new Set(samples.map((sample) => sample.name))];
  const blocks = names.map((name) => {
    const { help, type } = series[name];
    const lines = samples.filter((sample) => sample.name === name).flatMap(linesOf);
    return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines].join('\n');
  });
  return `${blocks.join('\n')}\n`;
}

function linesOf({ name, labels, value }: Sample): string[] {
  if (typeof value === 'number') return [`${name}${labelText(labels)} ${value}`];
  let below = 0;
  const buckets = value.counts.map((count, at) => {
    below += count;
    return `${name}_bucket${labelText({ ...labels, le: String(BUCKETS[at] ?? '+Inf') })} ${below}`;
  });
  return [
    ...buckets,
    `${name}_sum${labelText(labels)} ${value.sum}`,
    `${name}_count${labelText(labels)} ${below}`,
  ];
}

function labelText(labels: Record<string, string>): string {
  const pairs = Object.entries(labels).map(
    ([name, value]) =>
      `${name}="${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`,
  );
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}
