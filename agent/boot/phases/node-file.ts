// The node file: what this boot found out, in the form that the CNI plugin reads.
import { type NodeFile, nodeFileText } from '../../host/node-file.ts';
import { isDualStack, type NodeFacts, type PodEni } from '../facts/facts.ts';
import { ipv6Cidrs, podRouting } from '../node-rules/nft-text.ts';
import { bandwidthOf } from './bandwidth.ts';

/** Text of node.json. Every pod ENI must have its subnet by now; an ENI that IMDS does not know yet is left out. */
export function nodeFile(node: NodeFacts, vpcCidrs: readonly string[], podEnis: readonly PodEni[]): string {
  const { config, identity, bootDevice, ownAddresses } = node;
  const { pods, pool, kubernetes, policy } = config;
  return nodeFileText({
    schema: 1,
    instanceId: identity.instanceId,
    nodeAddresses: [...ownAddresses.ipv4],
    mtu: bootDevice.mtu,
    ...podRouting(vpcCidrs, config),
    allowImds: pods.allowImds,
    ipv6: isDualStack(node)
      ? { nodeAddresses: [...ownAddresses.ipv6], serviceCidrs: ipv6Cidrs(kubernetes.serviceCidrs) }
      : undefined,
    restMs: pool.restSeconds * 1000,
    lowWater: pool.lowWater,
    bandwidth: bandwidthOf(node),
    policy: policy && {
      strict: policy.strict,
      serviceCidrs: kubernetes.serviceCidrs,
      logDenied: policy.logDenied || undefined,
    },
    podEnis: podEnis
      .filter((pod) => pod.subnetCidr !== '')
      .map(({ eniId, mac, subnetCidr, primaryAddress, ipv6Prefix }) => ({
        ...{ eniId, mac, subnetCidr },
        primaryAddress: primaryAddress === '' ? undefined : primaryAddress,
        ipv6Prefix,
      })),
  } satisfies NodeFile);
}
