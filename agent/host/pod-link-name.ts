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
  const digits = new RegExp(`^${POD_LINK_PREFIX}([0-9a-f]{8})$`).exec(name)?.[1];
  return digits === undefined ? undefined : toAddress(Number.parseInt(digits, 16));
}
