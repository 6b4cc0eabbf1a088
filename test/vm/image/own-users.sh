#!/bin/sh
# Runs a command in a user namespace with the same users. There binfmt_misc can get an interpreter without
# a change on the machine itself (Linux 6.7, Documentation/admin-guide/binfmt-misc.rst). Needs root.
#   own-users.sh INTERPRETER COMMAND [ARGS]      arm64 programs run by INTERPRETER, which is static
set -eu
interpreter=$1
shift
begin=$(mktemp -u)
mkfifo "$begin"
# shellcheck disable=SC2016 # for the inner shell
unshare --user --mount sh -c 'read -r _ <"$1"; rm "$1"
  mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
  # The head of an ELF file for that CPU, from qemu-binfmt-conf.sh; F: the interpreter is opened now, so it works in any root.
  printf "%s" ":eniboot-arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:$2:F" >/proc/sys/fs/binfmt_misc/register
  shift 2
  exec "$@"' sh "$begin" "$interpreter" "$@" &
child=$!
until [ "$(readlink /proc/$child/ns/user)" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.1; done
echo '0 0 65536' >/proc/$child/uid_map
echo '0 0 65536' >/proc/$child/gid_map
echo >"$begin"
wait "$child"
