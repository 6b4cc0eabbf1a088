// A node that exists as a model only: what a rollout sees of one, on whatever clock the region has. Its report is built
// from the documented format, not by the agent's code.
import type { Scheduler } from '../ec2/scheduler.ts';
import type { ManagedNode, ScriptResult } from './managed.ts';

/** What goes wrong when it is updated. */
export type Behaviour =
  | 'good'
  /** The new version's health checks fail: it goes back by itself. */
  | 'goes-back'
  /** Never answers, and never ends. */
  | 'hangs'
  /** Loses its connection in the middle of the work, and for good. */
  | 'vanishes'
  /** Loses its connection behind the switch: its answer is lost. */
  | 'mute'
  /**
   * Is gone in the middle, and comes back hours later: its agent runs the interrupted document again. Source:
   * aws/amazon-ssm-agent, agent/framework/processor/processor.go: documents in progress are resubmitted when it starts.
   */
  | 'returns'
  /** Reboots in the middle; its agent runs the script again. */
  | 'reboots'
  /** Says that it runs the new version, and does not. */
  | 'lies'
  /** Ends well without a word. */
  | 'silent'
  /** Ends well with something that is no report. */
  | 'garbles'
  | 'disk-full'
  /** Not healthy before anything was done. */
  | 'sick'
  /** Is updated, and its report is made to mislead or to break whoever reads it. */
  | 'hostile'
  /** Is updated in good health, and no longer healthy some seconds later. */
  | 'sickens'
  /** Is updated in good health, and loses its connection some seconds later. */
  | 'dies'
  /** Comes up on the new version and says that its checks fail. */
  | 'unhealthy';

export interface ModelledNode extends ManagedNode {
  behaviour: Behaviour;
  healthy: boolean;
  version: string;
  sha256: string | undefined;
  previous: { version: string; sha256: string | undefined } | undefined;
  /** The rollout that has put its version there, and what ran before. */
  pin: { rollout: string; from: { version: string; sha256: string | undefined } } | undefined;
  /** Switches from one version to another, in order. */
  switches: string[];
  /** Scripts begun, reruns after a reboot left out. */
  runs: number;
}

export interface ModelOptions {
  scheduler: Scheduler;
  /** Milliseconds an update takes. */
  updateMs: () => number;
  parameter: (name: string) => string | undefined;
  /** Milliseconds that a node that returns is away. */
  awayMs?: () => number;
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
        stdout: `${JSON.stringify(reportOf(node, node.version, { result: 'already' }))}\n`,
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
      if (call.action === 'rollback') return finishRollback();
      const { behaviour } = node;
      if (behaviour === 'hangs') return;
      if (behaviour === 'vanishes') node.online = false;
      else if (behaviour === 'returns') {
        node.behaviour = 'good';
        node.online = false;
        // The agent's stop does not reach it: it is away.
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
      if (node.pin?.rollout !== call.rollout)
        return say(0, { result: 'already', code: 'UPDATE_NOT_OF_ROLLOUT' });
      switchTo(node.pin.from);
      node.healthy = true;
      say(0, { result: 'updated' });
    }
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

/** Why a call is no longer wanted. */
function staleBy(call: Call, wanted: string | undefined, nowMs: number): string | undefined {
  if (nowMs > call.until * 1000) return 'UPDATE_EXPIRED';
  const { rollout, direction } = JSON.parse(wanted ?? '{}') as { rollout?: string; direction?: string };
  const asked = call.action === 'update' ? 'forward' : 'back';
  return rollout === call.rollout && direction === asked ? undefined : 'UPDATE_NOT_WANTED';
}

/** Another for each node: no result that there is, fields that are too long or of another type, another node's name. */
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
    { result: '__proto__', code: 'UPDATE_HALTED', message: '\u0000\u001b[2J' },
  ];
  const at = Number.parseInt(node.instanceId.slice(-4), 16) % reports.length;
  return reports[at] ?? {};
}
