#!/bin/bash
# What must hold in the finished image. Names everything that does not, then fails: an image that is not published costs
# less than one that is.
set -uo pipefail
problems=0
# want WHAT COMMAND...: the command succeeds.
want() {
  local what=$1 said
  shift
  if said=$("$@" 2>&1); then
    printf 'ok      %s\n' "$what"
  else
    problems=$((problems + 1))
    printf 'FAILED  %s: %s\n' "$what" "$(printf '%s' "$said" | tail -n 3 | tr '\n' ' ')"
  fi
}
is() { [ "$1" = "$2" ] || { echo "it is $1, not $2"; return 1; }; }
none() { [ -z "$1" ] || { echo "$1"; return 1; }; }
enabled() { is "$(systemctl is-enabled "$1" 2>/dev/null)" "$2"; }

want 'kubelet version' is "$(rpm -q --queryformat '%{VERSION}' kubelet)" "$KUBERNETES_VERSION"
want 'cri-o version' is "$(rpm -q --queryformat '%{VERSION}' cri-o)" "$CRIO_VERSION"
want 'executable as built' sh -c 'cd /usr/libexec/eniboot/current && ./eniboot version >/dev/null'
for plugin in eniboot eniboot-ipam eniboot-ptp; do want "plugin $plugin" test -x "/opt/cni/bin/$plugin"; done
want 'eniboot.service is enabled' enabled eniboot.service enabled
for timer in repair refill collect; do want "eniboot-$timer.timer is enabled" enabled "eniboot-$timer.timer" enabled; done
want 'kubelet is not: the boot starts it' enabled kubelet.service disabled
# It exits with 0 when it deletes a job to break a cycle.
graph=$(systemd-analyze verify default.target eniboot.service kubelet.service crio.service 2>&1 | grep -iE 'ordering cycle|deleted to break|not found|unknown' | head -n 3)
want 'units: no cycle, no deleted job, nothing unknown' none "$graph"
want 'no swap' none "$(swapon --show --noheadings)"
want 'SELinux is enforcing' is "$(getenforce)" Enforcing
want 'label of the plugins' is "$(stat --dereference --format %C /opt/cni/bin/eniboot | cut -d: -f3)" bin_t
want 'cgroup version 2' test -f /sys/fs/cgroup/cgroup.controllers
# By process, since a port says little: what listens on every address of a node is part of its surface.
listening=$(ss --listening --numeric --tcp --udp --processes --no-header | grep -vE '127\.0\.0\.|\[::1\]|%lo|sshd|systemd|chronyd|NetworkManager|amazon-ssm' | head -n 5)
want 'nothing unknown listens' none "$listening"
free=$(df --output=avail --block-size=1M / | tail -n 1 | tr -d ' ')
want 'at least 4 GiB are free' test "$free" -ge 4096
want 'NetworkManager is there' command -v nmcli
if ip link add ebcheck0 type veth peer name ebcheck1 2>/dev/null; then
  udevadm settle --timeout=10
  managed=$(nmcli --get-values DEVICE,STATE device status | grep '^ebcheck' | grep -v ':unmanaged$')
  want 'a new device stays unmanaged' none "$managed"
  ip link del ebcheck0
fi
want 'forwarding is on at boot' grep -rqs 'net.ipv4.ip_forward *= *1' /usr/lib/sysctl.d/90-eniboot.conf
want 'the pause image is there' skopeo inspect "containers-storage:${PAUSE_IMAGE%@*}"
[ "$problems" = 0 ] || {
  echo "check: $problems of these do not hold: no image is made" >&2
  exit 1
}
