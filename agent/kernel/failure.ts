// Gives each refusal of the kernel its failure code; no other file does.
import { Failure, type FailureCode } from '../messages/failure.ts';
import { failureOf, kindOfSystemError } from '../messages/kinds.ts';
import { isSystemError, NoForeignCalls, SystemCallError } from '../port/libc.ts';
import type { Problem } from './execute.ts';
import type { Route, Rule } from './operation.ts';
import { render } from './render.ts';

const EEXIST = 17;
const EINVAL = 22;
const EOPNOTSUPP = 95;
const EAFNOSUPPORT = 97;
const EADDRINUSE = 98;

/** @param netns path of the pod's namespace, for an operation on the pod's side. */
export function failureOfProblem(problem: Problem, netns = ''): Failure {
  const { operation, errno, words } = problem;
  const facts = { operation, errno, words };
  const command = render(operation, netns);
  const refused = new Failure('KERNEL_CHANGE', `${command}: ${words}`, facts);
  if (operation.do !== 'make') return refused;
  const { what } = operation;
  switch (what.kind) {
    case 'tables':
      return new Failure('NFT_FAILED', `nftables in the pod: ${words}`, facts);
    case 'address':
      return errno === EADDRINUSE
        ? new Failure('ADDRESS_IN_USE', `${what.address} is on an interface in another namespace`, facts)
        : refused;
    case 'ipvlan':
    case 'veth': {
      const names = what.kind === 'veth' ? `${what.end.name} or ${what.peer.name}` : what.end.name;
      if (errno === EEXIST)
        return new Failure('ALREADY_ATTACHED', `the pod has an interface ${names} already`, facts);
      // Since Linux 4.20 the text is `Unknown device type`.
      if (errno !== EOPNOTSUPP) return refused;
      const lack = `${command}: the kernel of this node has no ${what.kind} (${words})`;
      return new Failure('KERNEL_MODULE_MISSING', lack, { ...facts, module: what.kind });
    }
    case 'route':
    case 'rule':
      return lacksIpv6(what, errno)
        ? new Failure('IPV6_UNAVAILABLE', `the kernel cannot do ${command}: ${words}`, facts)
        : refused;
    case 'neighbour':
    case 'setting':
      return refused;
  }
}

/**
 * Without CONFIG_IPV6_SUBTREES a route with a source prefix fails with EINVAL (ip6_route_info_create in
 * net/ipv6/route.c). Without CONFIG_IPV6_MULTIPLE_TABLES a rule fails with EAFNOSUPPORT (fib_nl_newrule in
 * net/core/fib_rules.c).
 */
function lacksIpv6(what: Route | Rule, errno: number): boolean {
  if (what.kind === 'rule') return what.family === 6 && errno === EAFNOSUPPORT;
  return what.from !== undefined && errno === EINVAL;
}

/**
 * Runs `work`, which talks to the kernel or reads from it, and turns its errors into failures.
 *
 * @param code of the failure when the kernel cannot be talked to.
 * @param what for people: where, or what for.
 * @throws the failure with `code`, NETLINK_UNAVAILABLE, SYSTEM_EXHAUSTED, and any other error of `work`.
 */
export function speaking<T>(
  code: Extract<FailureCode, 'KERNEL_CHANGE' | 'KERNEL_QUERY'>,
  what: string,
  work: () => T,
): T {
  try {
    return work();
  } catch (error) {
    if (kindOfSystemError(error) === 'exhausted') throw failureOf(error);
    if (error instanceof NoForeignCalls || (error instanceof SystemCallError && error.call === 'socket'))
      throw new Failure('NETLINK_UNAVAILABLE', `${what}: ${error.message}`, {}, error);
    if (!isSystemError(error)) throw error;
    throw new Failure(code, `${what}: ${error.message}`, { errno: error.errno }, error);
  }
}
