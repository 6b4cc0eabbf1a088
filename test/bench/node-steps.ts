// What the measured moments of a node mean: the steps from power-on to the first pod with their owners, and the figures
// of many pods at once. All in seconds.
import type { BootMoments, Burst } from './node-measure.ts';

export type Owner = 'machine' | 'kernel' | 'systemd' | 'cloud' | 'eniboot' | 'cri-o' | 'kubelet';

/** On the boot clock. */
export interface Step {
  owner: Owner;
  what: string;
  from: number;
  to: number;
}

/**
 * Steps that follow each other without a gap. Within eniboot's boot, waiting and working alternate: they are shown as
 * one step each, with the length of all of their parts.
 */
export function stepsOf(moments: BootMoments): Step[] {
  const { eniboot, crio, kubelet, pod, cloud } = moments;
  const boot = eniboot.active - eniboot.process;
  const waited = Math.min(boot, cloud.waitMs / 1000);
  const ends: [Owner, string, number | undefined][] = [
    ['machine', 'QEMU loads the kernel', 0],
    ['kernel', 'kernel and initramfs', moments.userspace],
    ['systemd', 'units until the network is online (udev, NetworkManager, DHCP)', moments.networkOnline],
    ['systemd', 'until eniboot.service has a process', eniboot.process],
    ['eniboot', 'the boot, without its waits', eniboot.active - waited],
    ['cloud', 'IMDS, EC2 and the ENI that arrives', eniboot.active],
    ['systemd', 'until cri-o has a process', crio.process],
    ['cri-o', 'starts', crio.active],
    ['systemd', 'until kubelet has a process', kubelet.process],
    ['kubelet', "starts, until it reads the pod's file", moments.seen],
    ['kubelet', 'until it asks for the sandbox', pod.asked],
    ['cri-o', 'namespaces, until it calls the plugin', pod.addBegins],
    ['eniboot', 'ADD, as cri-o waits for it', pod.addEnds],
    ['eniboot', 'CHECK, which cri-o calls next', pod.checked],
    ['cri-o', 'sandbox and container, until it runs', pod.started],
  ];
  let from = moments.powerOn;
  return ends.map(([owner, what, end]) => {
    // Two units that start beside each other: the later one's step begins where the other's has ended.
    const to = Math.max(from, end ?? from);
    const step = { owner, what, from, to };
    from = to;
    return step;
  });
}

export interface Quantiles {
  p50: number;
  p99: number;
  max: number;
  n: number;
}

export interface BurstFigures {
  pods: number;
  running: number;
  /** From the files to the last container that ran; to the end of patience when not all did. */
  seconds: number;
  /** ADD from cri-o's call to its next step, and in eniboot's own words. */
  add: Quantiles;
  own: Quantiles;
  /** Of an ADD in eniboot's own words, the median of each phase. */
  phases: Record<string, number>;
  /** Median of: ADD / (from asking for the sandbox to the running container). */
  addShare: number;
  /** When each container ran, from the files on. */
  started: number[];
  failures: string[];
  removed: number | undefined;
}

export function burstOf({
  pods,
  running,
  from,
  until,
  records,
  failures,
  own,
  removed,
}: Burst): BurstFigures {
  const complete = records.flatMap(({ asked, addBegins, addEnds, started }) =>
    asked === undefined || addBegins === undefined || addEnds === undefined || started === undefined
      ? []
      : [{ add: addEnds - addBegins, whole: started - asked, started: started - from }],
  );
  const started = complete.map((one) => one.started).sort((a, b) => a - b);
  const phases = Object.keys(own[0]?.phases ?? {}).map((phase) => [
    phase,
    quantiles(own.map((call) => (call.phases[phase] ?? 0) / 1000)).p50,
  ]);
  return {
    pods,
    running,
    seconds: running === pods ? (started.at(-1) ?? 0) : until - from,
    add: quantiles(complete.map(({ add }) => add)),
    own: quantiles(own.map((call) => (call.phases['total'] ?? 0) / 1000)),
    phases: Object.fromEntries(phases),
    addShare: quantiles(complete.map(({ add, whole }) => add / whole)).p50,
    started,
    failures,
    removed,
  };
}

/** By nearest rank. */
function quantiles(values: number[]): Quantiles {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return { p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? 0, n: sorted.length };
}
