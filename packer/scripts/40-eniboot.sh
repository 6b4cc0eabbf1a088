#!/bin/bash
# eniboot itself: the bundle of npm run build, checked against its digest, and the node files of systemd/.
set -euo pipefail
echo "$BUNDLE_SHA256  /tmp/eniboot/bundle.tar.gz" | sha256sum --check --quiet - || {
  echo "eniboot: the bundle that arrived is not the one that was built (dist/manifest.json)" >&2
  exit 1
}
home=/usr/libexec/eniboot
install -d -m 0755 "$home/$ENIBOOT_VERSION" /opt/cni/bin
tar --no-same-owner -xzf /tmp/eniboot/bundle.tar.gz -C "$home/$ENIBOOT_VERSION"
# Which archive it came from: a rollout of this very version then finds the node done.
echo "$BUNDLE_SHA256" >"$home/$ENIBOOT_VERSION/bundle.sha256"
ln -sfn "$ENIBOOT_VERSION" "$home/current"
tar --same-owner -xf /tmp/eniboot/node-files.tar -C / --no-overwrite-dir
for plugin in eniboot eniboot-ipam eniboot-ptp; do
  ln -sfn ../../../usr/libexec/eniboot/current/eniboot "/opt/cni/bin/$plugin"
done
# What the executable says of itself is what was asked for: also the proof that it runs on this CPU.
said=$("$home/current/eniboot" version --json | grep -o '"version": *"[^"]*"' | cut -d '"' -f 4)
[ "$said" = "$ENIBOOT_VERSION" ] || {
  echo "eniboot: the executable says it is $said, and the bundle is $ENIBOOT_VERSION" >&2
  exit 1
}
systemctl daemon-reload
systemctl preset eniboot.service eniboot-readahead.service eniboot-repair.timer eniboot-refill.timer \
  eniboot-refill.path eniboot-collect.timer kubelet.service
# kubelet is started by the boot that is READY, never by itself.
systemctl disable kubelet.service 2>/dev/null || :
