// Makes and removes an attachment by the plan of attachment/plan.ts. These changes are not atomic, so every failure
// says how far it came, and every removal accepts that objects are gone already.
import { type Attachment, namesOf, POD_VETH } from '../agent/attachment/attachment.ts';
import { otherNetwork } from '../agent/attachment/other-network.ts';
import {
  attachmentPlan,
  ipv6Switch,
  linkRemoval,
  nodeRemoval,
  podDestinations,
  podRemoval,
} from '../agent/attachment/plan.ts';
import { inNode, inPod, inPodIfThere, type Kernel, type Problem } from '../agent/kernel/execute.ts';
import { failureOfProblem, speaking } from '../agent/kernel/failure.ts';
import type { ListedLink } from '../agent/kernel/is-there.ts';
import type { Program, Table } from '../agent/kernel/operation.ts';
import { render } from '../agent/kernel/render.ts';
import { Failure } from '../agent/messages/failure.ts';
import { type ExecResult, endingOf, notRun, succeeded } from '../agent/port/exec-result.ts';
import { runSync } from '../agent/port/exec-sync.ts';
import { isThere, readIfPresent } from '../agent/port/fs.ts';

/**
 * @param eniDevice undefined when another plugin has made the pod's interface.
 * @param closed the table that closes the pod until its network policies are known.
 * @returns whether the pod has IPv6 beside IPv4; false when it is turned off in the pod.
 * @throws ALREADY_ATTACHED when the interface exists, NETNS_TAKEN when another network does (nothing was made),
 *   ADDRESS_IN_USE when a namespace without a lease has the address, NFT_FAILED, KERNEL_MODULE_MISSING or KERNEL_CHANGE
 *   otherwise; TOOL_MISSING when bandwidth limits need a program.
 */
export function makeAttachment(
  a: Attachment,
  netns: string,
  eniDevice: string | undefined,
  closed: Table | undefined,
): { ipv6: boolean } {
  const plan = attachmentPlan(a, { eniDevice, closed, ipv6: isThere('/proc/sys/net/ipv6') });
  const ipv6 = speaking('KERNEL_CHANGE', `in ${netns}`, () =>
    inPod(netns, (kernel) => {
      requireVacant(a, netns);
      const problem = kernel.run(plan.always);
      if (problem !== undefined) throw failureOfProblem(problem, netns);
      if (plan.whereIpv6.length === 0 || kernel.setting(ipv6Switch(a)) !== '0') return false;
      const problem6 = kernel.run(plan.whereIpv6);
      if (problem6 !== undefined) throw failureOfProblem(problem6, netns);
      return true;
    }),
  );
  for (const program of plan.programs) runProgram(program, netns);
  return { ipv6 };
}

/**
 * Checks that the pod has no other network. Its interface may exist when the plugin before has made it. This reads
 * files in the pod's namespace: a dump by netlink costs more than reading both files.
 */
function requireVacant(a: Attachment, netns: string): void {
  const read = (file: string) => readIfPresent(`/proc/thread-self/net/${file}`) ?? '';
  const own = {
    ifName: a.ifName,
    veth: POD_VETH,
    destinations: podDestinations(a),
    families: a.ipv6 === undefined ? [4 as const] : [4 as const, 6 as const],
  };
  const found = otherNetwork(own, read('route'), read('ipv6_route'));
  if (found === undefined) return;
  throw new Failure('NETNS_TAKEN', `the pod has another network already: ${found}`, { netns });
}

function runProgram({ file, args, input }: Program, netns: string): void {
  const result = runSync('nsenter', [`--net=${netns}`, '--', file, ...args], { input });
  if (!succeeded(result)) throw programFailed(file, result);
}

function programFailed(file: string, result: ExecResult): Failure {
  const none = notRun(result);
  if (none !== undefined) return none;
  const said = result.stderr
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('Command failed -:'))
    .join(': ');
  if (result.stderr.includes(`failed to execute ${file}: No such file`))
    return new Failure('TOOL_MISSING', `${file} is not installed, which bandwidth limits need`, {
      tool: file,
    });
  const message = `${file} in the pod: ${said === '' ? endingOf(result) : said}`;
  return new Failure('KERNEL_CHANGE', message, { stderr: result.stderr.slice(0, 2_000) });
}

/**
 * Removes an address's attachment as far as it exists, on the node and in those namespaces that can still be entered.
 *
 * @throws KERNEL_CHANGE when something is left.
 */
export function removeAttachment(address: string, namespaces: string[]): void {
  for (const netns of namespaces) removePodSide(address, netns);
  removed('on the node', () => inNode((kernel) => kernel.run(nodeRemoval(address))));
}

/**
 * Removes an attachment in the pod's namespace alone; the host ends of its links go with the links. It also removes
 * what a killed call has left. Callers use it alone for an address that may be another pod's by now, whose rules on the
 * node have the same numbers. Links are removed first, by their group, so that no packet leaves without the rules.
 * Objects without a group stay when the namespace has links of another attachment: the path may lead to another pod's
 * namespace by now.
 *
 * @throws KERNEL_CHANGE
 */
export function removePodSide(address: string, netns: string): void {
  const { group } = namesOf(address);
  removed(`in ${netns}`, () =>
    inPodIfThere(netns, (kernel: Kernel) => {
      const isOthers = kernel
        .listing('pod')
        .links()
        .some((link) => isOfOther(link, group));
      return kernel.run([linkRemoval(group), ...(isOthers ? [] : podRemoval)]);
    }),
  );
}

/**
 * Whether a link is of another attachment. A group alone does not show this: other plugins may give groups to their
 * links.
 */
function isOfOther({ name, kind, group }: ListedLink, ours: number): boolean {
  return group !== 0 && group !== ours && (name === POD_VETH || kind === 'ipvlan');
}

/** @throws KERNEL_CHANGE */
function removed(where: string, work: () => Problem | undefined): void {
  const problem = speaking('KERNEL_CHANGE', `not removed ${where}`, work);
  if (problem === undefined) return;
  const { operation, errno, words } = problem;
  throw new Failure('KERNEL_CHANGE', `not removed ${where}: ${render(operation)}: ${words}`, {
    where,
    ...{ operation, errno, words },
  });
}
