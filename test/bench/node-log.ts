// The moments of each pod in cri-o's own log: when a sandbox was requested, when the plugin was called and answered, when the
// container ran.

/** Moments on the wall clock, milliseconds; a moment that is not in the log is missing. */
export interface PodRecord {
  /** kubelet requests the sandbox from cri-o. */
  asked?: number;
  addBegins?: number;
  /** The plugin has answered: cri-o reads its result. */
  addEnds?: number;
  /** CHECK, which cri-o calls after each ADD, has answered; known only when no other pod was checked at the same time. */
  checked?: number;
  sandbox?: number;
  started?: number;
}

export interface RuntimeLog {
  /** By kubelet's name of the pod. For a static pod the name ends in its node's name. */
  pods: Record<string, PodRecord>;
  /** Messages of cri-o about sandboxes that it removes because ADD or CHECK has failed. */
  failures: string[];
}

const moments: [keyof PodRecord, RegExp][] = [
  ['asked', /^Running pod sandbox: [^/]+\/([^/]+)\/POD$/],
  ['addBegins', /^Adding pod [^_]+_(\S+) to CNI network /],
  ['addEnds', /^Checking pod [^_]+_(\S+) for CNI network /],
  ['sandbox', /^Ran pod sandbox \S+ with infra container: [^/]+\/([^/]+)\/POD$/],
];

/** @param text the output of `journalctl -o cat -u crio`. */
export function readRuntimeLog(text: string): RuntimeLog {
  const log: RuntimeLog = { pods: {}, failures: [] };
  for (const line of text.split('\n')) {
    const [, time, quoted = ''] = /^time="([^"]+)" level=\w+ msg="((?:[^"\\]|\\.)*)"/.exec(line) ?? [];
    if (time === undefined) continue;
    const message = quoted.replaceAll('\\"', '"');
    if (message.startsWith('NetworkStart: stopping network ')) log.failures.push(message);
    const book = (pod: string, what: keyof PodRecord) => {
      const record = (log.pods[pod] ??= {});
      // Only the first sandbox counts; cri-o also reads a pod's network later.
      record[what] ??= wallClock(time);
    };
    for (const [what, pattern] of moments) {
      const pod = pattern.exec(message)?.[1];
      if (pod !== undefined) book(pod, what);
    }
    if (message.startsWith('Checking CNI network ')) {
      const open = Object.entries(log.pods).filter(
        ([, one]) => one.addEnds !== undefined && one.sandbox === undefined,
      );
      const [pod, ...others] = open.map(([name]) => name);
      if (pod !== undefined && others.length === 0) book(pod, 'checked');
    }
    const started = message === 'Started container' && / description="?[^/"]+\/([^/"]+)\//.exec(line)?.[1];
    if (started) book(started, 'started');
  }
  return log;
}

/** Go writes nanoseconds; Date reads three digits. */
function wallClock(time: string): number {
  return Date.parse(time.replace(' ', 'T').replace(/(\.\d{3})\d+/, '$1'));
}
