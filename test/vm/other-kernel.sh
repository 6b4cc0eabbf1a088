#!/bin/sh
# Process 1 of a machine that has this machine's files and another kernel; started by test/vm/other-kernel.ts. All that it
# writes stays in memory, but for the folder of results.
#   other-kernel.sh FOLDER      with the files modules/, command and the results in FOLDER
set -u
folder=$1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
mkdir /mnt/written /mnt/work /mnt/root
# The kernel asks for modules by modprobe, which looks below /lib: that is writable only behind the overlay.
for module in "$folder"/modules/*/kernel/fs/overlayfs/overlay.ko*; do
  case $module in
    *.xz) xz -dc "$module" >/mnt/overlay.ko ;;
    *) cat "$module" >/mnt/overlay.ko ;;
  esac
done
insmod /mnt/overlay.ko
mount -t overlay -o lowerdir=/,upperdir=/mnt/written,workdir=/mnt/work overlay /mnt/root
cd /mnt/root || exit
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t devtmpfs dev dev
mkdir -p dev/pts dev/shm lib/modules
mount -t devpts devpts dev/pts
for path in dev/shm run tmp; do mount -t tmpfs tmpfs $path; done
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p ".$folder"
mount -t virtiofs results ".$folder"
ln -sfn "$folder"/modules/* lib/modules/
ip link set lo up
mkdir -p old
# Not chroot: the kernel itself, which starts modprobe, must see this root too.
pivot_root . old
cd /
sh "$folder/command"
echo $? >"$folder/exit-code"
poweroff -f
