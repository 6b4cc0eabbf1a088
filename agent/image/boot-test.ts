// Boots the finished image as a node and waits for the node's own verdict. The instance is terminated in any case.
import type { ImageAws } from '../aws/images.ts';
import type { MachineImage } from '../aws/machine-images.ts';
import { BOOT_TEST_TAG, IMAGE_VERSION_TAG, VERDICT_TAG } from '../aws/tags.ts';
import { Failure, type FailureCode, isFailure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import { askNode, type NodeStatus } from './node-status.ts';
import { findImage } from './release-image.ts';

export interface BootTest {
  imageId: string;
  /** Default: a small Nitro type of the image's architecture. */
  instanceType: string | undefined;
  subnetId: string;
  securityGroupId: string | undefined;
  profile: string | undefined;
  /** Passed on unchanged: it may be compressed. */
  userData: string | Uint8Array;
  /** Milliseconds from launch to verdict. */
  timeoutMs: number;
  stopped: AbortSignal;
  tell: (line: string) => void;
}

export interface BootTestResult extends NodeStatus {
  imageId: string;
  instanceId: string;
  instanceType: string;
  zoneId: string | undefined;
  /** The verdict in the node's tag or console. */
  verdict: string;
  version: string;
  /** Seconds from launch to verdict. */
  seconds: number;
}

const TYPES: Record<string, string> = { x86_64: 'm6i.large', arm64: 'm6g.large' };
const LOOK_MS = 5_000;
/** Milliseconds for which EC2 may not know a new instance (eventual consistency). */
const UNKNOWN_MS = 60_000;
/** Milliseconds to wait for the tag to become visible. AWS gives no limit. */
const TAG_MS = 30_000;
const TAG_LOOK_MS = 500;
/** Milliseconds after which an instance of a boot test is certainly abandoned: a test waits for an hour at most. */
const ABANDONED_MS = 2 * 3_600_000;
/**
 * State reasons of an instance whose volume could not be decrypted. Rarely, the first one is also given for other faults at a
 * launch. Source: EC2 user guide, "Instance terminates immediately"; Auto Scaling user guide, "Troubleshoot: instance launch
 * failure".
 */
const KEY_UNUSABLE = /^Client\.(InternalError|InvalidKMSKey)\b/;
const GONE = new Set(['shutting-down', 'terminated', 'stopping', 'stopped']);

/**
 * The node's verdict, which is also written into a tag of the image. Rejects when the node did not become READY.
 * @throws IMAGE_UNKNOWN, IMAGE_TEST_FAILED, IMAGE_KEY_UNUSABLE, IMAGE_TEST_LEFT (the instance could not be terminated)
 */
export async function bootTest(aws: ImageAws, clock: Clock, test: BootTest): Promise<BootTestResult> {
  const image = await findImage(aws, test.imageId);
  const instanceType = test.instanceType ?? TYPES[image.arch] ?? '';
  await endAbandoned(aws, clock, test);
  const started = clock.bootMs();
  const instanceId = await aws.runInstance({
    imageId: image.imageId,
    instanceType,
    subnetId: test.subnetId,
    securityGroupId: test.securityGroupId,
    profile: test.profile,
    userData: test.userData,
    tags: { Name: 'eniboot image boot-test', [BOOT_TEST_TAG]: image.imageId },
    token: crypto.randomUUID(),
  });
  let result: BootTestResult;
  try {
    test.tell(`${instanceId} (${instanceType}) is launched from ${image.imageId}`);
    const { verdict, version, zoneId } = await waitForVerdict(aws, clock, test, instanceId, started);
    const seconds = Math.round((clock.bootMs() - started) / 100) / 10;
    const said: NodeStatus = test.stopped.aborted
      ? {}
      : await askNode(aws, clock, instanceId, verdict === 'ready', test.stopped);
    if (said.statusMissing !== undefined) test.tell(`no status JSON: ${said.statusMissing}`);
    else if (said.checkMissing !== undefined) test.tell(`no check of the booted image: ${said.checkMissing}`);
    result = { imageId: image.imageId, instanceId, instanceType, zoneId, verdict, version, seconds, ...said };
    if (!test.stopped.aborted) await judge(aws, clock, image, result);
  } finally {
    await terminate(aws, test, instanceId);
  }
  return result;
}

/**
 * Terminates instances of earlier tests that were killed, or that did not get EC2's answer to the launch: no other process
 * does. A failure here says nothing about the image of this test.
 */
async function endAbandoned(aws: ImageAws, clock: Clock, { tell }: BootTest): Promise<void> {
  for (const { instanceId, launchedMs } of await aws.describeTests(BOOT_TEST_TAG)) {
    if (clock.now().getTime() - launchedMs < ABANDONED_MS) continue;
    const what = `${instanceId} of an earlier boot test (${new Date(launchedMs).toISOString()})`;
    try {
      await aws.terminateInstance(instanceId);
      tell(`${what} is terminated`);
    } catch (error) {
      if (!isFailure(error)) throw error;
      tell(`${what} could not be terminated: ${error.message}`);
    }
  }
}

async function judge(
  aws: ImageAws,
  clock: Clock,
  image: MachineImage,
  result: BootTestResult,
): Promise<void> {
  const [said, why] = judgement(image, result);
  const value = `${said}@${clock.now().toISOString()}`;
  await aws.tag(image.imageId, { [BOOT_TEST_TAG]: value });
  await becomesVisible(aws, clock, image.imageId, value);
  if (why !== '') throw new Failure('IMAGE_TEST_FAILED', `${image.imageId}: ${why}`, { ...result });
}

/**
 * Waits until EC2 shows the tag, which takes seconds: a publish right after must see this test. If the tag stays hidden,
 * publish reports it.
 */
async function becomesVisible(aws: ImageAws, clock: Clock, imageId: string, value: string): Promise<void> {
  for (const until = clock.bootMs() + TAG_MS; clock.bootMs() < until; await clock.sleep(TAG_LOOK_MS)) {
    const seen = await aws.describeImage(imageId);
    if (seen?.tags[BOOT_TEST_TAG] === value) return;
  }
}

/** The value for the image's tag, and the reason when it is not `passed`. */
function judgement(image: MachineImage, { verdict, version, check }: BootTestResult): [string, string] {
  if (verdict !== 'ready') return [verdict, `the node says ${verdict}`];
  const wanted = image.tags[IMAGE_VERSION_TAG];
  if (wanted !== undefined && wanted !== version)
    return ['failed:VERSION', `the node runs ${version}, and the image is tagged ${wanted}`];
  if (check?.fit === false) {
    const failing = check.checks.filter(({ result }) => result === 'fail');
    const lines = failing.map(({ id, summary }) => `${id}: ${summary}`);
    return ['failed:IMAGE_UNFIT', `READY, but image check --booted fails. ${lines.join('; ')}`];
  }
  return ['passed', ''];
}

interface Verdict {
  verdict: string;
  version: string;
  zoneId: string | undefined;
}

async function waitForVerdict(
  aws: ImageAws,
  clock: Clock,
  test: BootTest,
  instanceId: string,
  started: number,
): Promise<Verdict> {
  let state = 'unknown';
  while (!test.stopped.aborted) {
    const seen = await aws.describeInstance(instanceId);
    const elapsed = clock.bootMs() - started;
    const tagged = /^(ready|failed:\w+)@(\S+)$/.exec(seen?.tags[VERDICT_TAG] ?? '');
    const zoneId = seen?.zoneId;
    if (tagged !== null) return { verdict: tagged[1] ?? '', version: tagged[2] ?? '', zoneId };
    // A node that may not tag itself still writes its verdict to the console.
    const console = await aws.readConsole(instanceId);
    const [, word, code, version = ''] = /eniboot: (READY|FAILED) (\w+) (\S+) [\d.]+s/.exec(console) ?? [];
    if (word !== undefined)
      return { verdict: word === 'READY' ? 'ready' : `failed:${code}`, version, zoneId };
    if (seen === undefined ? elapsed > UNKNOWN_MS : GONE.has(seen.state))
      throw failed(
        `the instance is ${seen?.state ?? 'gone'}: ${seen?.stateReason ?? 'nothing says why'}`,
        console,
        KEY_UNUSABLE.test(seen?.stateReason ?? '') ? 'IMAGE_KEY_UNUSABLE' : 'IMAGE_TEST_FAILED',
      );
    if (elapsed >= test.timeoutMs)
      throw failed(
        `no verdict after ${Math.round(elapsed / 1000)} s, the instance is ${seen?.state}`,
        console,
      );
    if (seen !== undefined && seen.state !== state) test.tell(`${instanceId} is ${seen.state}`);
    state = seen?.state ?? state;
    await clock.sleep(LOOK_MS, test.stopped).catch(() => undefined); // rejects when interrupted
  }
  return { verdict: 'interrupted', version: '', zoneId: undefined };

  function failed(why: string, console: string, code: FailureCode = 'IMAGE_TEST_FAILED'): Failure {
    return new Failure(code, `${test.imageId}: ${why}`, {
      imageId: test.imageId,
      instanceId,
      console: console.slice(-4_000),
    });
  }
}

async function terminate(aws: ImageAws, test: BootTest, instanceId: string): Promise<void> {
  try {
    await aws.terminateInstance(instanceId);
    test.tell(`${instanceId} is terminated`);
  } catch (error) {
    throw new Failure(
      'IMAGE_TEST_LEFT',
      `${instanceId} could not be terminated: ${String(error)}`,
      { instanceId },
      error,
    );
  }
}
