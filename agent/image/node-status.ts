// The status JSON of a node that is being tested: what it found and how long each phase took, which tag and console do
// not say. By Run Command, since nothing else reaches an instance without a key. Evidence only: it never fails a test.
import type { ImageAws } from '../aws/images.ts';
import { LIBEXEC_DIR } from '../host/names.ts';
import { isFailure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';

export interface NodeStatus {
  /** As `eniboot status --json` prints it. */
  status?: Record<string, unknown>;
  /** Why there is none. */
  statusMissing?: string;
}

/** The SSM agent starts beside the boot and registers within seconds of it; a profile without its policy never does. */
const REGISTERED_MS = 60_000;
const ANSWERED_MS = 60_000;
const LOOK_MS = 2_000;
const SCRIPT = `${LIBEXEC_DIR}/current/eniboot status --json`;

export async function fetchStatus(
  aws: ImageAws,
  clock: Clock,
  instanceId: string,
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
  try {
    const managed = await until(REGISTERED_MS, async () =>
      (await aws.isManaged(instanceId)) ? true : undefined,
    );
    if (managed === undefined)
      return {
        statusMissing: `${instanceId} is not managed by SSM after ${REGISTERED_MS / 1000} s: its profile lacks AmazonSSMManagedInstanceCore, or its subnet has no way to SSM`,
      };
    const commandId = await aws.sendScript(instanceId, SCRIPT);
    const output = await until(ANSWERED_MS, () => aws.scriptOutput(commandId, instanceId));
    if (output === undefined)
      return { statusMissing: `command ${commandId} gave no answer in ${ANSWERED_MS / 1000} s` };
    return { status: JSON.parse(output) as Record<string, unknown> };
  } catch (error) {
    if (isFailure(error)) return { statusMissing: `${error.code}: ${error.message}` };
    if (error instanceof SyntaxError) return { statusMissing: `the answer is no JSON: ${error.message}` };
    throw error;
  }
}
