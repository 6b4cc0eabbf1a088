// The node file: what this boot found out, in the form the CNI plugin reads it.
import { type NodeFile, nodeFileText } from '../host/node-file.ts';
import { bandwidthOf } from './bandwidth.ts';
import { ipv6Cidrs, podRouting } from './egress-table.ts';
import { type Boot, isDualStack, nodeOf } from './phase.ts';

/** Text of node.json. Every pod ENI must have its subnet by now; one that IMDS does not know yet is left out. */
export function nodeFile(boot: Boot): string {
  const { identity, bootEni, bootDevice, ownAddresses } = nodeOf(boot);
  const { pods, pool, kubernetes } = boot.config;
  const bandwidth = bandwidthOf(boot);
  return nodeFileText({
    schema: 1,
    instanceId: identity.instanceId,
    nodeAddresses: ownAddresses.ipv4,
    mtu: bootDevice.mtu,
    ...podRouting(bootEni.vpcCidrs, boot.config),
    allowImds: pods.allowImds,
    ...(isDualStack(boot)
      ? { ipv6: { nodeAddresses: ownAddresses.ipv6, serviceCidrs: ipv6Cidrs(kubernetes.serviceCidrs) } }
      : {}),
    restMs: pool.restSeconds * 1000,
    lowWater: pool.lowWater,
    ...(bandwidth === undefined ? {} : { bandwidth }),
    podEnis: boot.pods
      .filter((pod) => pod.subnetCidr !== '')
      .map(({ eniId, mac, subnetCidr, primaryAddress, ipv6Prefix }) => ({
        eniId,
        mac,
        subnetCidr,
        ...(primaryAddress === '' ? {} : { primaryAddress }),
        ...(ipv6Prefix === undefined ? {} : { ipv6Prefix }),
      })),
  } satisfies NodeFile);
}
