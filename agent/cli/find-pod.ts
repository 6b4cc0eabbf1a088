// Finding a pod by the names that people use: its address, its container ID or the beginning of it, or namespace/name.

import { podIpv6 } from '../host/ipv6.ts';
import { readNodeFile } from '../host/node-file.ts';
import { Failure } from '../messages/failure.ts';
import { listEntries } from '../pool/entry.ts';
import { type Lease, listLeases } from '../pool/lease.ts';
import { noteOf } from '../pool/lease-note.ts';

/** The pod's namespace and name, when the runtime gave them to the plugin; else undefined. */
export function podNameOf(lease: Lease): string | undefined {
  const pod = noteOf(lease)?.pod;
  return pod === undefined ? undefined : `${pod.namespace}/${pod.name}`;
}

/** @throws POD_UNKNOWN, POD_AMBIGUOUS with the pods that match. */
export function findPod(name: string): Lease {
  const leases = listLeases();
  const exact = leases.filter(
    (lease) =>
      lease.address === name ||
      lease.owner.containerId === name ||
      podNameOf(lease) === name ||
      (name.includes(':') && ipv6Of(lease) === name),
  );
  const found = exact.length > 0 ? exact : leases.filter((lease) => lease.owner.containerId.startsWith(name));
  const [only, ...others] = found;
  if (only !== undefined && others.length === 0) return only;
  if (only === undefined) throw new Failure('POD_UNKNOWN', unknown(name, leases.length), { name });
  const candidates = found.map(
    (lease) => `${lease.owner.containerId} ${lease.owner.ifName} ${lease.address}`,
  );
  throw new Failure('POD_AMBIGUOUS', `${name} may be any of: ${candidates.join('; ')}`, { name, candidates });
}

/** The IPv6 address of the lease; the pod may still have IPv6 turned off. */
function ipv6Of(lease: Lease): string | undefined {
  const { ipv6, podEnis } = readNodeFile();
  const prefix = podEnis.find((eni) => eni.eniId === lease.eniId)?.ipv6Prefix;
  return ipv6 === undefined || prefix === undefined ? undefined : podIpv6(prefix, lease.address);
}

function unknown(name: string, leased: number): string {
  const states = (['free', 'cooling', 'retiring'] as const).filter((state) =>
    listEntries(state).some((entry) => entry.address === name),
  );
  const words = { free: 'free', cooling: 'resting', retiring: 'on its way back to EC2' };
  if (states[0] !== undefined)
    return `${name} is an address of the pool that no pod has: it is ${words[states[0]]}`;
  return `no pod of this node has the address, name or container ID ${name} (${leased} pods have an address)`;
}
