// The required state of a node after each operation. The model knows the pods, the effects that a kill leaves open, and when
// each address last had a pod. Every look at the node is compared with that; the effects that a killed call left open are then
// taken over from the look.
import { rangeOf, toAddress } from '../../agent/host/ipv4.ts';
import { attachmentOf, type Entry, type Look, rangesOf } from './look.ts';

/** The node's configuration. */
export const marks = { target: 16, lowWater: 6, surplus: 32, restMs: 60_000 };
/** collect frees a lease that has looked abandoned for so long. Milliseconds. */
const SUSPICION_MS = 600_000;

export interface Pod {
  id: string;
  /** `owed`: a call was killed or failed, so the runtime will send DEL; `abandoned`: no DEL will come. */
  state: 'live' | 'owed' | 'abandoned';
  /** True: its namespace exists. */
  namespace: boolean;
  /** True: its ADD was answered, and no call was killed since: all of its parts are known. */
  sure: boolean;
  lease: { eniId: string; address: string } | undefined;
  /** The ADD's result. */
  result: unknown;
  /** From when on collect may free it; collect must first have seen it abandoned. */
  suspectFrom: number | undefined;
  suspectSince: number | undefined;
}

/** The effects of an operation, as far as its outcome tells. */
export interface Effects {
  added: Map<string, { eniId: string; address: string }>;
  ended: Set<string>;
  /** Owners of killed calls: the lease may have come, or gone. */
  unsure: Set<string>;
  /** How many unknown addresses killed calls may have leased and released again. */
  brief: number;
  /** True: prefixes may have come and gone. */
  poolMoved: boolean;
  rebooted: boolean;
}

export function noEffects(): Effects {
  return {
    added: new Map(),
    ended: new Set(),
    unsure: new Set(),
    brief: 0,
    poolMoved: false,
    rebooted: false,
  };
}

export class Model {
  readonly pods = new Map<string, Pod>();
  now: Look;
  /** `intact`: every repair, refill and boot so far ended by itself, and nftables was not flushed since. */
  egress: 'intact' | 'covers' | 'unknown' = 'intact';
  private readonly vpcCidrs: string[];
  /** Boot-clock milliseconds since when an address has had no pod. */
  private readonly endedAt = new Map<string, number>();
  /** Addresses under which children of a killed call may have made parts, and what GC has left of them. */
  private readonly tainted = new Map<string, 'anything' | 'no link'>();
  /** Addresses that an interface in a killed pod's namespace may carry: an ADD passes them over, and they rest. */
  private readonly held = new Set<string>();
  /** Prefixes that EC2 has lost and that no refill has missed yet. */
  private readonly lost = new Set<string>();

  constructor(first: Look, vpcCidrs: string[]) {
    this.now = first;
    this.vpcCidrs = vpcCidrs;
  }

  podsIn(...states: Pod['state'][]): Pod[] {
    return [...this.pods.values()].filter((pod) => states.includes(pod.state));
  }

  newPod(id: string): Pod {
    const pod: Pod = {
      id,
      state: 'owed',
      namespace: true,
      sure: false,
      lease: undefined,
      result: undefined,
      suspectFrom: undefined,
      suspectSince: undefined,
    };
    this.pods.set(id, pod);
    return pod;
  }

  prefixLost(key: string): void {
    this.lost.add(key);
  }

  /** Addresses that have rested at this time, in the order in which ADDs take them. */
  candidates(nowMs: number): Entry[] {
    const { entries, leaving, podEnis } = this.now;
    const usable = entries.filter(
      (entry) =>
        (entry.state === 'free' || entry.state === 'cooling') &&
        podEnis.includes(entry.eniId) &&
        !leaving.has(`${entry.eniId} ${prefixOf(entry.address)}`),
    );
    const unleased = (entry: Entry) =>
      usable.filter((one) => one.eniId === entry.eniId && prefixOf(one.address) === prefixOf(entry.address))
        .length;
    const stamp = ({ rest }: Entry) => (rest === 'new' ? Number.NEGATIVE_INFINITY : Number(rest));
    return usable
      .filter((entry) => nowMs - stamp(entry) >= marks.restMs)
      .sort(
        (a, b) =>
          podEnis.indexOf(a.eniId) - podEnis.indexOf(b.eniId) ||
          unleased(a) - unleased(b) ||
          valueOf(prefixOf(a.address)) - valueOf(prefixOf(b.address)) ||
          (stamp(a) === stamp(b) ? 0 : stamp(a) - stamp(b)) ||
          valueOf(a.address) - valueOf(b.address),
      );
  }

  /** Addresses that an ADD may get at this time: the first, or one after those that a lost namespace may carry. */
  firsts(nowMs: number): string[] {
    const order = this.candidates(nowMs).map((entry) => entry.address);
    const free = order.findIndex((address) => !this.held.has(address));
    return order.slice(0, free === -1 ? order.length : free + 1);
  }

  /** Moments in a span at which the result of candidates() changes. */
  momentsUntil(endMs: number): number[] {
    const ripe = this.now.entries
      .map(({ rest }) => Number(rest) + marks.restMs)
      .filter((at) => at > this.now.nowMs && at <= endMs);
    return [this.now.nowMs, ...ripe, endMs];
  }

  /**
   * The reasons why a pod may not get the address now, by all rules of the design; empty when it may.
   *
   * @param after the look after the operation: a refill beside it may have brought the prefix.
   */
  whyNot(eniId: string, address: string, after: Pick<Look, 'ec2' | 'nowMs'>): string[] {
    const { nowMs } = after;
    const problems: string[] = [];
    const other = [...this.pods.values()].find((pod) => pod.lease?.address === address);
    if (other !== undefined) problems.push(`${address} is ${other.id}'s (${other.state})`);
    const ended = this.endedAt.get(address);
    if (ended !== undefined && nowMs - ended < marks.restMs)
      problems.push(`${address} has rested ${nowMs - ended} ms`);
    const prefix = `${eniId} ${prefixOf(address)}`;
    if (![...this.now.ec2, ...after.ec2].includes(prefix) && !this.lost.has(prefix))
      problems.push(`EC2 does not have ${prefix}`);
    if (this.now.leaving.has(prefix)) problems.push(`${prefix} is leaving`);
    return problems;
  }

  /** The leases that collect must free, and may free, when it runs to its end in this span. Updates its suspicions. */
  suspect(fromMs: number, toMs: number, killed: boolean): { must: Pod[]; may: Pod[] } {
    const may: Pod[] = [];
    const must: Pod[] = [];
    for (const pod of this.pods.values()) {
      const linked = this.now.kernel.get(pod.lease?.address ?? '')?.has('link') === true;
      if (pod.lease === undefined || pod.namespace || linked) continue;
      pod.suspectFrom ??= fromMs;
      if (!killed) pod.suspectSince ??= toMs;
      if (pod.state !== 'abandoned') continue;
      if (toMs - pod.suspectFrom >= SUSPICION_MS) may.push(pod);
      if (!killed && pod.sure && fromMs - (pod.suspectSince ?? toMs) >= SUSPICION_MS) must.push(pod);
    }
    return { must, may };
  }

  /** Notes that children of a killed call may go on under this address. */
  taint(address: string): void {
    this.tainted.set(address, 'anything');
    this.held.add(address);
  }

  /** GC or collect has run to its end while no other program worked. */
  swept(by: 'gc' | 'collect'): void {
    for (const address of this.tainted.keys()) {
      if ([...this.pods.values()].some((pod) => pod.lease?.address === address)) continue;
      if (by === 'collect') this.tainted.delete(address);
      else this.tainted.set(address, 'no link');
    }
  }

  /**
   * Compares a look with the look before it and the effects since. Returns a sentence for each difference. Without any, the look
   * becomes the present.
   */
  compare(after: Look, effects: Effects): string[] {
    const problems = [
      ...this.structure(after),
      ...this.leases(after, effects),
      ...this.moves(after, effects),
    ];
    const holders = this.holders(after);
    problems.push(...this.kernel(after, holders), ...this.egressProblems(after));
    if (problems.length > 0) return problems;
    this.adopt(after, effects);
    return [];
  }

  /** Interfaces that a pod's namespace must have; undefined: any. */
  insideOf(pod: Pod | undefined): string[] | undefined {
    if (pod === undefined || !pod.namespace) return undefined;
    if (pod.lease === undefined) return pod.sure ? [] : undefined;
    return pod.sure ? [`eth0 ${pod.lease.address}/20`, 'veth0'] : undefined;
  }

  private structure(after: Look): string[] {
    const problems: string[] = [];
    const seen = new Map<string, string>();
    const covered = new Set<string>();
    for (const { eniId, address, state } of after.entries) {
      const key = `${eniId} ${address}`;
      if (seen.has(key)) problems.push(`${key} is in ${seen.get(key)} and ${state}`);
      seen.set(key, state);
    }
    for (const marker of after.owned) {
      const [eniId = '', cidr = ''] = marker.split(' ');
      const missing = addressesOf(cidr).filter((address) => !seen.has(`${eniId} ${address}`));
      for (const address of addressesOf(cidr)) covered.add(`${eniId} ${address}`);
      const excused =
        after.leaving.has(marker) || after.unfinished.some((one) => one.startsWith(cidr.replace('/', '-')));
      if (missing.length > 0 && !excused) problems.push(`${marker} lacks ${missing.join(', ')}`);
    }
    for (const [key, state] of seen) if (!covered.has(key)) problems.push(`${key} in ${state} has no marker`);
    const prefixes = after.owned.map((marker) => marker.split(' ')[1]);
    for (const cidr of new Set(prefixes))
      if (prefixes.filter((one) => one === cidr).length > 1)
        problems.push(
          `${cidr} is in the pool twice: ${after.owned.filter((one) => one.endsWith(`${cidr}`)).join(', ')}`,
        );
    return problems;
  }

  private leases(after: Look, effects: Effects): string[] {
    const problems: string[] = [];
    const found = leasesOf(after);
    for (const pod of this.pods.values()) {
      const [lease, ...more] = found.filter((one) => one.rest === `${pod.id},eth0`);
      const shown = lease === undefined ? 'no lease' : `${lease.eniId} ${lease.address}`;
      if (more.length > 0) problems.push(`${pod.id} has ${more.length + 1} leases`);
      if (effects.unsure.has(pod.id)) continue;
      const wanted =
        effects.rebooted || effects.ended.has(pod.id) ? undefined : (effects.added.get(pod.id) ?? pod.lease);
      const expected = wanted === undefined ? 'no lease' : `${wanted.eniId} ${wanted.address}`;
      if (shown !== expected) problems.push(`${pod.id} has ${shown} instead of ${expected}`);
    }
    for (const { rest, address } of found)
      if (!this.pods.has(rest.replace(/,eth0$/, '')))
        problems.push(`${address} is leased to ${rest}, which is unknown`);
    return problems;
  }

  /** Every address that has moved must have a reason. */
  private moves(after: Look, effects: Effects): string[] {
    if (effects.rebooted) return [];
    const problems: string[] = [];
    const old = new Map(this.now.entries.map((entry) => [`${entry.eniId} ${entry.address}`, entry]));
    const present = new Set(after.entries.map((entry) => `${entry.eniId} ${entry.address}`));
    const endable = new Set<string>();
    let { brief } = effects;
    for (const id of [...effects.ended, ...effects.unsure]) {
      const lease = effects.added.get(id) ?? this.pods.get(id)?.lease;
      if (lease !== undefined) endable.add(lease.address);
    }
    for (const entry of after.entries) {
      if (entry.state === 'leased') continue;
      const key = `${entry.eniId} ${entry.address}`;
      const before = old.get(key);
      const isNow = Number(entry.rest) >= this.now.nowMs && Number(entry.rest) <= after.nowMs;
      if (before === undefined) {
        const half = this.now.unfinished.some((one) =>
          one.endsWith(`/${entry.address},${entry.eniId},${entry.rest}`),
        );
        if (!effects.poolMoved && !half) problems.push(`${key} has come into ${entry.state} by itself`);
        else if (entry.rest !== 'new' && entry.rest !== '0')
          problems.push(`${key} came with stamp ${entry.rest}`);
      } else if (before.state === 'leased' || before.rest !== entry.rest) {
        const anew =
          effects.poolMoved && before.state !== 'leased' && (entry.rest === 'new' || entry.rest === '0');
        if (anew) {
          // The address has left the pool and come again in one run.
          const ended = this.endedAt.get(entry.address);
          if (ended !== undefined && after.nowMs - ended < marks.restMs)
            problems.push(`${key} went from ${show(before)} to ${show(entry)} before it had rested`);
        } else if (!isNow)
          problems.push(`${key} went from ${show(before)} to ${show(entry)} at ${after.nowMs}`);
        else if (endable.has(entry.address)) continue;
        else if (this.tainted.has(entry.address) || this.held.has(entry.address)) {
          // Passed over because an interface carries it, or leased by a killed call: in either case it rests from now on.
          if (effects.brief > 0) this.taint(entry.address);
        } else if (before.state !== 'leased' && brief > 0) {
          brief -= 1;
          this.taint(entry.address);
          this.endedAt.set(entry.address, this.now.nowMs);
        } else problems.push(`${key} went from ${show(before)} to ${show(entry)} without a reason`);
      } else if (before.state !== entry.state && !effects.poolMoved) {
        problems.push(`${key} went from ${show(before)} to ${show(entry)}`);
      }
    }
    for (const [key, before] of old) {
      if (present.has(key)) continue;
      const [eniId = '', address = ''] = key.split(' ');
      const prefix = `${eniId} ${prefixOf(address)}`;
      if (before.state === 'leased') problems.push(`${key} was ${show(before)} and is nowhere`);
      else if (!effects.poolMoved) problems.push(`${key} is nowhere`);
      // EC2 may give a lost address again in the run that notices the loss.
      else if (this.now.ec2.includes(prefix) && after.ec2.includes(prefix))
        problems.push(`${key} has left the pool, and EC2 has ${prefix}`);
      const ended = this.endedAt.get(address);
      if (ended !== undefined && after.nowMs - ended < marks.restMs)
        problems.push(`${key} has left the pool ${after.nowMs - ended} ms after its pod`);
    }
    return problems;
  }

  private holders(after: Look): Map<string, Pod> {
    const holders = new Map<string, Pod>();
    for (const { address, rest } of leasesOf(after)) {
      const pod = this.pods.get(rest.replace(/,eth0$/, ''));
      if (pod !== undefined) holders.set(address, pod);
    }
    return holders;
  }

  private kernel(after: Look, holders: Map<string, Pod>): string[] {
    const problems: string[] = [];
    for (const address of new Set([...after.kernel.keys(), ...holders.keys()])) {
      const has = after.kernel.get(address) ?? new Set();
      const pod = holders.get(address);
      const taint = this.tainted.get(address);
      if (pod === undefined && taint === 'no link' && has.has('link'))
        problems.push(`${address} has no lease, and its link is there after GC`);
      if (taint !== undefined || (pod !== undefined && !pod.sure)) continue;
      let wanted = new Set<string>();
      if (pod?.namespace === true) wanted = attachmentOf(address, this.vpcCidrs);
      // Links, neighbours and routes end with the namespace; rules stay until DEL, GC or collect.
      else if (pod !== undefined) wanted = new Set(['rule', 'mark rule']);
      const missing = [...wanted].filter((name) => !has.has(name));
      const surplus = [...has].filter((name) => !wanted.has(name));
      const whose =
        pod === undefined ? 'no lease' : `${pod.id} (${pod.state}${pod.namespace ? '' : ', no namespace'})`;
      if (missing.length > 0) problems.push(`${address} of ${whose} lacks ${missing.join(', ')}`);
      if (surplus.length > 0) problems.push(`${address} of ${whose} has ${surplus.join(', ')}`);
    }
    return problems;
  }

  private egressProblems(after: Look): string[] {
    if (this.egress === 'unknown') return [];
    const owned = rangesOf(after.owned.map((marker) => marker.split(' ')[1] ?? ''));
    if (after.egress === owned) return [];
    if (this.egress === 'covers' && after.egress !== undefined) {
      const ranges = after.egress.split(' ').map((range) => range.split('-').map(valueOf));
      const uncovered = after.owned.filter((marker) => {
        const { first, last } = rangeOf(marker.split(' ')[1] ?? '');
        return !ranges.some(([from = 0, to = 0]) => from <= first && last <= to);
      });
      return uncovered.map((marker) => `${marker} has no egress`);
    }
    return [`the egress set is ${after.egress}, the pool ${owned}`];
  }

  private adopt(after: Look, effects: Effects): void {
    const leases = leasesOf(after);
    for (const pod of this.pods.values()) {
      const lease = leases.find((one) => one.rest === `${pod.id},eth0`);
      if (lease !== undefined && pod.sure) this.tainted.delete(lease.address);
      if (pod.lease !== undefined && lease === undefined) {
        // The earliest time at which it can have ended: a later end means a longer rest.
        this.endedAt.set(pod.lease.address, effects.rebooted ? 0 : this.now.nowMs);
      }
      pod.lease = lease === undefined ? undefined : { eniId: lease.eniId, address: lease.address };
    }
    for (const { address } of effects.added.values())
      if (!leases.some((one) => one.address === address)) this.endedAt.set(address, this.now.nowMs);
    if (effects.rebooted) {
      // After a restart it is not known when pods ended: they count as ended when the machine started. The time of an address that
      // EC2 took back and gives again is not known either.
      for (const address of this.endedAt.keys()) {
        if (this.now.ec2.some((prefix) => prefix.endsWith(` ${prefixOf(address)}`)))
          this.endedAt.set(address, 0);
        else this.endedAt.delete(address);
      }
      this.tainted.clear();
      this.held.clear();
      this.lost.clear();
    }
    if (![...this.pods.values()].some((pod) => pod.namespace && !pod.sure)) this.held.clear();
    for (const prefix of this.lost)
      if (after.leaving.has(prefix) || after.ec2.includes(prefix)) this.lost.delete(prefix);
    this.now = after;
  }
}

function prefixOf(address: string): string {
  const value = valueOf(address);
  return `${toAddress(value - (value % 16))}/28`;
}

function valueOf(address: string): number {
  return rangeOf(address.includes('/') ? address : `${address}/32`).first;
}

function addressesOf(cidr: string): string[] {
  const { first, last } = rangeOf(cidr);
  return Array.from({ length: last - first + 1 }, (_, at) => toAddress(first + at));
}

function leasesOf(look: Look): Entry[] {
  return look.entries.filter((entry) => entry.state === 'leased');
}

function show({ state, rest }: Entry): string {
  return `${state} ${rest}`;
}
