#!/bin/sh
# PID 1 of a simulated instance: mounts the instance's own directories over the machine's, then reaps orphaned processes.
# $1: the instance's base directory; what survives a reboot is in there. $2...: paths to keep visible.
set -eu
base=$1
shift
mount --make-rprivate /
own() { # own directory $2 at $1, also where the machine has no such mount point
  mount --bind "$base/$2" "$1"
}
# Mounts an overlay where the kernel allows it, else a copy.
layer() { # $1: the machine's directory, $2: name in the base directory
  mount -t overlay overlay -o "lowerdir=$1,upperdir=$base/$2,workdir=$base/$2.work" "$1" 2>/dev/null || copy "$1" "$2"
}
copy() {
  if [ ! -e "$base/$2.copied" ]; then
    cp -a "$1/." "$base/$2/" 2>/dev/null || : # files that this user may not read are left out
    : >"$base/$2.copied"
  fi
  own "$1" "$2"
}
# Without real root, the machine's root files have an owner that is not mapped in here, also through an overlay.
if grep -q ' 4294967295$' /proc/self/uid_map; then layer /etc etc; else copy /etc etc; fi
if [ ! -e "$base/fresh" ]; then
  rm -rf /etc/cni /etc/eniboot /etc/kubernetes /etc/crio
  rm -f /etc/resolv.conf
  : >"$base/fresh"
fi
layer /usr/libexec usr-libexec
mkdir -p /usr/libexec/eniboot
own /usr/libexec/eniboot libexec
for kept in "$@"; do
  case $kept in
    /var/*) mkdir -p "$base$kept" && mount --bind "$kept" "$base$kept" ;;
    /opt/*) mkdir -p "$base$kept" && mount --bind "$kept" "$base$kept" ;;
  esac
done
mount --rbind "$base/var" /var
mount --rbind "$base/opt" /opt
mount --bind "$base/console" /dev/console
mount -t proc proc /proc
mount --bind "$base/boot_id" /proc/sys/kernel/random/boot_id
# Linux forwards nothing until it is told to. A new network namespace has the first one's value instead, which is this machine's.
echo 0 >/proc/sys/net/ipv4/ip_forward
mount -t sysfs sysfs /sys
# In a user namespace the sysctl is refused, and the system call is allowed.
hostname -F "$base/hostname"
cat "$base/machine-id" >/etc/machine-id
cat "$base/resolv.conf" >/etc/resolv.conf
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/netns /run/lock
cd /
echo ready
exec >/dev/null </dev/null
trap '' TERM INT HUP
sleep infinity &
while :; do wait || :; done
