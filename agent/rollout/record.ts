// Where a rollout is recorded: Parameter Store, so that any operator can continue it. One parameter holds both record and
// lease. A version of it counts only when it names the version right before it as the one that its writer had read. So of two
// writers at once exactly one wins, and a process that has lost the lease cannot write any more.
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import type { FleetAws } from '../aws/fleet.ts';
import { partsOf } from '../aws/paging.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { bounds } from '../port/bounds.ts';
import type { Clock } from '../port/clock.ts';
import { gunzip } from '../port/gunzip.ts';
import type { Outcome } from './judge.ts';
import {
  type Back,
  type BootFailure,
  type Exception,
  type Progress,
  putStandIn,
  type Rollout,
} from './progress.ts';

/** The process that works on a rollout: a text for people, and a random token that no other process has. */
export interface Owner {
  who: string;
  token: string;
}

/** Milliseconds that a lease lasts unless renewed. AWS's clock is known to within a second or two. */
export const LEASE_MS = 180_000;
const CLOCK_MARGIN_MS = 10_000;
/** Characters in one chunk: a parameter of the standard tier holds 4,096. Source: "Quotas for Parameter Store". */
const CHUNK = 4_000;
/** Names in one call of DeleteParameters. Source: SSM API reference. */
const NAMES_PER_CALL = 10;

interface Chunks {
  chunks: number;
  sha256: string;
}

interface Plan extends Chunks {
  /** Nodes that have joined since, in order. `stray`: they joined on the way back. */
  joined?: (Chunks & { zone: number; stray?: true })[];
}

interface Head {
  schema: 1;
  /** The version that its writer had read. This one counts only if its own number is the next one. */
  follows: number;
  owner: Owner;
  /** When the lease ends, milliseconds since the epoch; 0 when it was given up. */
  untilMs: number;
  /** Counts writes: a writer that did not get an answer recognises its own version by it. */
  turn: number;
  id: string;
  plan: Plan;
  progress: Progress;
}

export interface Standing {
  id: string;
  progress: Progress;
  /** The process that works on it now; undefined when none does. */
  holder: Owner | undefined;
  /** When the record was last written, and until when its lease keeps others away; milliseconds since the epoch. */
  writtenMs: number;
  heldUntilMs: number;
  /** What was fixed when the rollout began. Needs one call for each 4,000 characters. */
  rollout(): Promise<Rollout>;
}

/** The recorded rollout of a cluster. Reads only. Throws ROLLOUT_NONE when there never was one. */
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

/** A rollout whose lease this process holds. */
export interface RolloutRecord {
  readonly rollout: Rollout;
  readonly progress: Progress;
  /** Records the progress and renews the lease. Throws ROLLOUT_LEASE_LOST; then nothing was written. */
  save(progress: Progress): Promise<void>;
  /** As save, and adds nodes to a zone; on the way back they are its strays. */
  extend(zone: number, instanceIds: readonly string[], progress: Progress): Promise<void>;
  /** Renews the lease once a third of it is over. */
  keep(): Promise<void>;
  /** Gives the lease up. */
  release(): Promise<void>;
}

/**
 * Records a new rollout. Throws ROLLOUT_BUSY while another is not finished. Exception: a halted one with the ID `over`, which
 * is replaced and stays where it stands.
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
    // After ROLLOUT_LEASE_LOST another operator was faster; after any other error the record may have been written.
    if (isFailure(error, 'ROLLOUT_LEASE_LOST')) await removeChunks(aws, cluster, head);
    throw error;
  }
  if (found !== undefined) await removeChunks(aws, cluster, found.head);
  return record;
}

/**
 * Takes the lease of the recorded rollout. Throws ROLLOUT_NONE, and ROLLOUT_BUSY while a process holds the lease, unless that
 * process's token is `from`: then its lease is taken away.
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
    throw busy(head, `its lease lasts until ${new Date(head.untilMs).toISOString()}`);
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
  /** The record as it was last read or written: while Parameter Store holds the same, no other process has written. */
  let basis = seen.head;
  let { latest } = seen;

  async function write(next: Omit<Head, 'follows' | 'turn'>): Promise<void> {
    const turn = (basis?.turn ?? 0) + 1;
    for (;;) {
      const wanted: Head = { ...next, follows: latest, turn };
      const version = await aws.writeParameter(name, encode(wanted));
      latest = version;
      if (version !== wanted.follows + 1) {
        // Another process wrote in between, or this write was done twice, since the answer to the first was lost.
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
      const before = head.plan.joined ?? [];
      const nameOf = (at: number) => joinedName(cluster, head.id, before.length, at);
      const stray = progress.back === undefined ? {} : { stray: true as const };
      const joined = { zone, ...(await writeChunks(aws, nameOf, instanceIds as string[])), ...stray };
      await write({
        ...head,
        plan: { ...head.plan, joined: [...before, joined] },
        progress,
        untilMs: until(),
      });
      join(rollout, joined, instanceIds);
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

/** The last version that counts, and the number of the newest version, counting or not. */
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

async function readPlan(aws: FleetAws, cluster: string, { id, plan, progress }: Head): Promise<Rollout> {
  const rollout = (await readChunks(aws, (at) => chunkName(cluster, id, String(at)), plan, id)) as Rollout;
  for (const one of progress.standIns ?? []) putStandIn(rollout, one);
  for (const [turn, one] of (plan.joined ?? []).entries())
    join(
      rollout,
      one,
      (await readChunks(aws, (at) => joinedName(cluster, id, turn, at), one, id)) as string[],
    );
  return rollout;
}

function join(
  rollout: Rollout,
  { zone: at, stray }: { zone: number; stray?: true },
  instanceIds: readonly string[],
): void {
  const zone = rollout.zones[at];
  if (zone === undefined) return;
  zone.nodes.push(...instanceIds);
  if (stray) zone.strays = (zone.strays ?? 0) + instanceIds.length;
}

async function removeChunks(
  aws: FleetAws,
  cluster: string,
  { id, plan }: Pick<Head, 'id' | 'plan'>,
): Promise<void> {
  const numbers = ({ chunks }: Chunks) => Array.from({ length: chunks }, (_, at) => at);
  const names = [
    ...numbers(plan).map((at) => chunkName(cluster, id, String(at))),
    ...(plan.joined ?? []).flatMap((one, turn) =>
      numbers(one).map((at) => joinedName(cluster, id, turn, at)),
    ),
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

function joinedName(cluster: string, id: string, turn: number, at: number): string {
  return chunkName(cluster, id, `joined-${turn}-${at}`);
}

function isUnbounded({ chunks }: Chunks): boolean {
  return !Number.isInteger(chunks) || chunks < 0 || chunks > bounds.planChunks;
}

// There may be many exceptions, so they are written short: `{ "0 late": "1f,2a" }`, node numbers to base 36; or one bit for each
// node, compressed, behind an asterisk where that is shorter: a rollback may find every node of a fleet unreachable.
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

/** undefined when the text is no record of this format. */
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

/** Forgiven exceptions come first, and their number is kept: the order within each part has no meaning. */
function pack({ exceptions, forgiven }: { exceptions: readonly Exception[]; forgiven: number }): Packed[] {
  return [exceptions.slice(0, forgiven), exceptions.slice(forgiven)].map((some) => {
    const packed = new Map<string, number[]>();
    for (const { zone, node, outcome } of some) {
      const key = `${zone} ${outcome}`;
      const nodes = packed.get(key) ?? [];
      nodes.push(node);
      packed.set(key, nodes);
    }
    return Object.fromEntries([...packed].map(([key, nodes]) => [key, packPlaces(nodes)]));
  });
}

function unpack(parts: readonly Packed[]): Exception[] {
  return parts.flatMap((part) =>
    Object.entries(part).flatMap(([key, nodes]) => {
      const [zone, outcome] = key.split(' ');
      return unpackPlaces(nodes).map((node) => ({
        zone: Number(zone),
        node,
        outcome: outcome as Outcome,
      }));
    }),
  );
}

/** The number of places is kept: a place that is listed twice has only one bit. */
function packPlaces(nodes: readonly number[]): string {
  const list = nodes.map(toPlace).join(',');
  if (new Set(nodes).size < nodes.length) return list;
  const bits = `*${gzipSync(Buffer.from(toBitmap(nodes), 'base64')).toString('base64')}`;
  return bits.length < list.length ? bits : list;
}

function unpackPlaces(text: string): number[] {
  if (!text.startsWith('*')) return text.split(',').map(fromPlace);
  return fromBitmap(gunzip(Buffer.from(text.slice(1), 'base64'), bounds.planBytes).toString('base64'));
}

/** One bit for each node, since it may be every node of a fleet: 3,400 characters for 20,000 nodes. */
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
