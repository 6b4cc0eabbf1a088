// Where a rollout is written down: Parameter Store, so that anybody can go on with it. One parameter is record and lease
// in one: a version of it counts only when it names the version right before it as the one its writer had read, so of two
// writers at once exactly one wins, and whoever lost the lease cannot write any more.
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import type { FleetAws } from '../aws/fleet.ts';
import { partsOf } from '../aws/paging.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { bounds } from '../port/bounds.ts';
import type { Clock } from '../port/clock.ts';
import { gunzip } from '../port/gunzip.ts';
import type { Outcome } from './judge.ts';
import type { Back, BootFailure, Exception, Progress, Rollout } from './progress.ts';

/** Who is at work: for people, and a number that nobody else has. */
export interface Owner {
  who: string;
  token: string;
}

/** Milliseconds a lease lasts unless renewed; AWS's clock is known to a second or two. */
export const LEASE_MS = 180_000;
const CLOCK_MARGIN_MS = 10_000;
/** Characters of a parameter of the standard tier are 4,096. Source: "Quotas for Parameter Store". */
const CHUNK = 4_000;
/** DeleteParameters takes at most so many names. Source: SSM API reference. */
const NAMES_PER_CALL = 10;

interface Chunks {
  chunks: number;
  sha256: string;
}

interface Plan extends Chunks {
  /** Nodes that have joined since, of each zone that has some. */
  joined?: (Chunks & { zone: number })[];
}

interface Head {
  schema: 1;
  /** The version its writer had read: this one counts only if its own number is the next. */
  follows: number;
  owner: Owner;
  /** Milliseconds since the epoch; 0 when given up. */
  untilMs: number;
  /** Counts writes, so that a writer whose answer was lost recognises its own. */
  turn: number;
  id: string;
  plan: Plan;
  progress: Progress;
}

export interface Standing {
  id: string;
  progress: Progress;
  /** Who works on it now; undefined when nobody does. */
  holder: Owner | undefined;
  /** When its record was written last, and until when nobody else goes on with it; milliseconds since the epoch. */
  writtenMs: number;
  heldUntilMs: number;
  /** What was settled when it began: a call for each 4,000 characters. */
  rollout(): Promise<Rollout>;
}

/** The rollout of a cluster as it stands. Reads only. Throws ROLLOUT_NONE when there never was one. */
export async function readRollout(aws: FleetAws, cluster: string, clock: Clock): Promise<Standing> {
  const found = await readHead(aws, cluster);
  if (found === undefined) throw none(cluster);
  const { head } = found;
  return {
    id: head.id,
    progress: head.progress,
    holder: isHeld(head, clock) ? head.owner : undefined,
    writtenMs: head.untilMs - LEASE_MS,
    heldUntilMs: head.untilMs + CLOCK_MARGIN_MS,
    rollout: () => readPlan(aws, cluster, head),
  };
}

/** A rollout that this process holds the lease of. */
export interface RolloutRecord {
  readonly rollout: Rollout;
  readonly progress: Progress;
  /** Writes the progress down and renews the lease. Throws ROLLOUT_LEASE_LOST; then nothing was written. */
  save(progress: Progress): Promise<void>;
  /** As save, with nodes that join a zone. */
  extend(zone: number, instanceIds: readonly string[], progress: Progress): Promise<void>;
  /** Renews the lease when a third of it is over. */
  keep(): Promise<void>;
  /** Gives the lease up. */
  release(): Promise<void>;
}

/**
 * Begins one. Throws ROLLOUT_BUSY while another is not finished, unless that is the halted one of the ID `over`, which thereby
 * ends where it stands.
 */
export async function createRecord(
  aws: FleetAws,
  clock: Clock,
  owner: Owner,
  rollout: Rollout,
  progress: Progress,
  over?: string,
): Promise<RolloutRecord> {
  const { cluster } = rollout.spec.where;
  const found = await readHead(aws, cluster);
  if (found !== undefined) refuseUnfinished(found.head, clock, over);
  const plan = await writeChunks(aws, (at) => chunkName(cluster, rollout.id, String(at)), rollout);
  const head = { schema: 1 as const, owner, turn: 0, id: rollout.id, plan, progress };
  const record = recordOver(
    aws,
    clock,
    rollout,
    { ...head, follows: 0, untilMs: 0 },
    {
      head: found?.head,
      latest: found?.latest ?? 0,
    },
  );
  try {
    await record.save(progress);
  } catch (error) {
    // Somebody was faster; after any other error it may have been written.
    if (isFailure(error, 'ROLLOUT_LEASE_LOST')) await removeChunks(aws, cluster, head);
    throw error;
  }
  if (found !== undefined) await removeChunks(aws, cluster, found.head);
  return record;
}

/**
 * Goes on with the one there is. Throws ROLLOUT_NONE, and ROLLOUT_BUSY while somebody works on it, unless the lease of the token
 * `from` is to be taken away.
 */
export async function takeRecord(
  aws: FleetAws,
  clock: Clock,
  owner: Owner,
  cluster: string,
  from?: string,
): Promise<RolloutRecord> {
  const found = await readHead(aws, cluster);
  if (found === undefined)
    throw new Failure('ROLLOUT_NONE', `no rollout of ${cluster} is recorded`, { cluster });
  const { head, latest } = found;
  if (isHeld(head, clock) && ![owner.token, from].includes(head.owner.token))
    throw busy(head, `works on it until ${new Date(head.untilMs).toISOString()}`);
  const rollout = await readPlan(aws, cluster, head);
  const record = recordOver(aws, clock, rollout, { ...head, owner }, { head, latest });
  await record.save(head.progress);
  return record;
}

function recordOver(
  aws: FleetAws,
  clock: Clock,
  rollout: Rollout,
  from: Head,
  seen: { head: Head | undefined; latest: number },
): RolloutRecord {
  const { cluster } = rollout.spec.where;
  const name = headName(cluster);
  let head = from;
  /** What stood there when it was last read or written: as long as it does, nobody else has written. */
  let basis = seen.head;
  let { latest } = seen;

  async function write(next: Omit<Head, 'follows' | 'turn'>): Promise<void> {
    const turn = (basis?.turn ?? 0) + 1;
    for (;;) {
      const wanted: Head = { ...next, follows: latest, turn };
      const version = await aws.writeParameter(name, encode(wanted));
      latest = version;
      if (version !== wanted.follows + 1) {
        // Somebody wrote in between, or this was written twice since an answer was lost.
        const found = await readHead(aws, cluster);
        if (found === undefined) throw lost(undefined);
        latest = found.latest;
        if (!isSame(found.head, wanted)) {
          if (!isSame(found.head, basis)) throw lost(found.head);
          continue;
        }
      }
      head = wanted;
      basis = wanted;
      return;
    }
  }

  function lost(other: Head | undefined): Failure {
    const by = other === undefined ? '' : ` by ${other.owner.who}`;
    return new Failure('ROLLOUT_LEASE_LOST', `the rollout of ${cluster} has been taken over${by}`, {
      cluster,
    });
  }

  const until = () => clock.now().getTime() + LEASE_MS;
  return {
    rollout,
    get progress() {
      return head.progress;
    },
    save: (progress) => write({ ...head, progress, untilMs: until() }),
    async extend(zone, instanceIds, progress) {
      const chunks = await writeChunks(
        aws,
        (at) => joinedName(cluster, head.id, zone, at),
        instanceIds as string[],
      );
      const plan = { ...head.plan, joined: [...(head.plan.joined ?? []), { zone, ...chunks }] };
      await write({ ...head, plan, progress, untilMs: until() });
      rollout.zones[zone]?.nodes.push(...instanceIds);
    },
    async keep() {
      if (head.untilMs - clock.now().getTime() < (LEASE_MS * 2) / 3)
        await write({ ...head, untilMs: until() });
    },
    release: () => write({ ...head, untilMs: 0 }),
  };
}

function isSame(a: Head, b: Head | undefined): boolean {
  return b !== undefined && a.owner.token === b.owner.token && a.turn === b.turn;
}

/** The last version that counts, and the number of the last one at all. */
async function readHead(aws: FleetAws, cluster: string): Promise<{ head: Head; latest: number } | undefined> {
  const name = headName(cluster);
  const last = await aws.readParameter(name);
  if (last === undefined) return undefined;
  for (let stored: typeof last | undefined = last; stored !== undefined; ) {
    const head = decode(stored.value);
    if (head !== undefined && head.follows === stored.version - 1) return { head, latest: last.version };
    stored = stored.version > 1 ? await aws.readParameter(`${name}:${stored.version - 1}`) : undefined;
  }
  throw new Failure('ROLLOUT_DAMAGED', `no version of the parameter ${name} is a record`, {
    name,
    latest: last.version,
  });
}

async function writeChunks(aws: FleetAws, nameOf: (at: number) => string, value: object): Promise<Chunks> {
  const text = gzipSync(JSON.stringify(value)).toString('base64');
  const chunks = Math.ceil(text.length / CHUNK);
  for (let at = 0; at < chunks; at += 1)
    await aws.writeParameter(nameOf(at), text.slice(at * CHUNK, (at + 1) * CHUNK));
  return { chunks, sha256: sha256(text) };
}

async function readChunks(
  aws: FleetAws,
  nameOf: (at: number) => string,
  wanted: Chunks,
  id: string,
): Promise<unknown> {
  let text = '';
  for (let at = 0; at < wanted.chunks; at += 1) text += (await aws.readParameter(nameOf(at)))?.value ?? '';
  if (sha256(text) !== wanted.sha256)
    throw new Failure('ROLLOUT_DAMAGED', `the plan of rollout ${id} is not what was written`, { id });
  return JSON.parse(gunzip(Buffer.from(text, 'base64'), bounds.planBytes).toString());
}

async function readPlan(aws: FleetAws, cluster: string, { id, plan }: Head): Promise<Rollout> {
  const rollout = (await readChunks(aws, (at) => chunkName(cluster, id, String(at)), plan, id)) as Rollout;
  for (const one of plan.joined ?? []) {
    const nodes = await readChunks(aws, (at) => joinedName(cluster, id, one.zone, at), one, id);
    rollout.zones[one.zone]?.nodes.push(...(nodes as string[]));
  }
  return rollout;
}

async function removeChunks(
  aws: FleetAws,
  cluster: string,
  { id, plan }: Pick<Head, 'id' | 'plan'>,
): Promise<void> {
  const numbers = ({ chunks }: Chunks) => Array.from({ length: chunks }, (_, at) => at);
  const names = [
    ...numbers(plan).map((at) => chunkName(cluster, id, String(at))),
    ...(plan.joined ?? []).flatMap((one) => numbers(one).map((at) => joinedName(cluster, id, one.zone, at))),
  ];
  for (const part of partsOf(names, NAMES_PER_CALL)) await aws.deleteParameters(part);
}

function isHeld(head: Head, clock: Clock): boolean {
  return head.untilMs !== 0 && head.untilMs + CLOCK_MARGIN_MS > clock.now().getTime();
}

/** Throws ROLLOUT_BUSY as createRecord does. Reads only. */
export async function refuseBusy(
  aws: FleetAws,
  clock: Clock,
  cluster: string,
  over: string | undefined,
): Promise<void> {
  const found = await readHead(aws, cluster);
  if (found !== undefined) refuseUnfinished(found.head, clock, over);
}

function refuseUnfinished(head: Head, clock: Clock, over: string | undefined): void {
  const { state } = head.progress;
  if (state === 'running' || (state === 'halted' && head.id !== over)) throw busy(head, `it is ${state}`);
  if (isHeld(head, clock)) throw busy(head, 'it is being ended');
}

function none(cluster: string): Failure {
  return new Failure('ROLLOUT_NONE', `no rollout of ${cluster} is recorded`, { cluster });
}

function busy(head: Head, why: string): Failure {
  return new Failure('ROLLOUT_BUSY', `rollout ${head.id} of ${head.owner.who}: ${why}`, {
    id: head.id,
    who: head.owner.who,
    state: head.progress.state,
  });
}

/** The cluster's parameters: /eniboot/rollout/<cluster>/… */
function rolloutPath(cluster: string): string {
  return `/eniboot/rollout/${cluster}`;
}

function headName(cluster: string): string {
  return `${rolloutPath(cluster)}/state`;
}

function chunkName(cluster: string, id: string, at: string): string {
  return `${rolloutPath(cluster)}/plan/${id}/${at}`;
}

function joinedName(cluster: string, id: string, zone: number, at: number): string {
  return chunkName(cluster, id, `joined-${zone}-${at}`);
}

function isUnbounded({ chunks }: Chunks): boolean {
  return !Number.isInteger(chunks) || chunks < 0 || chunks > bounds.planChunks;
}

// Exceptions are many and short-named: `{ "0 late": "1f,2a" }`, node numbers to base 36.
type Packed = { [zoneAndOutcome: string]: string };

function encode(head: Head): string {
  const { progress } = head;
  return JSON.stringify({
    ...head,
    progress: {
      ...progress,
      there: progress.there.map(toBitmap),
      exceptions: pack(progress),
      ...(progress.left === undefined
        ? {}
        : { left: { ...progress.left, nodes: pack({ exceptions: progress.left.nodes, forgiven: 0 }) } }),
      ...(progress.back === undefined ? {} : { back: packBack(progress.back) }),
      ...(progress.boots === undefined
        ? {}
        : { boots: { ...progress.boots, failed: progress.boots.failed.map(packBoot) } }),
    },
  });
}

function packBack(back: Back): object {
  const { again } = back;
  return {
    ...back,
    exceptions: pack(back),
    ...(again === undefined ? {} : { again: pack({ exceptions: again, forgiven: 0 }) }),
  };
}

/** undefined when it is not one of ours. */
function decode(text: string): Head | undefined {
  try {
    const head = JSON.parse(text) as Head;
    if (head.schema !== 1) return undefined;
    if ([head.plan, ...(head.plan.joined ?? [])].some(isUnbounded)) return undefined;
    const { progress } = head;
    const { back, boots, left } = progress;
    return {
      ...head,
      progress: {
        ...progress,
        there: (progress.there as unknown as string[]).map(fromBitmap),
        exceptions: unpack(progress.exceptions as unknown as Packed[]),
        left: left === undefined ? undefined : { ...left, nodes: unpack(left.nodes as unknown as Packed[]) },
        back:
          back === undefined
            ? undefined
            : {
                ...back,
                exceptions: unpack(back.exceptions as unknown as Packed[]),
                ...(back.again === undefined ? {} : { again: unpack(back.again as unknown as Packed[]) }),
              },
        ...(boots === undefined
          ? {}
          : { boots: { ...boots, failed: (boots.failed as unknown as string[]).map(unpackBoot) } }),
      },
    };
  } catch {
    return undefined;
  }
}

/** Those that are forgiven come first, and count from the first: beyond that their order says nothing. */
function pack({ exceptions, forgiven }: { exceptions: readonly Exception[]; forgiven: number }): Packed[] {
  return [exceptions.slice(0, forgiven), exceptions.slice(forgiven)].map((some) => {
    const packed = new Map<string, string[]>();
    for (const { zone, node, outcome } of some) {
      const key = `${zone} ${outcome}`;
      packed.set(key, [...(packed.get(key) ?? []), toPlace(node)]);
    }
    return Object.fromEntries([...packed].map(([key, nodes]) => [key, nodes.join(',')]));
  });
}

function unpack(parts: readonly Packed[]): Exception[] {
  return parts.flatMap((part) =>
    Object.entries(part).flatMap(([key, nodes]) => {
      const [zone, outcome] = key.split(' ');
      return nodes.split(',').map((node) => ({
        zone: Number(zone),
        node: fromPlace(node),
        outcome: outcome as Outcome,
      }));
    }),
  );
}

/** May be all nodes of a fleet: a bit each, 3,400 characters for 20,000. */
function toBitmap(nodes: readonly number[]): string {
  const bits = Buffer.alloc(Math.ceil((Math.max(-1, ...nodes) + 1) / 8));
  for (const node of nodes) bits[node >> 3] = (bits[node >> 3] ?? 0) | (1 << (node & 7));
  return bits.toString('base64');
}

function fromBitmap(text: string): number[] {
  return [...Buffer.from(text, 'base64')].flatMap((byte, at) =>
    [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => (byte & (1 << bit)) !== 0).map((bit) => at * 8 + bit),
  );
}

function toPlace(node: number): string {
  return node.toString(36);
}

function fromPlace(text: string): number {
  return Number.parseInt(text, 36);
}

function packBoot({ zone, instanceId, outcome, canary, reason }: BootFailure): string {
  return `${zone} ${instanceId} ${outcome} ${canary ? 'canary' : '-'} ${reason}`;
}

function unpackBoot(text: string): BootFailure {
  const [zone, instanceId = '', outcome, canary, ...reason] = text.split(' ');
  return {
    zone: Number(zone),
    instanceId,
    outcome: outcome as BootFailure['outcome'],
    canary: canary === 'canary',
    reason: reason.join(' '),
  };
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
