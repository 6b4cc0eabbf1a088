// CoreDNS on each node, for the node's pods and for other resolvers that forward to it. It resolves names of its own
// cluster by the cluster's API, names of the other cluster by the other's nodes, and all other names by the VPC's
// resolver. No Service address is needed for it.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Place, until } from './place.ts';

/** The address at which Kubernetes' NodeLocal DNSCache listens by default (kubernetes.io, "Using NodeLocal DNSCache"). */
export const LOCAL_DNS = '169.254.20.10';

export interface Zones {
  /** The cluster's domain, and a kubeconfig for its API. */
  own: { domain: string; kubeconfig: string }[];
  /** Resolvers of the other clusters' domains. */
  others: { domain: string; resolvers: readonly string[] }[];
  /** Resolver for all other names. */
  rest: string;
}

/** @param addresses at which it listens. */
export async function startDns(
  place: Place,
  coredns: string,
  work: string,
  addresses: readonly string[],
  { own, others, rest }: Zones,
): Promise<void> {
  const bind = `bind ${addresses.join(' ')}\n    errors`;
  const blocks = [
    ...own.map(
      ({ domain, kubeconfig }) => `${domain}:53 {
    ${bind}
    kubernetes ${domain} {
        kubeconfig ${kubeconfig}
        ttl 5
    }
}`,
    ),
    ...others.map(
      ({ domain, resolvers }) => `${domain}:53 {
    ${bind}
    forward . ${resolvers.join(' ')} {
        max_fails 1
    }
}`,
    ),
    `.:53 {
    ${bind}
    forward . ${rest}
}`,
  ];
  const file = join(work, `${place.name}-Corefile`);
  writeFileSync(file, `${blocks.join('\n')}\n`);
  place.start('coredns', [coredns, '-conf', file]);
  await until(`DNS on ${place.name}`, 30_000, async () => {
    const listening = await place.output('ss', '-Hlun', `sport = :53 and src ${addresses[0]}`);
    return listening !== '';
  });
}
