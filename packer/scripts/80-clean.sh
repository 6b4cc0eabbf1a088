#!/bin/bash
# Removes all that belongs to the build's own instance: identities, keys, logs, and state that an instance would use as its own.
# 90-check.sh checks the result.
set -euo pipefail
umask 022
dnf clean all >/dev/null
# gpg's folder, made when it printed keys: it contains the time of that.
rm -rf /root/.gnupg /var/cache/dnf/* /var/cache/libdnf5/*
# systemd-random-seed writes a new seed when it stops: it is stopped now and not with the machine. The journal goes to memory
# from
# here on (--relinquish-var).
systemctl stop systemd-random-seed.service
# The SSM agent would write its data about this instance again.
systemctl stop amazon-ssm-agent.service
# chronyd writes the drift of this machine's clock when it ends (chrony.conf(5), driftfile).
systemctl stop chronyd.service 2>/dev/null || :
journalctl --relinquish-var --quiet
# Files that cloud-init has written for this instance: network and sshd. Source: cloud-init, cloudinit/cmd/clean.py.
rm -f /etc/NetworkManager/conf.d/*cloud-init*.conf /etc/ssh/sshd_config.d/50-cloud-init.conf \
  /etc/udev/rules.d/*persistent-net*.rules
rm -rf /var/lib/cloud/* /var/log/cloud-init*.log /run/eniboot /var/lib/eniboot/* /var/lib/cni/*
# Leases, DHCP identities and secrets of cloud-init's own client (dhcpcd, before that dhclient) and of NetworkManager.
rm -rf /var/lib/dhcpcd/* /var/lib/dhclient/* /var/lib/NetworkManager/* /etc/NetworkManager/system-connections/*
rm -rf /var/lib/amazon/ssm/* /var/log/amazon/* /var/lib/chrony/* /var/lib/lastlog/* /var/lib/logrotate/* /var/lib/dnf/repos \
  /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /var/lib/systemd/timers/* /var/lib/systemd/timesync/* \
  /var/lib/systemd/coredump/*
rm -rf /root/.bash_history /root/.cache /root/.local /root/.config /home/*/.bash_history /root/.ssh /var/tmp/* /etc/ssh/ssh_host_*
rm -f /home/fedora/.ssh/authorized_keys
# skopeo's cache: which registry has which blob (containers/image, pkg/blobinfocache/default.go).
rm -rf /var/lib/containers/cache
rm -rf /var/log/journal/*
find /var/log -type f -exec truncate --size 0 {} +
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /etc/hostname
rm -rf /tmp/eniboot /tmp/eniboot-packages.lock /tmp/eniboot-licences.txt
sync
