#!/bin/sh
# Ties a veth to an ENI's device by address, as ipvlan (L2) does: a frame for the ENI's MAC goes to the pod that holds its
# destination address; a frame of the pod goes to the pod of the same ENI that holds its destination, or out of the ENI.
# Broadcasts (ARP) are forwarded by target address.
#   switch.sh PARENT PORT ADDRESS [ADDRESS6]
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin # not the test's PATH, whose programs may be stand-ins
parent=$1 port=$2 address=$3 address6=${4:-}
[ -e "/sys/class/net/$port" ] || exit 0
# One table for each ENI: a map from address to port, used in both directions.
if ! nft list table netdev "ipvlan_$parent" >/dev/null 2>&1; then
  nft -f - <<TABLE || :
table netdev ipvlan_$parent {
  map ports { type ipv4_addr : iface_index; }
  map ports6 { type ipv6_addr : iface_index; }
  chain incoming {
    # After every other hook, as ipvlan's own handler runs.
    type filter hook ingress device "$parent" priority 1000; policy accept;
    arp operation request fwd to arp daddr ip map @ports
    arp operation reply fwd to arp daddr ip map @ports
    fwd to ip daddr map @ports
    fwd to ip6 daddr map @ports6
  }
  chain outgoing {
    fwd to ip daddr map @ports
    fwd to ip6 daddr map @ports6
    arp operation request fwd to arp daddr ip map @ports
    arp operation reply fwd to arp daddr ip map @ports
    fwd to "$parent"
  }
}
TABLE
fi
nft delete element netdev "ipvlan_$parent" ports "{ $address }" 2>/dev/null || :
nft -f - <<PORT
table netdev ipvlan_$parent {
  chain $port { type filter hook ingress device "$port" priority 0; policy accept; jump outgoing; }
}
add element netdev ipvlan_$parent ports { $address : $port }
PORT
if [ -n "$address6" ]; then
  # Also the multicast group of neighbour solicitations for the address: it ends in the same 24 bits.
  IFS=. read -r _ b c d <<IPV4
$address
IPV4
  for key in "$address6" "$(printf 'ff02::1:ff%02x:%02x%02x' "$b" "$c" "$d")"; do
    nft delete element netdev "ipvlan_$parent" ports6 "{ $key }" 2>/dev/null || :
    nft add element netdev "ipvlan_$parent" ports6 "{ $key : $port }"
  done
fi
