// A whole cluster is lost: first its API server, then its nodes, without any message.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import type { Instance } from '../aws/index.ts';
import { portName } from '../aws/network/network.ts';
import { type Facts, failures, next, noneFailed, once, tally } from './answers.ts';
import { type Load, patient, until } from './place.ts';
import type { World } from './world.ts';

/** Ends the instance as a power failure of its host does: it sends no further packet, no FIN and no RST. */
function cut(instance: Instance): void {
  for (const eni of instance.enis) execFileSync('ip', ['link', 'set', portName(eni), 'down']);
}

const SILENT = `table ip mesh_silence {
  chain output { type filter hook output priority 0; icmp type destination-unreachable drop; }
}
`;

/** Loads that go on through the whole case. */
interface Loads {
  /** Sent by a pod of the other cluster. */
  near: Load;
  /** Sent by the instance, which is in the lost zone, with retries and without. */
  far: Load;
}

export async function lost(world: World): Promise<Facts> {
  const { a, clients, legacy } = world;
  // EC2 sends no error for an address that has no instance any more, so requests to it get no answer at all.
  execFileSync('nft', ['-f', '-'], { input: SILENT });
  // On a busy machine a health check may have failed once, and a sidecar then stays with the control plane to which it
  // has changed.
  for (let tries = 0; !(await a.state()).connected.includes('legacy'); tries += 1) {
    assert.ok(tries < 5, 'the instance does not ask the control plane of its zone');
    await legacy.restart();
  }
  const near = clients.b.place.load(50, 'echo');
  const far = legacy.place.load(100, 'echo', once('echo'));
  await Promise.all([next(near, 50), next(far, 100)]);
  const facts = { ...(await loseApi(world, { near, far })), ...(await loseNodes(world, { near, far })) };
  await Promise.all([a.host, ...a.nodes.map(({ node }) => node.instance)].map((one) => one.terminate()));
  return facts;
}

async function loseApi({ a, b }: World, { near, far }: Loads): Promise<Facts> {
  const lostAt = Date.now();
  cut(a.host);
  await delay(3000);
  const heard = await b.serve('echo', 'after-api');
  await until(
    'the control plane without its API server knows the new pod of the other cluster',
    2000,
    async () => (await a.state()).mesh['echo']?.some(({ address }) => address === heard.address) === true,
  );
  const answers = [...near.answers, ...far.answers];
  noneFailed('while the API server is gone', answers);
  const since = far.answers.filter(({ at }) => at > lostAt);
  assert.deepEqual(Object.keys(tally(since, 'zone')), [a.zone], 'pods serve on without their API server');
  return { 'API server lost: requests with and without retries, none lost': answers.length };
}

async function loseNodes({ a, b }: World, { near, far }: Loads): Promise<Facts> {
  const lostAt = Date.now();
  for (const { node } of a.nodes) cut(node.instance);
  await until('the instance has found the other control plane', 20_000, async () =>
    (await b.state()).connected.includes('legacy'),
  );
  const foundMs = Date.now() - lostAt;
  const fresh = await b.serve('echo', 'after-nodes');
  const said = await b.saidReady('echo', fresh.address);
  const firstOf = () => far.answers.find(({ answer }) => answer?.by === fresh.name)?.at;
  await until('the instance asks a pod that is new since', 10_000, () => firstOf() !== undefined);
  const newMs = (firstOf() ?? 0) - said;
  assert.ok(newMs <= patient(2000), `the instance asked the new pod ${newMs} ms after its slice said ready`);
  await next(far, 200);
  const [nearAll, farAll] = await Promise.all([near.end(), far.end()]);
  noneFailed('a pod of the other cluster', nearAll);
  const after = farAll.filter(({ at }) => at >= lostAt);
  const retried = after.filter(({ to }) => to === 'echo');
  const single = after.filter(({ to }) => to !== 'echo');
  noneFailed('the instance, with retries', retried);
  const failed = failures(single);
  return {
    'nodes lost: requests of a pod of the other cluster with retries, none lost': nearAll.length,
    'nodes lost: requests lost with retries': `0 of ${retried.length}`,
    'nodes lost: requests lost without retries': `${failed.length} of ${single.length}`,
    'nodes lost: the last request lost without retries began after, ms': Math.round(
      Math.max(0, ...failed.map(({ at }) => at - lostAt)),
    ),
    'nodes lost: the slowest request with retries, ms': Math.round(Math.max(...retried.map(({ ms }) => ms))),
    'nodes lost: the instance had the other control plane after, ms': foundMs,
    'nodes lost: a pod that is new since was asked after, ms': Math.round(newMs),
  };
}
