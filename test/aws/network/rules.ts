// The nftables rules that make the namespace as strict as a VPC.

/** Source address of IMDS: only its packets get an instance's hop limit. */
const metadata = '169.254.169.254';

/** Address of the resolver in every VPC. Source: VPC User Guide, "DNS attributes for your VPC". */
const resolver = '169.254.169.253';

/**
 * For each ENI: `ports` binds the VPC-side device to the ENI's MAC, `owned` holds the addresses that EC2 assigned to it.
 * A packet or ARP message with another sender is dropped and its sender counted; a packet for an address that is not
 * assigned is dropped. `unchecked` holds ENIs whose source/destination check is off.
 */
export const baseRules = `
table bridge vpc {
  set ports { type ifname . ether_addr; }
  set owned { type ether_addr . ipv4_addr; flags interval; }
  set owned6 { type ether_addr . ipv6_addr; flags interval; }
  set unchecked { type ether_addr; }
  set spoofed { type ether_addr . ipv4_addr; flags dynamic; size 65535; counter; }
  set undelivered { type ether_addr . ipv4_addr; flags dynamic; size 65535; counter; }
  set spoofed6 { type ether_addr . ipv6_addr; flags dynamic; size 65535; counter; }
  set undelivered6 { type ether_addr . ipv6_addr; flags dynamic; size 65535; counter; }
  counter foreign_mac { }
  chain router_arp { }
  chain from_instance {
    type filter hook prerouting priority -300; policy accept;
    iifname "sub*" accept
    iifname . ether saddr != @ports counter name foreign_mac drop
    ether type != { arp, ip, ip6 } drop
    ether type ip6 goto from_instance6
    arp operation request jump router_arp
    ether saddr @unchecked accept
    ether type arp arp saddr ip 0.0.0.0 accept
    ether type arp ether saddr . arp saddr ip @owned accept
    ether type arp add @spoofed { ether saddr . arp saddr ip counter } drop
    ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
    ether saddr . ip saddr != @owned add @spoofed { ether saddr . ip saddr counter } drop
  }
  chain from_instance6 {
    ether saddr @unchecked accept
    ether saddr . ip6 saddr @owned6 accept
    # Link-local traffic of an instance in a subnet without IPv6: duplicate address detection, router and group messages.
    ip6 saddr { ::, fe80::/10 } drop
    add @spoofed6 { ether saddr . ip6 saddr counter } drop
  }
  chain to_instance {
    type filter hook postrouting priority 300; policy accept;
    ether type ip6 ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 goto to_instance6
    ether type != ip accept
    udp sport 67 udp dport 68 accept
    ether daddr @unchecked accept
    ether daddr . ip daddr != @owned add @undelivered { ether daddr . ip daddr counter } drop
  }
  chain to_instance6 {
    oifname "sub*" accept
    ether daddr @unchecked accept
    ether daddr . ip6 daddr != @owned6 add @undelivered6 { ether daddr . ip6 daddr counter } drop
  }
}
table ip vpc {
  set publics { type ipv4_addr; }
  map public_of { type ipv4_addr : ipv4_addr; }
  map private_of { type ipv4_addr : ipv4_addr; }
  map hops { type ipv4_addr : verdict; flags interval; }
  set no_public { type ipv4_addr; flags dynamic; size 65535; counter; }
  chain forward {
    type filter hook forward priority 0; policy accept;
    oifname "igw0" ct state established accept
    oifname "igw0" ip saddr != @publics add @no_public { ip saddr counter } drop
    iifname "igw0" ct state established accept
    iifname "igw0" ct status & dnat == 0 drop
  }
  chain inbound {
    type nat hook prerouting priority -100; policy accept;
    iifname "igw0" dnat to ip daddr map @private_of
    iifname "sub*" ip daddr ${resolver} fib daddr type != local udp dport 53 redirect
  }
  chain outbound {
    type nat hook postrouting priority 100; policy accept;
    oifname "igw0" snat to ip saddr map @public_of
  }
  chain metadata {
    type filter hook output priority 0; policy accept;
    ip saddr ${metadata} tcp sport 80 meta length > 60 ip daddr vmap @hops
  }
}
`;

/** Which ARP requests routers answer. Whether EC2's routers answer a probe without a sender is not known for certain. */
export type RouterArp = 'all' | 'addressed' | 'none';

export function routerArpRules(answers: RouterArp): string {
  const flush = 'flush chain bridge vpc router_arp\n';
  if (answers === 'all') return flush;
  const which = answers === 'none' ? '' : 'arp saddr ip 0.0.0.0 ';
  return `${flush}add rule bridge vpc router_arp ${which}drop\n`;
}

/**
 * The chain that gives IMDS answers their hop limit. It sets the TTL of data packets only; connection set-up passes with any
 * limit. So a client one hop too far gets a PUT that hangs, as on EC2.
 */
export function hopChain(limit: number): string {
  return `add chain ip vpc hop${limit}\nflush chain ip vpc hop${limit}\nadd rule ip vpc hop${limit} ip ttl set ${limit} accept\n`;
}
