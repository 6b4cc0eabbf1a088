// Does what texts for `ip -batch` and `nft` say, without either program: in the CNI path a program costs more than all
// its work. The texts stay the plan that people read and that goes into errors; what is refused is told in the
// programs' own words, with the number of the line.
import { writeFileSync } from 'node:fs';
import { readIfPresent } from '../../port/fs.ts';
import { hasLibc, SystemCallError } from '../../port/libc.ts';
import { inTwoNamespaces, type NetlinkSocket } from '../../port/netlink.ts';
import { type OwnNetwork, otherNetwork } from '../other-network.ts';
import { type Act, actsOf } from './batch.ts';
import { type Transaction, transactionOf } from './nft.ts';
import { commit, Routing, said } from './requests.ts';

/** One thing after the other; the first that fails ends it. */
export type Step =
  /** Lines of one `ip -batch`; with `inet6`, of `ip -6 -batch`. */
  | { in: 'node' | 'pod'; ip: readonly string[]; inet6?: boolean }
  /** Tables of the pod, made anew where they are there already. */
  | { nft: string }
  /** The pod has no network but ours (other-network.ts). */
  | { vacant: OwnNetwork }
  /** Settings of the pod: paths below /proc/sys and values. */
  | { sysctls: readonly (readonly [string, string])[] }
  /** A setting of the pod without which nothing more is done. */
  | { needs: readonly [path: string, value: string] };

/** Which step failed, and what the program would have said on standard error. */
export interface Refusal {
  step: number;
  stderr: string;
}

/** What a step says on standard error when it fails. */
type Ready = (at: Place) => string | undefined;

interface Place {
  node: Routing;
  pod: Routing;
  podNetfilter: NetlinkSocket;
  podFd: number;
  /** Counts what the kernel has granted. */
  grant(): void;
}

/**
 * Performs all steps. 'unable' when this runtime cannot, a text has a form that is not known here, or the kernel does
 * not know the first kind of link: nothing was changed then, and the programs can do it. undefined when all went well.
 */
export function perform(netns: string, steps: Step[]): Refusal | 'unable' | undefined {
  if (!hasLibc()) return 'unable';
  const ready: Ready[] = [];
  for (const step of steps) {
    const one = readyFor(step, netns);
    if (one === undefined) return 'unable';
    ready.push(one);
  }
  let granted = 0;
  let reached = 0;
  let begun = false;
  try {
    return inTwoNamespaces(netns, ({ node, pod, ...rest }) => {
      const grant = () => {
        granted += 1;
      };
      const place: Place = { node: new Routing(node), pod: new Routing(pod), ...rest, grant };
      begun = true;
      for (const [step, run] of ready.entries()) {
        reached = step;
        const stderr = run(place);
        if (stderr === undefined) continue;
        return granted === 0 && UNKNOWN_KIND.test(stderr) ? 'unable' : { step, stderr };
      }
      return undefined;
    });
  } catch (error) {
    if (!(error instanceof SystemCallError || (error instanceof Error && 'syscall' in error))) throw error;
    // Before anything was asked of the kernel, the programs may do it, or say better why they cannot. What was asked for may
    // have been done, though its answer was lost.
    return begun ? { step: reached, stderr: `${error}\n` } : 'unable';
  }
}

function readyFor(step: Step, netns: string): Ready | undefined {
  if ('sysctls' in step) return () => writeAll(step.sysctls);
  if ('vacant' in step) return () => refusalOf(step.vacant);
  if ('needs' in step) return () => missing(...step.needs);
  if ('nft' in step) {
    const made = transactionOf(step.nft, false);
    return made === undefined ? undefined : (place) => runTransaction(place, made, step.nft);
  }
  const acts = actsOf(step.ip, netns, step.inet6);
  return acts === undefined ? undefined : (place) => runLines(place, step.in, acts);
}

function runLines(place: Place, where: 'node' | 'pod', acts: Act[]): string | undefined {
  for (const [at, act] of acts.entries()) {
    const { problem } = act(place[where], place.podFd);
    if (problem !== undefined) return `${problem}\nCommand failed -:${at + 1}\n`;
    place.grant();
  }
  return undefined;
}

/** Created, and replaced only where tables are left from before: replacing waits for a grace period of the kernel. */
function runTransaction(place: Place, made: Transaction, text: string): string | undefined {
  let refused = commit(place.podNetfilter, made);
  if (refused?.errno === EEXIST) {
    const again = transactionOf(text, true);
    if (again !== undefined) refused = commit(place.podNetfilter, again);
  }
  if (refused !== undefined) return said(refused, 'Error');
  place.grant();
  return undefined;
}

function writeAll(sysctls: readonly (readonly [string, string])[]): string | undefined {
  for (const [path, value] of sysctls) {
    try {
      writeFileSync(`/proc/sys/${path}`, value);
    } catch (error) {
      return `cannot set ${path} to ${value}: ${error instanceof Error ? error.message : String(error)}\n`;
    }
  }
  return undefined;
}

/** Read as files: a dump by netlink costs more than both. */
function refusalOf(own: OwnNetwork): string | undefined {
  const read = (file: string) => readIfPresent(`/proc/thread-self/net/${file}`) ?? '';
  const found = otherNetwork(own, read('route'), read('ipv6_route'));
  return found === undefined ? undefined : `${found}\n`;
}

function missing(path: string, value: string): string | undefined {
  const found = readIfPresent(`/proc/sys/${path}`)?.trim();
  return found === value ? undefined : `${path} is ${found ?? 'not there'}\n`;
}

const EEXIST = 17;
/** Of a link whose driver is missing: the words since Linux 4.20, and before. */
const UNKNOWN_KIND = /Unknown device type|Operation not supported/;
