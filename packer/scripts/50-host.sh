#!/bin/bash
# The host as a node needs it: no swap, systemd's cgroups, SELinux enforcing with labels that let cri-o run plugins.
set -euo pipefail
umask 022
# zram-generator went with the packages; whatever brings it back finds its units masked.
ln -sf /dev/null /etc/systemd/system/systemd-zram-setup@.service
sed -i '/[[:space:]]swap[[:space:]]/d' /etc/fstab
swapoff --all

sed -i 's/^SELINUX=.*/SELINUX=enforcing/' /etc/selinux/config
# The policy has no rule for this folder; plugins run as part of the runtime (container-selinux: container_runtime_t).
semanage fcontext --add --type bin_t '/opt/cni/bin(/.*)?' 2>/dev/null ||
  semanage fcontext --modify --type bin_t '/opt/cni/bin(/.*)?'
semanage fcontext --add --type bin_t '/usr/libexec/eniboot/.*/eniboot' 2>/dev/null ||
  semanage fcontext --modify --type bin_t '/usr/libexec/eniboot/.*/eniboot'
restorecon -RF /opt/cni /usr/libexec/eniboot /usr/lib/systemd /etc/systemd /etc/cloud

# As after a boot: NetworkManager and udev have the node files, which the check looks at by a fresh device.
udevadm control --reload
nmcli general reload

# nft's rules are made at boot; a firewall of the distribution would flush or contradict them.
systemctl disable --now firewalld.service nftables.service 2>/dev/null || :
