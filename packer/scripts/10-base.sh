#!/bin/bash
# Refuses a base image of another system, Fedora release or CPU than asked for, before anything is changed.
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
# Waits until cloud-init has ended, so that no user data installs or reboots during the build.
# Exit code 2: it has ended, with warnings.
cloud-init status --wait >/dev/null || [ $? = 2 ] || die "cloud-init failed: see cloud-init status --long"
