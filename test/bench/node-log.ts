// What cri-o's own log says of each pod: when it was asked for a sandbox, when the plugin was called and came back,
// when the container ran.

/** Moments on the wall clock, milliseconds; one that the log does not have is missing. */
export interface PodRecord {
  /** cri-o is asked for the sandbox. */
  asked?: number;
  addBegins?: number;
  /** The plugin has answered: cri-o looks at what came of it. */
  addEnds?: number;
  /** CHECK, which cri-o calls after each ADD, has answered; known only of a pod that was alone with it. */
  checked?: number;
  sandbox?: number;
  started?: number;
}

export interface RuntimeLog {
  /** By kubelet's name of the pod, which for a static pod ends in its node's. */
  pods: Record<string, PodRecord>;
  /** cri-o takes back a sandbox whose ADD or CHECK has failed, in these words. */
  failures: string[];
}

const moments: [keyof PodRecord, RegExp][] = [
  ['asked', /^Running pod sandbox: [^/]+\/([^/]+)\/POD$/],
  ['addBegins', /^Adding pod [^_]+_(\S+) to CNI network /],
  ['addEnds', /^Checking pod [^_]+_(\S+) for CNI network /],
  ['sandbox', /^Ran pod sandbox \S+ with infra container: [^/]+\/([^/]+)\/POD$/],
];

/** @param text lines as `journalctl -o cat -u crio` prints them. */
export function readRuntimeLog(text: string): RuntimeLog {
  const log: RuntimeLog = { pods: {}, failures: [] };
  for (const line of text.split('\n')) {
    const [, time, quoted = ''] = /^time="([^"]+)" level=\w+ msg="((?:[^"\\]|\\.)*)"/.exec(line) ?? [];
    if (time === undefined) continue;
    const message = quoted.replaceAll('\\"', '"');
    if (message.startsWith('NetworkStart: stopping network ')) log.failures.push(message);
    const book = (pod: string, what: keyof PodRecord) => {
      const record = (log.pods[pod] ??= {});
      // A sandbox that is made again is not the first one's time; cri-o looks at a pod's network later on as well.
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

/** Go writes nanoseconds, of which Date reads three digits. */
function wallClock(time: string): number {
  return Date.parse(time.replace(' ', 'T').replace(/(\.\d{3})\d+/, '$1'));
}
