// Every series eniboot writes for Prometheus, and how a text file of them looks. docs/metrics.md is made from this
// list (test/pages.ts), and nothing can be written that is not on it.

import { guardCounters } from './guard-table.ts';

export interface Description {
  type: 'gauge' | 'counter' | 'histogram';
  help: string;
  /** The file of /var/lib/eniboot/metrics it stands in. */
  file: 'boot.prom' | 'node.prom';
  /** Name and meaning. */
  labels: Record<string, string>;
}

const phase = 'phase of the boot';
const plugin = '`eniboot`, `eniboot-ipam` or `eniboot-ptp`';
const command = '`ADD` or `DEL`';
const action = "EC2's name of the call, such as `AssignPrivateIpAddresses`";

export const series = {
  eniboot_boot_ready: {
    type: 'gauge',
    help: '1 when the last boot ended READY.',
    file: 'boot.prom',
    labels: { version: 'version of eniboot', code: 'failure code, empty when there is none' },
  },
  eniboot_boot_degraded: {
    type: 'gauge',
    help: '1 when it ended READY without something that was asked for.',
    file: 'boot.prom',
    labels: {},
  },
  eniboot_boot_seconds: {
    type: 'gauge',
    help: 'Seconds from the first run of the agent to its verdict.',
    file: 'boot.prom',
    labels: {},
  },
  eniboot_boot_attempts: {
    type: 'gauge',
    help: 'Runs of the agent until the verdict.',
    file: 'boot.prom',
    labels: {},
  },
  eniboot_boot_phase_seconds: {
    type: 'gauge',
    help: 'Seconds of each phase, and the part of them spent waiting for the cloud.',
    file: 'boot.prom',
    labels: { phase, part: '`total` or `waiting`' },
  },
  eniboot_boot_ec2_calls: {
    type: 'gauge',
    help: 'EC2 calls of the last boot by action.',
    file: 'boot.prom',
    labels: { action },
  },
  eniboot_boot_imds_requests: {
    type: 'gauge',
    help: 'Requests to the instance metadata service.',
    file: 'boot.prom',
    labels: {},
  },
  eniboot_max_pods: {
    type: 'gauge',
    help: 'Pods kubelet was told it may run.',
    file: 'boot.prom',
    labels: {},
  },
  eniboot_cni_calls_total: {
    type: 'counter',
    help: 'Plugin calls that ended, by what they ended with.',
    file: 'node.prom',
    labels: { plugin, command, code: '`OK` or a failure code' },
  },
  eniboot_cni_seconds: {
    type: 'histogram',
    help: 'Seconds of plugin calls, by phase.',
    file: 'node.prom',
    labels: {
      plugin,
      command,
      phase:
        '`start`: until the call is read, `lease`: finding, taking or ending the lease, `kernel`: links, routes, rules and tables, `total`',
      outcome: '`ok` or `failed`',
    },
  },
  eniboot_cni_unshared_total: {
    type: 'counter',
    help: 'Pods without a bandwidth limit because their share by CPU could not be known.',
    file: 'node.prom',
    labels: {},
  },
  eniboot_ec2_calls_total: {
    type: 'counter',
    help: 'EC2 calls of boots, refills and repairs, each attempt by itself.',
    file: 'node.prom',
    labels: { action, outcome: '`accepted` or a failure code' },
  },
  eniboot_guard_drops_total: {
    type: 'counter',
    help: 'Packets that the guards have dropped since boot.',
    file: 'node.prom',
    labels: {
      reason: Object.entries(guardCounters)
        .map(([name, what]) => `\`${name}\`: ${what}`)
        .join('; '),
    },
  },
  eniboot_pool_addresses: {
    type: 'gauge',
    help: 'Addresses of the pool, by ENI and state.',
    file: 'node.prom',
    labels: {
      eni: 'ID of the pod ENI',
      state:
        '`leased`, `ready`, `resting` (its pod is gone), `in-use` (an ADD found it carried by somebody who has not leased it) or `retiring` (on its way back to EC2)',
    },
  },
} satisfies Record<string, Description>;

export type SeriesName = keyof typeof series;

/** Upper bounds of the histograms' buckets in seconds. */
export const BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

export interface Histogram {
  /** Observations at most as large as the bucket's bound and larger than the bound before; the last: larger than all. */
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
