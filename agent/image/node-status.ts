// What a tested node reports besides its verdict: its status JSON (facts and the time of each phase), and its own check of the
// booted image. Asked by Run Command, since an instance without a key cannot be reached in another way. When the node cannot be
// asked, the test does not fail for it.
import type { ImageAws } from '../aws/images.ts';
import { LIBEXEC_DIR } from '../host/names.ts';
import { isFailure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';

export interface NodeStatus {
  /** As `eniboot status --json` prints it. */
  status?: Record<string, unknown>;
  /** Why there is no status. */
  statusMissing?: string;
  /** As `eniboot image check --booted --json` prints it; only for a node that is READY. */
  check?: { fit: boolean; checks: { id: string; result: string; summary: string }[] };
  /** Why there is no check. */
  checkMissing?: string;
}

/**
 * Milliseconds: the SSM agent starts beside the boot and registers within seconds; without its policy in the profile it never
 * does.
 */
const REGISTERED_MS = 60_000;
const STATUS_MS = 60_000;
/** Milliseconds: the check waits for the rest of the boot, and each program that it runs may take a minute. */
const CHECK_MS = 240_000;
const LOOK_MS = 2_000;
const ENIBOOT = `${LIBEXEC_DIR}/current/eniboot`;

/** `ready`: whether the node is READY. */
export async function askNode(
  aws: ImageAws,
  clock: Clock,
  instanceId: string,
  ready: boolean,
  stopped: AbortSignal,
): Promise<NodeStatus> {
  const until = async <T>(ms: number, look: () => Promise<T | undefined>): Promise<T | undefined> => {
    const end = clock.bootMs() + ms;
    for (;;) {
      const found = await look();
      if (found !== undefined || clock.bootMs() >= end || stopped.aborted) return found;
      await clock.sleep(LOOK_MS, stopped).catch(() => undefined); // rejects when interrupted
    }
  };
  /** The printed JSON, or why it is missing. */
  const ask = async (script: string, ms: number): Promise<{ said: object } | { missing: string }> => {
    try {
      const managed = await until(REGISTERED_MS, async () =>
        (await aws.isManaged(instanceId)) ? true : undefined,
      );
      if (managed === undefined)
        return {
          missing: `${instanceId} is not managed by SSM after ${REGISTERED_MS / 1000} s: its profile lacks AmazonSSMManagedInstanceCore, or its subnet has no way to SSM`,
        };
      const commandId = await aws.sendScript(instanceId, script);
      const output = await until(ms, () => aws.scriptOutput(commandId, instanceId));
      return output === undefined
        ? { missing: `command ${commandId} gave no answer in ${ms / 1000} s` }
        : { said: JSON.parse(output) as object };
    } catch (error) {
      if (isFailure(error)) return { missing: `${error.code}: ${error.message}` };
      if (error instanceof SyntaxError) return { missing: `the answer is not JSON: ${error.message}` };
      throw error;
    }
  };
  const status = await ask(`${ENIBOOT} status --json`, STATUS_MS);
  if ('missing' in status)
    return { statusMissing: status.missing, ...(ready ? { checkMissing: status.missing } : {}) };
  const found: NodeStatus = { status: { ...status.said } };
  if (!ready || stopped.aborted) return found;
  const check = await ask(`${ENIBOOT} image check --booted --json`, CHECK_MS);
  if ('missing' in check) return { ...found, checkMissing: check.missing };
  const { fit, checks } = check.said as Partial<NonNullable<NodeStatus['check']>>;
  return typeof fit === 'boolean' && Array.isArray(checks)
    ? { ...found, check: { fit, checks } }
    : { ...found, checkMissing: `it says ${JSON.stringify(check.said).slice(0, 200)}` };
}
