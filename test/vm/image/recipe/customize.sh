#!/bin/sh
# Run by mmdebstrap on the unpacked root ($1), with this directory as $2. It leaves out everything that belongs to one
# machine, as an AMI does: host name, machine ID, keys, network profiles.
set -eu
# $1 must not be empty: the script would change this machine.
root=${1:?the unpacked root}
here=${2:?}

: >"$root/etc/machine-id"
rm -f "$root/etc/hostname" "$root/var/lib/dbus/machine-id" "$root/etc/network/interfaces"
# No user can log in: the console is only read, and tests have a channel of their own.
for console in ttyS0 ttyAMA0; do ln -sf /dev/null "$root/etc/systemd/system/serial-getty@$console.service"; done
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
printf '/dev/vda / ext4 defaults,noatime 0 1\n' >"$root/etc/fstab"
cp -a "$here/rootfs/." "$root/"
chown -R 0:0 "$root/etc/cloud" "$root/etc/systemd"

# Disables units that only take time here, and units that need the Internet, which is not reachable.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer \
  e2scrub_reap.service systemd-timesyncd.service man-db.timer; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
# Container engines are installed for the pod suite, which starts them itself; a node has its image's engine.
for unit in containerd.service podman.service podman.socket podman-restart.service podman-auto-update.timer \
  ipvsadm.service; do
  [ ! -e "$root/usr/lib/systemd/system/$unit" ] || systemctl --quiet --root="$root" disable "$unit"
done
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"

# The drivers of the root file system are partly built in, partly modules, and differ between kernels: an initramfs of
# one shell script that loads the modules and switches over takes under a second, the distribution's several under
# emulation.
kernel=$(basename "$(ls -d "$root"/lib/modules/*)")
early="$root/tmp/early"
mkdir -p "$early/bin" "$early/proc" "$early/sys" "$early/dev" "$early/root"
cp "$root/usr/bin/busybox" "$early/bin/"
order=0
for module in virtio_pci virtio_blk ext4; do
  chroot "$root" modprobe --set-version "$kernel" --show-depends "$module"
done | sed -n 's/^insmod //p' | awk '!seen[$0]++' | while read -r path; do
  order=$((order + 1))
  name=$(printf '%02d-%s' "$order" "$(basename "$path")")
  cp "$root$path" "$early/$name"
  case $name in *.xz) xz -d "$early/$name" ;; esac
done
cat >"$early/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in /*.ko; do /bin/busybox insmod "$module"; done
i=0
while [ ! -b /dev/vda ] && [ $i -lt 100 ]; do /bin/busybox usleep 50000; i=$((i + 1)); done
/bin/busybox mount -t ext4 -o rw,noatime /dev/vda /root
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
INIT
chmod 755 "$early/init"
chroot "$root" sh -c 'cd /tmp/early && find . | cpio -o --quiet -H newc --owner 0:0' >"$root/boot/early.cpio"
rm -rf "$early"
rm -f "$root"/boot/initrd.img-* "$root"/boot/System.map-*

# /usr is not newer than files generated from it, as in a finished image. So no first boot generates them again.
touch -r "$root/usr" "$root/etc/.updated" "$root/var/.updated"
ln -sf "vmlinuz-$kernel" "$root/boot/kernel"
