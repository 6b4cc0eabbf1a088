#!/bin/bash
# Nothing of the build's own instance stays: no identity, no key, no log, no state that an instance would take for its
# own. Then looks whether that is so.
set -euo pipefail
dnf clean all >/dev/null
rm -rf /var/lib/cloud/* /var/log/cloud-init*.log /run/eniboot /var/lib/eniboot/i-* /var/lib/dhclient/* \
  /var/lib/NetworkManager/* /etc/NetworkManager/system-connections/* /var/lib/amazon/ssm/* /var/log/amazon/* \
  /var/lib/systemd/random-seed /var/lib/chrony/* /root/.bash_history /home/*/.bash_history /root/.ssh /var/tmp/* \
  /etc/ssh/ssh_host_*
rm -f /home/fedora/.ssh/authorized_keys
journalctl --rotate --quiet
journalctl --vacuum-time=1s --quiet
rm -rf /var/log/journal/*
find /var/log -type f -exec truncate --size 0 {} +
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /etc/hostname
rm -rf /tmp/eniboot /tmp/eniboot-packages.lock
left=()
[ ! -s /etc/machine-id ] || left+=(/etc/machine-id)
for path in /etc/ssh/ssh_host_* /var/lib/cloud/instance /home/*/.ssh/authorized_keys /root/.ssh/authorized_keys; do
  [ ! -e "$path" ] || left+=("$path")
done
if [ "${#left[@]}" -gt 0 ]; then
  echo "clean: the image would carry ${left[*]}" >&2
  exit 1
fi
sync
