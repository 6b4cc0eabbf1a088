#!/bin/bash
# Refuses a base image that is not the one asked for, before anything is changed.
set -euo pipefail
umask 022
# shellcheck source=/dev/null
. /etc/os-release
die() { echo "base image: $*" >&2; exit 1; }
[ "${ID:-}" = fedora ] || die "this is ${PRETTY_NAME:-no known system}, not Fedora"
[ "${VERSION_ID:-}" = "$FEDORA_VERSION" ] || die "this is Fedora $VERSION_ID, and fedora_version asks for $FEDORA_VERSION"
case $(uname -m)/$ARCH in
x86_64/x86_64 | aarch64/arm64) ;;
*) die "this machine is $(uname -m), and the image is for $ARCH" ;;
esac
# Whatever user data asked for, nothing installs or reboots beside the build.
# 2: it is done, and has warnings.
cloud-init status --wait >/dev/null || [ $? = 2 ] || die "cloud-init failed: see cloud-init status --long"
