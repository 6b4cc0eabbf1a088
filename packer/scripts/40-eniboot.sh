#!/bin/bash
# eniboot itself: the bundle and the node files of systemd/ as npm run build packed them, each compared with its digest.
set -euo pipefail
umask 022
# built FILE SHA256 WHAT
built() {
  echo "$2  /tmp/eniboot/$1" | sha256sum --check --quiet - || {
    echo "eniboot: $3 that arrived is not the one that was built (dist/manifest.json)" >&2
    exit 1
  }
}
built bundle.tar.gz "$BUNDLE_SHA256" 'the bundle'
built node-files.tar "$NODE_FILES_SHA256" 'the archive of node files'
home=/usr/libexec/eniboot
install -d -m 0755 "$home/$ENIBOOT_VERSION" /opt/cni/bin
tar --no-same-owner -xzf /tmp/eniboot/bundle.tar.gz -C "$home/$ENIBOOT_VERSION"
# The archive from which it came: a rollout of the same version then counts the node as done.
echo "$BUNDLE_SHA256" >"$home/$ENIBOOT_VERSION/bundle.sha256"
ln -sfn "$ENIBOOT_VERSION" "$home/current"
tar --same-owner -xf /tmp/eniboot/node-files.tar -C / --no-overwrite-dir
for plugin in eniboot eniboot-ipam eniboot-ptp eniboot-policy; do
  ln -sfn ../../../usr/libexec/eniboot/current/eniboot "/opt/cni/bin/$plugin"
done
# The executable must report the version asked for, which also proves that it runs on this CPU.
said=$("$home/current/eniboot" version --json | grep -o '"version": *"[^"]*"' | cut -d '"' -f 4)
[ "$said" = "$ENIBOOT_VERSION" ] || {
  echo "eniboot: the executable says it is $said, and the bundle is $ENIBOOT_VERSION" >&2
  exit 1
}
# Noted now instead of at each boot: kubelet is 80 MB, and the volume of a new instance is cold
# (agent/boot/phases/kubelet/kubelet.ts).
kubelet --version >"$home/kubelet-version"
systemctl daemon-reload
# The preset enables cri-o, which starts at boot, but not kubelet: a READY boot starts it.
mapfile -t units < <(awk '/^(enable|disable) / { print $2 }' /usr/lib/systemd/system-preset/10-eniboot.preset)
systemctl preset "${units[@]}"
