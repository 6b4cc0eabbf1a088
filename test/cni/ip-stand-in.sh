#!/bin/sh
# A stand-in for `ip` on a kernel without ipvlan, placed first in a simulated node's PATH. Everything goes to the real
# `ip`; only the line that makes an ipvlan makes, instead, a veth whose two directions are tied to the ENI's device
# by address, as ipvlan (L2) does: the pod's end has the ENI's MAC; a frame for the ENI's MAC goes to the pod that
# holds its destination address; a frame of the pod goes to the pod of the same ENI that holds its destination, or
# out of the ENI. Broadcasts (ARP) are forwarded by target address. CHECK is shown the kind "ipvlan" for it.
# Where the rig found a kernel with ipvlan it leaves a file `ipvlan`, and the real thing is made.
# A file `no-ipvlan` makes it answer as `ip` does where the kernel has no ipvlan.
# A number in the file `fail` makes that batch line, counted over calls, fail with what the file `says` says: how tests
# make any step fail.
set -eu
real=/usr/sbin/ip
[ -x "$real" ] || real=/sbin/ip
PATH=/usr/sbin:/usr/bin:/sbin:/bin # its own tools, whatever a test breaks
state=${STAND_IN:-/run/stand-in}
case " $* " in
*' -batch '*) ;;
*' -d '*) shows_kind=1 ;;
*) exec "$real" "$@" ;;
esac
if [ "${shows_kind:-}" = 1 ]; then
  [ ! -e "$state/ipvlan" ] || exec "$real" "$@"
  shown=$("$real" "$@" | sed 's/"info_kind":"veth"/"info_kind":"ipvlan","info_data":{"mode":"l2","bridge":true}/')
  # An ipvlan's link is its ENI's device, a veth's is the port here.
  for master in "$state"/master-*; do
    [ -e "$master" ] || continue
    shown=$(printf '%s\n' "$shown" | sed "s/\"link_index\":${master##*-},/\"link_index\":$(cat "$master"),/")
  done
  printf '%s\n' "$shown"
  exit
fi
mkdir -p "$state"
batch=$(cat)
if [ -s "$state/fail" ]; then
  # The rest of the batch is never seen by the kernel, as when a line is refused.
  read -r wanted <"$state/fail"
  before=$(cat "$state/seen" 2>/dev/null || echo 0)
  lines=$(printf '%s\n' "$batch" | grep -c .)
  echo $((before + lines)) >"$state/seen"
  at=$((wanted - before))
  if [ "$at" -ge 1 ] && [ "$at" -le "$lines" ]; then
    rm -f "$state/fail" "$state/seen"
    refuse=$at
    batch=$(printf '%s\n' "$batch" | head -n $((at - 1)))
  fi
fi
if [ -e "$state/no-ipvlan" ] && printf '%s\n' "$batch" | grep -q ' type ipvlan '; then
  printf 'Error: Unknown device type.\nCommand failed -:1\n' >&2
  exit 2
fi
made=
[ -e "$state/ipvlan" ] || made=$(printf '%s\n' "$batch" | sed -n 's/^link add link \([^ ]*\) name \([^ ]*\) group \([^ ]*\) netns \([^ ]*\) type ipvlan mode l2$/\1 \2 \3 \4/p')
if [ -n "$made" ]; then
  # shellcheck disable=SC2086 # four words
  set -- "$@" && IFS=' ' read -r parent name group netns <<EOF
$made
EOF
  hex=$(printf '%08x' "$group")
  port=ipv$hex
  if [ -e "/sys/class/net/$port" ]; then
    # ipvlan says so when the address is added, not yet here.
    echo 'Error: ipvlan: Address already assigned to an ipvlan device.' >&2
    echo 'Command failed -:1' >&2
    exit 2
  fi
  mac=$(cat "/sys/class/net/$parent/address")
  mtu=$(cat "/sys/class/net/$parent/mtu")
  # The address is the one this batch gives the pod's other link; a group is the address without its first bit.
  address=$(printf '%s\n' "$batch" | sed -n 's/^neigh replace \([0-9.]*\) .*/\1/p' | head -n 1)
  address6=$(printf '%s\n' "$batch" | sed -n 's/^neigh replace \([^ ]*:[^ ]*\) .*/\1/p' | head -n 1)
  batch=$(printf '%s\n' "$batch" | sed "s|^link add link .* type ipvlan mode l2\$|link add name $port mtu $mtu type veth peer name $name address $mac mtu $mtu group $group netns $netns|")
fi
status=0
printf '%s\n' "$batch" | "$real" "$@" || status=$?
if [ -n "$made" ] && [ -n "${address:-}" ] && [ -e "/sys/class/net/$port" ]; then
  "$real" link set "$port" addrgenmode none up
  cat "/sys/class/net/$parent/ifindex" >"$state/master-$(cat "/sys/class/net/$port/ifindex")"
  # One table for each ENI: a map from address to port, used in both directions.
  if ! nft list table netdev "ipvlan_$parent" >/dev/null 2>&1; then
    nft -f - <<EOF || :
table netdev ipvlan_$parent {
  map ports { type ipv4_addr : iface_index; }
  map ports6 { type ipv6_addr : iface_index; }
  chain incoming {
    # Behind every other hook, as ipvlan's own handler.
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
EOF
  fi
  nft delete element netdev "ipvlan_$parent" ports "{ $address }" 2>/dev/null || :
  nft -f - <<EOF
table netdev ipvlan_$parent {
  chain $port { type filter hook ingress device "$port" priority 0; policy accept; jump outgoing; }
}
add element netdev ipvlan_$parent ports { $address : $port }
EOF
  if [ -n "${address6:-}" ]; then
    # Also the group that neighbour solicitations for the address go to: it ends in the same 24 bits.
    IFS=. read -r _ b c d <<EOF
$address
EOF
    for key in "$address6" "$(printf 'ff02::1:ff%02x:%02x%02x' "$b" "$c" "$d")"; do
      nft delete element netdev "ipvlan_$parent" ports6 "{ $key }" 2>/dev/null || :
      nft add element netdev "ipvlan_$parent" ports6 "{ $key : $port }"
    done
  fi
fi
if [ -n "${refuse:-}" ]; then
  cat "$state/says" >&2
  echo "Command failed -:$refuse" >&2
  exit 1
fi
exit "$status"
