// A modelled node, as a rollout sees it, on the region's clock (virtual or real). Its report is built from the documented
// format, not by the agent's code.
import type { Scheduler } from '../ec2/scheduler.ts';
import type { ManagedNode, ScriptResult } from './managed.ts';

/** How its update goes wrong. */
export type Behaviour =
  | 'good'
  /** The new version's health checks fail: the node goes back by itself. */
  | 'goes-back'
  /** Never answers, and never ends. */
  | 'hangs'
  /** Loses its connection during the update, for good. */
  | 'vanishes'
  /** Loses its connection after the switch: its answer is lost. */
  | 'mute'
  /**
   * Goes away during the update and comes back hours later: its agent runs the interrupted document again. Source:
   * aws/amazon-ssm-agent, agent/framework/processor/processor.go: documents in progress are resubmitted when it starts.
   */
  | 'returns'
  /** Reboots during the update; its agent runs the script again. */
  | 'reboots'
  /** Reports that it runs the new version, and does not run it. */
  | 'lies'
  /** Ends well without a report. */
  | 'silent'
  /** Ends well with output that is no report. */
  | 'garbles'
  | 'disk-full'
  /** Is not healthy before the update. */
  | 'sick'
  /** Is updated, and its report is made to mislead or to break its reader. */
  | 'hostile'
  /** Is updated in good health, and is unhealthy some seconds later. */
  | 'sickens'
  /** Is updated in good health, and loses its connection some seconds later. */
  | 'dies'
  /** Comes up on the new version and reports that its checks fail. */
  | 'unhealthy';

export interface ModelledNode extends ManagedNode {
  behaviour: Behaviour;
  healthy: boolean;
  version: string;
  sha256: string | undefined;
  previous: { version: string; sha256: string | undefined } | undefined;
  /** The rollout that put its version there, and the version before it. */
  pin: { rollout: string; from: { version: string; sha256: string | undefined } } | undefined;
  /** Its counters since the switch, which it reports at a gate; undefined: its version does not count. */
  counters: unknown;
  /** Switches from one version to another, in order. */
  switches: string[];
  /** Scripts that were begun, without reruns after a reboot. */
  runs: number;
}

export interface ModelOptions {
  scheduler: Scheduler;
  /** Milliseconds an update takes. */
  updateMs: () => number;
  parameter: (name: string) => string | undefined;
  /** Milliseconds until a node with 'returns' comes back. */
  awayMs?: () => number;
  /** Name of the parameter with its zone's version. */
  zone?: string;
}

export function modelledNode(
  instanceId: string,
  start: { version: string; behaviour?: Behaviour },
  options: ModelOptions,
): ModelledNode {
  const { scheduler } = options;
  const node: ModelledNode = {
    instanceId,
    online: true,
    lastPingAt: scheduler.now(),
    behaviour: start.behaviour ?? 'good',
    healthy: true,
    version: start.version,
    sha256: undefined,
    previous: undefined,
    pin: undefined,
    counters: { restarts: 0, failedAdds: 0, drops: 0 },
    switches: [],
    runs: 0,
    run(script, ended) {
      const call = readCall(script);
      if (call.action === 'check') return check(ended);
      node.runs += 1;
      return carryOut(call, ended);
    },
  };

  function check(ended: (result: ScriptResult) => void): () => void {
    return scheduler.after(1_000, () =>
      ended({
        exitCode: node.healthy ? 0 : 1,
        stdout: `${JSON.stringify(reportOf(node, node.version, { result: 'already', counters: node.counters }))}\n`,
        stderr: '',
      }),
    );
  }

  function carryOut(call: Call, ended: (result: ScriptResult) => void): () => void {
    const from = node.version;
    const say = (exitCode: number, report: object) =>
      ended({ exitCode, stdout: `${JSON.stringify(reportOf(node, from, report))}\n`, stderr: '' });
    const halt = haltedBy(options.parameter(call.halt));
    if (halt !== undefined) {
      say(1, { result: 'untouched', code: 'UPDATE_HALTED', message: halt });
      return () => {};
    }
    const stale = () => staleBy(call, options.parameter(call.wanted), scheduler.now());
    const refuse = (code: string) => say(1, { result: 'untouched', code, message: 'no longer wanted' });
    const early = stale();
    if (early !== undefined) {
      refuse(early);
      return () => {};
    }
    const half = options.updateMs() / 2;
    let cancel = scheduler.after(half, () => {
      if (call.action !== 'update') return finishRollback();
      const { behaviour } = node;
      if (behaviour === 'hangs') return;
      if (behaviour === 'vanishes') node.online = false;
      else if (behaviour === 'returns') {
        node.behaviour = 'good';
        node.online = false;
        // The agent's stop does not reach the node while it is away.
        scheduler.after(options.awayMs?.() ?? 2 * 3600_000, () => {
          node.online = true;
          carryOut(call, () => {});
        });
      } else if (behaviour === 'sick')
        say(1, { result: 'untouched', healthy: false, code: 'UPDATE_UNHEALTHY_BEFORE' });
      else if (behaviour === 'disk-full')
        say(1, { result: 'untouched', code: 'UPDATE_NOT_STAGED', message: 'no space left' });
      else if (behaviour === 'reboots') {
        node.behaviour = 'good';
        cancel = scheduler.after(60_000, () => {
          cancel = carryOut(call, ended);
        });
      } else cancel = scheduler.after(half, finishUpdate);
    });
    return () => cancel();

    function finishUpdate(): void {
      const { behaviour } = node;
      const late = stale();
      if (late !== undefined) return refuse(late);
      if (behaviour === 'silent') return ended({ exitCode: 0, stdout: '', stderr: '' });
      if (behaviour === 'garbles')
        return ended({ exitCode: 0, stdout: '{"eniboot":"update","schema":1,"no', stderr: 'broken pipe' });
      if (behaviour === 'lies') return say(0, { result: 'updated' });
      if (node.version === call.version)
        return say(0, { result: node.pin?.rollout === call.rollout ? 'updated' : 'already' });
      const before = { version: node.version, sha256: node.sha256 };
      node.pin = { rollout: call.rollout, from: before };
      switchTo({ version: call.version, sha256: call.digests[0] });
      if (behaviour === 'goes-back') {
        goBack();
        return say(1, {
          result: 'went-back',
          failing: ['egress'],
          code: 'UPDATE_WENT_BACK',
          message: 'egress: EGRESS_TABLE_DIFFERS',
        });
      }
      if (behaviour === 'hostile') return say(0, hostileReport(node));
      if (behaviour === 'mute') {
        node.online = false;
        return;
      }
      if (behaviour === 'unhealthy') {
        node.healthy = false;
        return say(0, { result: 'updated', failing: ['pods'] });
      }
      if (behaviour === 'sickens' || behaviour === 'dies')
        scheduler.after(20_000, () => {
          if (behaviour === 'sickens') node.healthy = false;
          else node.online = false;
        });
      say(0, { result: 'updated' });
    }

    function finishRollback(): void {
      if (['hangs', 'vanishes', 'mute'].includes(node.behaviour)) return;
      const late = stale();
      if (late !== undefined) return refuse(late);
      if (node.version !== call.version) return say(0, { result: 'already' });
      const back = call.action === 'follow' ? zoneVersion() : broughtBy(call.rollout);
      if (back === undefined) return say(0, { result: 'already', code: 'UPDATE_NOT_OF_ROLLOUT' });
      switchTo(back);
      node.healthy = true;
      say(0, { result: 'updated' });
    }
  }

  function broughtBy(rollout: string) {
    return node.pin?.rollout === rollout ? node.pin.from : undefined;
  }

  /** The version that its zone names, or the version that it ran before it followed its zone. */
  function zoneVersion() {
    const said = options.parameter(options.zone ?? '');
    if (said === undefined) return node.previous;
    const { version, x64 } = JSON.parse(said) as { version: string; x64?: { sha256: string } };
    return version === node.version ? undefined : { version, sha256: x64?.sha256 };
  }

  function switchTo(next: { version: string; sha256: string | undefined }): void {
    node.previous = { version: node.version, sha256: node.sha256 };
    node.version = next.version;
    node.sha256 = next.sha256;
    node.switches.push(next.version);
  }

  function goBack(): void {
    const { previous } = node;
    if (previous !== undefined) switchTo(previous);
  }

  return node;
}

interface Call {
  action: string;
  version: string;
  digests: string[];
  halt: string;
  wanted: string;
  rollout: string;
  /** Seconds since the epoch. */
  until: number;
}

function readCall(script: string): Call {
  const option = (name: string) => new RegExp(`--${name} (\\S+)`).exec(script)?.[1] ?? '';
  return {
    action: option('action'),
    version: option('version'),
    digests: option('digests').split(','),
    halt: option('halt'),
    wanted: option('wanted'),
    rollout: option('rollout'),
    until: Number(option('until')),
  };
}

function reportOf(node: ModelledNode, from: string, report: object): object {
  return {
    eniboot: 'update',
    schema: 1,
    node: node.instanceId,
    version: node.version,
    ...(node.sha256 === undefined ? {} : { sha256: node.sha256 }),
    from,
    healthy: node.healthy,
    failing: node.healthy ? [] : ['pods'],
    warnings: 0,
    seconds: 1,
    ...report,
  };
}

function haltedBy(flag: string | undefined): string | undefined {
  const { halted, why } = JSON.parse(flag ?? '{}') as { halted?: boolean; why?: string };
  return halted === true ? (why ?? '') : undefined;
}

/** Why a call is no longer wanted; undefined when it is. */
function staleBy(call: Call, wanted: string | undefined, nowMs: number): string | undefined {
  if (nowMs > call.until * 1000) return 'UPDATE_EXPIRED';
  const { rollout, direction } = JSON.parse(wanted ?? '{}') as { rollout?: string; direction?: string };
  const asked = call.action === 'update' ? 'forward' : 'back';
  return rollout === call.rollout && direction === asked ? undefined : 'UPDATE_NOT_WANTED';
}

/** Another bad report for each node: an unknown result, fields too long or of another type, the name of another node. */
function hostileReport(node: ModelledNode): object {
  const long = 'x'.repeat(2_000);
  const reports: object[] = [
    { result: 'cancelled' },
    { result: 'unsent', message: long },
    { result: long },
    { result: 'updated', version: long },
    { result: 'updated', failing: [long, long], healthy: false },
    { result: 'updated', failing: 'none' },
    { result: 'updated', node: 'i-0123456789abcdef0' },
    { result: 'updated', node: 7 },
    { result: 'went-back', message: { toString: 1 } },
    { result: 'updated', schema: 2 },
    { result: 'updated', counters: { restarts: -1 } },
    { result: 'untouched', code: 'UPDATE_HALTED' },
    { result: '__proto__', code: 'UPDATE_HALTED', message: '\u0000\u001b[2J' },
  ];
  const at = Number.parseInt(node.instanceId.slice(-4), 16) % reports.length;
  return reports[at] ?? {};
}
