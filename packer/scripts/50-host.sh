#!/bin/bash
# The host as a node needs it: no swap, systemd's cgroups, SELinux enforcing with labels that let cri-o run plugins.
set -euo pipefail
umask 022
# zram-generator was removed with the packages; if another package brings it back, its unit is masked.
ln -sf /dev/null /etc/systemd/system/systemd-zram-setup@.service
sed -i '/[[:space:]]swap[[:space:]]/d' /etc/fstab
swapoff --all

sed -i 's/^SELINUX=.*/SELINUX=enforcing/' /etc/selinux/config
# The policy has no rule for this folder; plugins run in the domain of the runtime (container-selinux: container_runtime_t).
semanage fcontext --add --type bin_t '/opt/cni/bin(/.*)?' 2>/dev/null ||
  semanage fcontext --modify --type bin_t '/opt/cni/bin(/.*)?'
semanage fcontext --add --type bin_t '/usr/libexec/eniboot/.*/eniboot' 2>/dev/null ||
  semanage fcontext --modify --type bin_t '/usr/libexec/eniboot/.*/eniboot'
restorecon -RF /opt/cni /usr/libexec/eniboot
# tar has given these files the label of its folder in /tmp or none: each file gets the label of its place.
tar -tf /tmp/eniboot/node-files.tar | sed 's,^\(\./\)*,/,' | xargs -d '\n' restorecon -F

# EC2 shows the console ttyS0 on both CPUs, but Fedora's images for arm64 have had ttyAMA0. The verdict goes to /dev/console,
# which is
# the last console= of the kernel's arguments. Sources: coreos/fedora-coreos-config platforms.yaml (aarch64, aws);
# flatcar-archive/coreos-overlay #1628; Linux, Documentation/admin-guide/serial-console.rst. Not set with grubby, which keeps
# only
# one value of an argument (rhboot/grubby, grubby-bls, update_args). Later kernels get the arguments of the second and third
# file: kernel-install(8).
consoles='console=tty1 console=ttyS0,115200n8'
for file in /boot/loader/entries/*.conf /etc/kernel/cmdline /etc/default/grub; do
  [ -e "$file" ] || continue
  case $file in
  *.conf) lines='^options[[:space:]]' end='[[:space:]]*$' ;;
  */cmdline) lines='.' end='[[:space:]]*$' ;;
  */grub) lines='^GRUB_CMDLINE_LINUX="' end='[[:space:]]*"[[:space:]]*$' ;;
  esac
  case $file in */grub) quote='"' ;; *) quote= ;; esac
  sed -i -E "/$lines/ { s/(^|[\"[:space:]])console=[^[:space:]\"]*/\\1/g; s/[[:space:]]+/ /g; s/=\" /=\"/; s/$end/ $consoles$quote/ }" "$file"
done

# As after a boot: NetworkManager and udev read the node files. The check tests this with a fresh device.
udevadm control --reload
nmcli general reload

# nft's rules are made at boot; a firewall of the distribution would flush or contradict them.
systemctl disable --now firewalld.service nftables.service 2>/dev/null || :
