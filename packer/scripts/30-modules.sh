#!/bin/bash
# Kernel modules that a node needs: they must be present and loadable in the kernel that the image boots, and are loaded at
# boot where systemd/ says so. Fedora's cloud image has kernel-core without kernel-modules.
set -euo pipefail
umask 022
missing=()
for module in ipvlan veth br_netfilter nf_conntrack nft_masq nft_nat nft_fib_inet nft_reject_inet nft_ct overlay; do
  modprobe "$module" 2>/dev/null || missing+=("$module")
done
if [ "${#missing[@]}" -gt 0 ]; then
  # Without the CPU in the name: extra_packages is for both CPUs.
  package=kernel-modules-$(uname -r | sed 's/\.[^.]*$//')
  echo "modules: the kernel $(uname -r) cannot load ${missing[*]}: add $package to extra_packages (without the version, dnf would bring a newer kernel that has not booted), or take another base image" >&2
  exit 1
fi
booted=$(rpm -q --queryformat '%{VERSION}-%{RELEASE}.%{ARCH}\n' kernel-core | sort -V | tail -n 1)
if [ "$booted" != "$(uname -r)" ]; then
  echo "modules: the image boots kernel $booted, and only $(uname -r) was tried: take a base image with it" >&2
  exit 1
fi
