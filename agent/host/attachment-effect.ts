// Whether every object of an attachment is in effect, asked of the kernel itself: no program is started, so a pod that
// waits for a CHECK does not wait for twenty of them.
import { readIfPresent } from '../port/fs.ts';
import { hasLibc } from '../port/libc.ts';
import { inTwoNamespaces } from '../port/netlink.ts';
import { type Attachment, podLines6, podSysctls, podTables } from './attachment.ts';
import {
  ADDS_TO_A_LINK,
  linesOf,
  type Part,
  type PartOf,
  type Place,
  type Side,
} from './attachment-parts.ts';
import { lineOf } from './netlink/ip.ts';
import { hasTables } from './netlink/nft-verify.ts';
import { Routing } from './netlink/requests.ts';
import { Listing, type WantedLink } from './netlink/verify.ts';

/**
 * @param parts the objects of the attachment, without those of its IPv6.
 * @returns whether the pod's IPv6 is part of it: not where a runtime has turned that off. Undefined where something is
 *   not as ADD makes it, or where this cannot tell.
 */
export function wholeByNetlink(a: Attachment, place: Place, parts: Part[]): { ipv6: boolean } | undefined {
  const { netns } = place;
  if (!hasLibc()) return undefined;
  try {
    return inTwoNamespaces(netns, ({ node, pod, podNetfilter }) => {
      const on = { node: new Listing(new Routing(node)), pod: new Listing(new Routing(pod)) };
      const has = (side: Side, lines: string[], inet6 = false) =>
        lines.filter(makesAnObject).every((text) => {
          const line = lineOf(text, netns, inet6);
          return line !== undefined && on[side].has(line);
        });
      const lines = linesOf(a, place);
      // This thread is in the pod's namespace, and so is what it reads here.
      const setting = (path: string) => readIfPresent(`/proc/sys/${path}`)?.trim();
      const ipv6 = a.ipv6 !== undefined && setting(`net/ipv6/conf/${a.ifName}/disable_ipv6`) !== '1';
      const whole =
        podSysctls(a).every(([path, value]) => setting(path) === value) &&
        parts.every(
          (part) =>
            (part.kind !== 'link' || on[part.side].hasLink(wantedLink(part, on.node))) &&
            (part.kind !== 'limit' || on[part.side].hasBucket(part.device, part.bytesPerSecond)),
        ) &&
        has('node', lines.node) &&
        has('pod', lines.pod) &&
        (!ipv6 || has('pod', podLines6(a), true)) &&
        hasTables(new Routing(podNetfilter), podTables(a));
      return whole ? { ipv6 } : undefined;
    });
  } catch {
    // Whatever it was: programs look again, and say what is wrong.
    return undefined;
  }
}

/** Not a line about a link: those are looked at by all that several lines say of them. */
function makesAnObject(line: string): boolean {
  return !line.startsWith('link add ') && !ADDS_TO_A_LINK.test(line);
}

function wantedLink(link: PartOf<'link'>, node: Listing): WantedLink {
  const { name, mac, mtu, group, type, master } = link;
  return {
    ...{ name, mac, mtu },
    group: group === 'default' ? 0 : Number(group),
    kind: type === 'veth' ? undefined : type,
    master: master === undefined ? undefined : node.index(master),
  };
}
