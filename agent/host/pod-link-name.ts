// The name of a pod's link on the node says its address, so that either can be found from the other. A file of its own,
// because the CNI path needs it and must not load what else knows of pod links.
import { toAddress, toNumber } from './ipv4.ts';
import { POD_LINK_PREFIX } from './names.ts';

/** Name of the host end of a pod's link: the address in hexadecimal. */
export function hostLinkOf(address: string): string {
  return `${POD_LINK_PREFIX}${toNumber(address).toString(16).padStart(8, '0')}`;
}

/** The address a host link's name stands for; undefined when it is none of ours. */
export function addressOfHostLink(name: string): string | undefined {
  if (!name.startsWith(POD_LINK_PREFIX)) return undefined;
  const digits = name.slice(POD_LINK_PREFIX.length);
  return /^[0-9a-f]{8}$/.test(digits) ? toAddress(Number.parseInt(digits, 16)) : undefined;
}
