// Runs a table of faults against one simulated cloud: one node for each fault, several at a time, all checked by the same
// rules.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { INSTANCE_TAG } from '../../../agent/aws/tags.ts';
import { type PhaseName, phaseNames } from '../../../agent/boot/phase.ts';
import type { Status } from '../../../agent/boot/verdict/status.ts';
import { type Cloud, type CloudOptions, startCloud } from '../../aws/index.ts';
import { isChosen } from '../../runner/cases.ts';
import { ENIBOOT, giveDigests, keepDigests, launchNode } from '../node.ts';
import { planOf } from '../planned.ts';
import type { Bench, ConfigChange, Fault, Outcome } from './fault.ts';
import { changesBetween, othersState } from './machine.ts';
import { poolInEc2, poolOf } from './pool.ts';

/** The most memory of any boot: well below MemoryMax= of its unit. */
const MOST_MB = 150;
/**
 * Runs a program, writes its largest memory to standard error, and ends with its exit status. The limit of 4 GB keeps a boot
 * without a limit of its own from filling the machine's memory. With less than 3 GB the runtime cannot reserve the memory
 * that foreign calls need.
 */
const MEASURED = `
import os, resource, sys
pid = os.fork()
if pid == 0:
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))
    files = int(sys.argv[1])
    if files > 0:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    os.execv('/usr/bin/env', ['env'] + sys.argv[2:])
_, status, used = os.wait4(pid, 0)
sys.stderr.write('\\npeak-kb %d\\n' % used.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status) % 256)
`;

/** Nodes that boot at once: a failing boot mostly waits. */
const LANES = 6;
const USUAL_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Registers one test for each fault, and one that the cloud holds no ENI or address that no fault has named. */
export async function runFaults(faults: readonly Fault[], options: CloudOptions = {}): Promise<void> {
  const cloud = await startCloud(options);
  const leftBehind: string[] = [];
  const done = new Map<Fault, Promise<void>>();
  const chosen = faults.filter(({ name }) => isChosen(name));

  // Faults that change the whole cloud run first, one after the other.
  for (const fault of chosen.filter((one) => one.alone !== undefined)) {
    const undo = fault.alone?.(cloud);
    const job = play(cloud, fault, leftBehind);
    done.set(fault, job);
    await job.catch(() => {});
    undo?.();
  }
  const waiting = chosen.filter((fault) => fault.alone === undefined);
  const finished = new Map(waiting.map((fault) => [fault, Promise.withResolvers<void>()]));
  for (const [fault, { promise }] of finished) {
    promise.catch(() => {}); // reported by the fault's own test
    done.set(fault, promise);
  }
  async function lane(): Promise<void> {
    for (let fault = waiting.shift(); fault !== undefined; fault = waiting.shift()) {
      await play(cloud, fault, leftBehind).then(finished.get(fault)?.resolve, finished.get(fault)?.reject);
    }
  }
  for (let at = 0; at < LANES; at += 1) void lane();
  for (const fault of chosen) test(fault.name, () => done.get(fault));
  test('EC2 holds nothing that no fault has named', async () => {
    await Promise.allSettled(done.values());
    await cloud.settled();
    assert.equal(
      cloud
        .leakReport()
        // Addresses that a fault itself has taken are in no pool and no ENI.
        .filter((leak) => cloud.subnets.get(leak.id)?.tags.has('taken') !== true)
        .map((leak) => leak.id)
        .sort(),
      leftBehind.sort(),
    );
  });
  test.after(() => cloud.stop());
  test.run();
}

async function play(cloud: Cloud, fault: Fault, leftBehind: string[]): Promise<void> {
  const node = await launchNode(cloud, { ...fault.launch, config: configFor(cloud, fault) });
  const bench: Bench = { cloud, node, instance: node.instance };
  giveDigests(bench.instance, fault.launch?.built);
  if (fault.bootedBefore === true) {
    const { status, result } = await node.boot();
    assert.is(status?.verdict, 'ready', `before the fault: ${result.stdout}${result.stderr}`);
  }
  await fault.arrange?.(bench);
  const before = await othersState(bench.instance);
  const outcome = await bootWith(bench, fault);
  keepDigests(bench.instance, fault.launch?.built);
  const said = `${outcome.result.stdout.slice(0, 300)}\n${JSON.stringify(outcome.status?.failure)}\n${outcome.result.stderr.slice(-3000)}`;
  try {
    judgeVerdict(fault, outcome);
    // Without a measurement peakMb is NaN, which fails here, too.
    assert.ok(outcome.peakMb < MOST_MB, `took ${outcome.peakMb.toFixed()} MB, may take ${MOST_MB}`);
    judgeConsole(bench, outcome);
    judgeRelease(fault, bench);
    judgePool(fault, bench);
    if (fault.othersChange !== true)
      assert.equal(
        changesBetween(before, await othersState(bench.instance)),
        [],
        'the state of other programs is unchanged',
      );
    await fault.prove?.(bench, outcome);
    await judgePlan(fault, bench, outcome);
    const left = unattachedOf(bench);
    assert.is(left.length, fault.expect.leftBehind ?? 0, `ENIs left behind: ${left.join(', ')}`);
  } catch (error) {
    if (error instanceof Error) error.message += `\n${said}`;
    throw error;
  } finally {
    // A node holds 64 addresses and more: those of all faults together would not fit into the subnet of pods.
    await bench.instance.terminate();
  }
  const outlive = unattachedOf(bench);
  const { leftBehind: unattached = 0, outlive: unset = 0 } = fault.expect;
  assert.is(outlive.length, unattached + unset, `ENIs that outlive the instance: ${outlive.join(', ')}`);
  leftBehind.push(...outlive);
}

function configFor(cloud: Cloud, fault: Fault): string | null {
  if (fault.configText !== undefined) return fault.configText;
  const sections: ConfigChange = {
    cluster: 'demo',
    pods: { subnets: { tags: { eniboot: 'pods' } } },
    aws: { endpoints: { ec2: cloud.endpoints.ec2, ssm: cloud.endpoints.ssm } },
    boot: { deadlineSeconds: fault.deadlineSeconds ?? 60 },
  };
  for (const [name, section] of Object.entries(fault.config ?? {})) {
    const under = sections[name];
    sections[name] =
      typeof section === 'object' && typeof under === 'object' ? { ...under, ...section } : section;
  }
  return `${JSON.stringify(sections, null, 2)}\n`;
}

async function bootWith(bench: Bench, fault: Fault): Promise<Outcome> {
  const over = new AbortController();
  const beside = fault.during?.(bench, over.signal);
  // An error in it makes the fault's test fail, after the boot has ended.
  beside?.catch(() => {});
  const started = performance.now();
  const result = await bench.instance.run(
    'python3',
    ['-c', MEASURED, String(fault.openFiles ?? 0), `PATH=${pathOf(fault)}`, ENIBOOT, 'boot', '--json'],
    { timeoutMs: 100_000 },
  );
  const seconds = (performance.now() - started) / 1000;
  const peakMb = Number(/^peak-kb (\d+)$/m.exec(result.stderr)?.[1]) / 1024;
  over.abort();
  await beside;
  return { result, status: parse(result.stdout), seconds, peakMb };
}

function pathOf({ path }: Fault): string {
  return path === undefined ? USUAL_PATH : path.replace('USUAL', USUAL_PATH);
}

function parse(text: string): Status | undefined {
  try {
    const value = JSON.parse(text) as Partial<Status>;
    return value.schema === 1 ? (value as Status) : undefined;
  } catch {
    return undefined;
  }
}

function judgeVerdict(fault: Fault, { status, result, seconds }: Outcome): void {
  const { verdict, code, phase, atOnce } = fault.expect;
  if (verdict === 'refused') {
    assert.is(status, undefined, 'this run wrote no verdict');
    assert.ok(code !== undefined && result.stderr.includes(code), `${code} is in the output`);
    assert.is(result.exitCode, 1);
  } else if (verdict === 'failed') {
    assert.is(status?.verdict, 'failed');
    assert.is(status?.failure?.code, code);
    if (phase !== undefined) assert.is(status?.failure?.phase, phase);
    assert.ok((status?.failure?.remedy ?? '').length > 20, 'the failure has a remedy');
    assert.ok((status?.failure?.message ?? '').length > 10, 'the failure has a message');
    assert.is(result.exitCode, 1);
    if (atOnce === true) {
      const failed = status?.phases.find((one) => one.state === 'failed');
      assert.is(failed?.attempts, 1, 'a permanent failure is not tried again');
    }
  } else {
    assert.is(status?.verdict, 'ready');
    assert.is(
      (status?.degraded ?? []).length > 0,
      verdict === 'degraded',
      'a list of reasons goes with READY DEGRADED only',
    );
    assert.equal(
      status?.phases.map((one) => one.state),
      phaseNames.map(() => 'done'),
    );
    assert.is(result.exitCode, 0);
  }
  const bound = fault.expect.withinSeconds ?? (verdict === 'ready' || verdict === 'degraded' ? 30 : 15);
  assert.ok(seconds <= bound, `took ${seconds.toFixed(1)} s, may take ${bound} s`);
}

const ENI = /^(?:create an ENI |attach eni-|strike eni-|set delete-on-termination )/;

/**
 * Checks `eniboot plan` after the boot. READY: the plan is empty. Otherwise the refused change comes first. Changes that another
 * program undoes again and again are in the plan when a check has failed.
 */
async function judgePlan(fault: Fault, bench: Bench, { status }: Outcome): Promise<void> {
  if (status === undefined || fault.changesBack === true) return;
  const { failure, phases: seen } = status;
  const plan = await planOf(bench, pathOf(fault));
  const isReached = (name: string) =>
    failure === undefined || phaseNames.indexOf(name as PhaseName) <= phaseNames.indexOf(failure.phase);
  const reached = plan.phases.filter(({ name }) => isReached(name));
  const failed = reached.find(({ name }) => name === failure?.phase);
  const isMeant = (change: string) =>
    fault.leaves?.some((one) => (typeof one === 'string' ? one === change : one.test(change)));
  const leftIn = (phases: typeof reached) =>
    phases.flatMap(({ changes }) => changes).filter((change) => !isMeant(change));
  const left = leftIn(reached);
  const refused = failure?.facts['change'];
  const inVain = failure === undefined ? [] : seen.flatMap(({ changes }) => changes);
  const said = JSON.stringify({ plan, refused, inVain });
  // When EC2 refuses one of an ENI's three calls, the rest of them is left, on the same ENI or on a new one.
  const isLeft = ENI.test(String(refused)) ? ENI.test(left[0] ?? '') : left[0] === refused;
  if (refused !== undefined && failed?.failed === undefined) {
    assert.ok(isLeft, said);
    // The plan of earlier phases is empty. In the failed phase it holds the refused change and those that follow it.
    assert.equal(leftIn(reached.filter((phase) => phase !== failed)), [], said);
  } else
    assert.equal(
      left.filter((change) => !inVain.includes(change)),
      [],
      said,
    );
  const cannot = reached.find((phase) => phase.failed !== undefined);
  if (cannot !== undefined) assert.is(cannot.name, failure?.phase, said);
}

/** Checks that the last line on the console is the verdict. */
function judgeConsole(bench: Bench, { status }: Outcome): void {
  if (status === undefined) return;
  const last = bench.instance.consoleLog().trim().split('\n').at(-1) ?? '';
  const expected =
    status.verdict === 'ready'
      ? `eniboot: READY ${status.degraded.length > 0 ? 'DEGRADED' : 'OK'} `
      : `eniboot: FAILED ${status.failure?.code} `;
  assert.ok(last.startsWith(expected), `the console's last line: ${last}`);
}

/** kubelet may start only when every check holds; only then the conflist, which makes the runtime ready, exists. */
function judgeRelease(fault: Fault, { instance }: Bench): void {
  const { verdict, kubelet } = fault.expect;
  const isReady = verdict === 'ready' || verdict === 'degraded' || fault.bootedBefore === true;
  const released = instance.read('/run/eniboot/kubelet-released') !== undefined;
  const conflist = instance.read('/etc/cni/net.d/10-eniboot.conflist') !== undefined;
  assert.is(released, (kubelet ?? (isReady ? 'released' : 'held')) === 'released', 'kubelet released');
  assert.is(conflist, isReady, 'conflist in place');
}

/** READY: the pool holds each assigned address once. Otherwise: no address that EC2 has not assigned, and none twice. */
function judgePool(fault: Fault, { instance }: Bench): void {
  const has = poolOf(instance);
  const wanted = poolInEc2(instance);
  assert.is(new Set(has.addresses).size, has.addresses.length, 'no address is in the pool twice');
  if (fault.expect.verdict === 'ready' || fault.expect.verdict === 'degraded') {
    assert.equal(has, wanted, 'the pool holds the assigned addresses');
    assert.ok(has.addresses.length > 0, 'the pool is not empty');
    return;
  }
  assert.equal(
    has.owned.filter((one) => !wanted.owned.includes(one)),
    [],
    'nothing in the pool that EC2 has not assigned',
  );
}

function unattachedOf({ cloud, instance }: Bench): string[] {
  return cloud
    .leakReport()
    .filter((leak) => leak.tags[INSTANCE_TAG] === instance.id)
    .map((leak) => leak.id);
}
