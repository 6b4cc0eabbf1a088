// Which network namespaces have addresses on a pod ENI: every ipvlan of an ENI has the ENI's MAC, and the kernel lets
// any process with NET_ADMIN in its namespace give one more addresses. Reads only.
import { isThere, listIfPresent, statIfPresent } from '../port/fs.ts';
import { hasLibc } from '../port/libc.ts';
import { inTwoNamespaces } from '../port/netlink.ts';
import { toAddress } from './ipv4.ts';
import { ipv6FromBytes } from './ipv6.ts';
import { IFA, IFLA, linksQuestion, NEW_ADDRESS } from './netlink/ip.ts';
import { attributesIn, DUMP, Message, numberAt, REQUEST } from './netlink/message.ts';
import { Routing } from './netlink/requests.ts';

/** A namespace that has at least one address on a device with one of the MACs. */
export interface Carrier {
  /** A path that leads to it. */
  netns: string;
  /** Its number: paths that lead to the same namespace have the same. */
  inode: number;
  /** Of both families, as the kernel prints them, with the MAC of the device. */
  addresses: { address: string; mac: string }[];
}

/** Where the runtimes mount their pods' namespaces. */
const MOUNTED = '/run/netns';

/**
 * Looks into the namespaces of `ip netns` and of every process. One that is neither (a descriptor that somebody holds, a
 * mount elsewhere) is not found.
 *
 * @param macs lower case.
 * @returns beside what was found, what could not be looked into and why; undefined where this runtime has no netlink.
 */
export function findCarriers(
  macs: ReadonlySet<string>,
): { carriers: Carrier[]; unseen: string[] } | undefined {
  if (!hasLibc()) return undefined;
  const carriers: Carrier[] = [];
  const unseen: string[] = [];
  const seen = new Set([statIfPresent('/proc/self/ns/net')?.ino]);
  for (const netns of namespacePaths()) {
    try {
      const inode = statIfPresent(netns)?.ino;
      if (inode === undefined || seen.has(inode)) continue;
      const addresses = addressesIn(netns, macs);
      seen.add(inode);
      if (addresses.length > 0) carriers.push({ netns, inode, addresses });
    } catch (error) {
      const process = /^\/proc\/\d+/.exec(netns)?.[0];
      // A process that ends meanwhile takes its path along, and one by one ends with another error.
      if (process !== undefined && !isThere(process)) continue;
      unseen.push(`${netns}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return { carriers, unseen };
}

function namespacePaths(): string[] {
  const processes = listIfPresent('/proc').filter((name) => /^\d+$/.test(name));
  return [
    ...listIfPresent(MOUNTED).map((name) => `${MOUNTED}/${name}`),
    ...processes.map((process) => `/proc/${process}/ns/net`),
  ];
}

function addressesIn(netns: string, macs: ReadonlySet<string>): Carrier['addresses'] {
  return inTwoNamespaces(netns, ({ pod }) => {
    const routing = new Routing(pod);
    const macOf = new Map(
      routing.listWhole(linksQuestion).found.flatMap((link): [number, string][] => {
        const mac = macText(attributesIn(link, 16).get(IFLA.address));
        return macs.has(mac) ? [[numberAt(link, 4), mac]] : [];
      }),
    );
    if (macOf.size === 0) return [];
    return routing.listWhole(addressesQuestion).found.flatMap((one) => {
      const attributes = attributesIn(one, 8);
      // IPv6 has IFA_LOCAL only beside a peer (linux/if_addr.h).
      const bytes = attributes.get(IFA.local) ?? attributes.get(IFA.address);
      const mac = macOf.get(numberAt(one, 4));
      return bytes === undefined || mac === undefined ? [] : { address: addressText(bytes), mac };
    });
  });
}

/** Of both families: ifaddrmsg with nothing said. */
function addressesQuestion(): Message {
  return new Message(NEW_ADDRESS + 2, REQUEST | DUMP).u32(0).u32(0);
}

function addressText(bytes: Uint8Array): string {
  if (bytes.length === 16) return ipv6FromBytes(bytes);
  return toAddress(new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0));
}

function macText(bytes: Uint8Array | undefined): string {
  return [...(bytes ?? [])].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}
