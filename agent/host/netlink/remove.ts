// Takes away what an attachment has made. What is not there is no failure, and no program is asked: there is none that a
// node must have for a pod to go.
import { hasCode } from '../../port/fs.ts';
import { SystemCallError } from '../../port/libc.ts';
import { inOwnNamespace, inTwoNamespaces } from '../../port/netlink.ts';
import { actsOf } from './batch.ts';
import { groupOf, IFLA, linksQuestion } from './ip.ts';
import { attributesIn, textOf } from './message.ts';
import { type Family, tableRemoval } from './nft.ts';
import { commit, isAbsent, type Outcome, Routing, said } from './requests.ts';

/** What is ours in a pod's namespace. */
export interface PodRemoval {
  /** The links. */
  group: number;
  /** Name of the one that every attachment has. */
  veth: string;
  /** What goes with no link, for `ip -batch` and for `ip -6 -batch`. */
  lines: readonly string[];
  lines6: readonly string[];
  /** Tables of nftables, by family. */
  tables: readonly { family: Family; name: string }[];
}

const EINVAL = 22;

/**
 * Whatever there is, also where a call before this one was killed half-way. Links go by their group. What has none is left
 * where the namespace has the links of another attachment: it is another pod's by now, which the path may lead to. A
 * path that is no namespace any more is as good as gone.
 *
 * @returns why something is still there; undefined when nothing is.
 * @throws SystemCallError, or Node's error, when the namespace cannot be entered.
 */
export function removeFromPod(netns: string, removal: PodRemoval): string | undefined {
  const { group, veth, lines, lines6, tables } = removal;
  let entered = false;
  try {
    return inTwoNamespaces(netns, ({ pod, podNetfilter }) => {
      entered = true;
      const routing = new Routing(pod);
      const { found, outcome } = routing.list(linksQuestion());
      if (outcome.errno !== 0) return real(outcome);
      // First, so that no packet leaves without the rules.
      const links = () => removeLine(routing, `link del group ${group}`);
      if (found.some((link) => isAttached(link, veth, group))) return links();
      return first([
        links,
        ...lines.map((line) => () => removeLine(routing, line)),
        ...lines6.map((line) => () => removeLine(routing, line, true)),
        ...tables.map(({ family, name }) => () => {
          const refused = commit(podNetfilter, tableRemoval(family, name));
          return real({ errno: refused?.errno ?? 0, problem: refused && said(refused, 'Error') });
        }),
      ]);
    });
  } catch (error) {
    const noNamespace = error instanceof SystemCallError && error.errno === EINVAL;
    if (!entered && (noNamespace || hasCode(error, 'ENOENT', 'ENOTDIR'))) return undefined;
    throw error;
  }
}

/** Whether a link is one of another attachment. A group alone says nothing: other plugins may give their links one. */
function isAttached(link: Uint8Array, veth: string, group: number): boolean {
  const its = groupOf(link);
  if (its === 0 || its === group) return false;
  const attributes = attributesIn(link, 16);
  const kind = attributesIn(attributes.get(IFLA.linkInfo) ?? new Uint8Array()).get(1);
  return textOf(attributes.get(IFLA.name)) === veth || textOf(kind) === 'ipvlan';
}

/** The same for lines of `ip -batch` in the namespace this process is in. */
export function removeFromNode(lines: readonly string[]): string | undefined {
  return inOwnNamespace((node) => {
    const routing = new Routing(node);
    return first(lines.map((line) => () => removeLine(routing, line)));
  });
}

/** The first that fails ends it. */
function first(steps: (() => string | undefined)[]): string | undefined {
  for (const step of steps) {
    const problem = step();
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function removeLine(routing: Routing, text: string, inet6 = false): string | undefined {
  const [act] = actsOf([text], '', inet6) ?? [];
  if (act === undefined) throw new Error(`no message is known for: ip ${text}`);
  const problem = real(act(routing, -1));
  return problem === undefined ? undefined : `${text}: ${problem}`;
}

/** Undefined where it is done, or there was nothing to do. */
function real(outcome: Outcome): string | undefined {
  return isAbsent(outcome) ? undefined : outcome.problem;
}
