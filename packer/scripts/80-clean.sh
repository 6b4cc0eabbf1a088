#!/bin/bash
# Nothing of the build's own instance stays: no identity, no key, no log, no state that an instance would take for its
# own. 90-check.sh looks whether that is so.
set -euo pipefail
umask 022
dnf clean all >/dev/null
# Keys that were only looked at, with the time of it.
rm -rf /root/.gnupg /var/cache/dnf/* /var/cache/libdnf5/*
# It writes a new seed when it is stopped, and would be when the machine is; the journal goes to memory from here on.
systemctl stop systemd-random-seed.service
# The same for the SSM agent: whatever it knows of this instance, it would write again.
systemctl stop amazon-ssm-agent.service
# And for how far this machine's clock is off: chronyd writes the drift when it ends (chrony.conf(5), driftfile).
systemctl stop chronyd.service 2>/dev/null || :
journalctl --relinquish-var --quiet
# What cloud-init has configured for this instance: of its network and of sshd. Source: cloud-init, cloudinit/cmd/clean.py.
rm -f /etc/NetworkManager/conf.d/*cloud-init*.conf /etc/ssh/sshd_config.d/50-cloud-init.conf \
  /etc/udev/rules.d/*persistent-net*.rules
rm -rf /var/lib/cloud/* /var/log/cloud-init*.log /run/eniboot /var/lib/eniboot/* /var/lib/cni/*
# Leases, DHCP identities and secrets: of cloud-init's own client (dhcpcd, before that dhclient) and of NetworkManager.
rm -rf /var/lib/dhcpcd/* /var/lib/dhclient/* /var/lib/NetworkManager/* /etc/NetworkManager/system-connections/*
rm -rf /var/lib/amazon/ssm/* /var/log/amazon/* /var/lib/chrony/* /var/lib/lastlog/* /var/lib/logrotate/* /var/lib/dnf/repos \
  /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /var/lib/systemd/timers/* /var/lib/systemd/timesync/* \
  /var/lib/systemd/coredump/*
rm -rf /root/.bash_history /root/.cache /root/.local /root/.config /home/*/.bash_history /root/.ssh /var/tmp/* /etc/ssh/ssh_host_*
rm -f /home/fedora/.ssh/authorized_keys
rm -rf /var/log/journal/*
find /var/log -type f -exec truncate --size 0 {} +
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /etc/hostname
rm -rf /tmp/eniboot /tmp/eniboot-packages.lock /tmp/eniboot-licences.txt
sync
