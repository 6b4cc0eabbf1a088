// The name of a pod's link on the node contains the pod's address, so each can be computed from the other. This is a
// separate file, because the CNI path needs it and must not load the other code about pod links.
import { toAddress, toNumber } from './ipv4.ts';
import { POD_LINK_PREFIX } from './names.ts';

/** Name of a pod link's host end, with the address in hexadecimal. */
export function hostLinkOf(address: string): string {
  return `${POD_LINK_PREFIX}${toNumber(address).toString(16).padStart(8, '0')}`;
}

/** The address in a host link's name; undefined when eniboot has not made the link. */
export function addressOfHostLink(name: string): string | undefined {
  if (!name.startsWith(POD_LINK_PREFIX)) return undefined;
  const digits = name.slice(POD_LINK_PREFIX.length);
  return /^[0-9a-f]{8}$/.test(digits) ? toAddress(Number.parseInt(digits, 16)) : undefined;
}
