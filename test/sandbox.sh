#!/bin/sh
# Runs a command in namespaces of its own (network, mounts, processes): everything that a test makes is gone when it
# ends, in any way, and nothing on the machine is changed. Works without root where the kernel
# allows user namespaces. Ctrl-C ends it; a program that wants to end it from outside sends SIGKILL, since
# unshare(1) itself ignores everything else.
set -eu
if [ "$(id -u)" = 0 ]; then user=''; else user='--map-root-user'; fi
# The shell inside is process 1: a signal without a handler would not reach it, and when it ends, all processes end.
# shellcheck disable=SC2086 # empty when root
exec unshare $user --net --mount --pid --fork --kill-child=KILL --mount-proc sh -uc '
  trap "exit 130" INT
  trap "exit 143" TERM
  trap "exit 129" HUP
  mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/netns /run/lock && mount -t sysfs sysfs /sys &&
    ip link set lo up || exit 125
  exec 3<&0
  "$@" <&3 3<&- &
  exec 3<&-
  wait "$!"' sandbox "$@"
