// The steps of a node from power-on to the first pod, with the program of each, and the figures of many pods at once, computed
// from the measured moments. All in seconds.
import type { BootMoments, Burst } from './node-measure.ts';

export type Owner = 'machine' | 'kernel' | 'systemd' | 'cloud' | 'eniboot' | 'cri-o' | 'kubelet';

/** From and to are on the boot clock. */
export interface Step {
  owner: Owner;
  what: string;
  from: number;
  to: number;
}

/**
 * Steps that follow each other without a gap. In eniboot's boot, waiting and working alternate: each is shown as one step with
 * the length of all its parts.
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
    ['cloud', "waits for IMDS, EC2 and the ENI's device", eniboot.active],
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
    // Two units may start at the same time: the step of the later one begins where the step of the other ends.
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
  /** From the files to the last container that ran; when not all ran, to the time limit. */
  seconds: number;
  /** ADD as cri-o measures it, from its call to its next step; and as eniboot reports it. */
  add: Quantiles;
  own: Quantiles;
  /** The median of each phase of an ADD, as eniboot reports them. */
  phases: Record<string, number>;
  /** The median of: ADD / (time from the request for the sandbox to the running container). */
  addShare: number;
  /** When each container ran, counted from the files. */
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

/** Percentiles by nearest rank. */
function quantiles(values: number[]): Quantiles {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return { p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? 0, n: sorted.length };
}
