#!/bin/sh
# Runs a command in namespaces of its own (network, mounts, processes): whatever a test makes is gone when it
# ends, whatever way it ends, and nothing on the machine is touched. Works without root where the kernel
# allows user namespaces.
set -eu
if [ "$(id -u)" = 0 ]; then user=''; else user='--map-root-user'; fi
# shellcheck disable=SC2086 # empty when root
exec unshare $user --net --mount --pid --fork --kill-child=KILL --mount-proc sh -euc '
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir /run/netns /run/lock
  mount -t sysfs sysfs /sys
  ip link set lo up
  exec "$@"' sandbox "$@"
