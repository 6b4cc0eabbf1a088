// eniboot-policy: closes a pod until its network policies are known. It comes after the plugin that made the pod's
// interface with an address of the pool. `eniboot` and `eniboot-ptp` close the pod themselves, without this plugin.
import { readNodeFile } from '../agent/host/node-file.ts';
import { inPod } from '../agent/kernel/execute.ts';
import { make } from '../agent/kernel/operation.ts';
import { Failure } from '../agent/messages/failure.ts';
import { closedTable } from '../agent/policy/local.ts';
import { requireNamespace } from './address.ts';
import { type Configuration, requirePrevResult, type Variables } from './call.ts';

/** @throws CNI_CONFIG when there is no result to pass on, NFT_FAILED */
export function policyAdd(
  { netns, ifName, pod }: Variables,
  configuration: Configuration,
): Record<string, unknown> {
  requireNamespace(netns);
  const why = "is missing: eniboot-policy comes after the plugin that makes the pod's interface";
  const prevResult = requirePrevResult(configuration, why);
  const table = closedTable(readNodeFile(), pod, ifName);
  if (table !== undefined) {
    const tables = { kind: 'tables', tables: [table] } as const;
    // A table that exists already is the service's, which knows the pod's policies.
    const problem = inPod(netns, (kernel) => kernel.run([make('pod', tables, 'refuse')]));
    if (problem !== undefined && problem.errno !== EEXIST)
      throw new Failure('NFT_FAILED', `nftables in the pod: ${problem.words}`, { ...problem });
  }
  return prevResult;
}

const EEXIST = 17;
