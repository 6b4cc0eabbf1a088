#!/bin/bash
# The pause image, so that the first pod need not wait for a registry: by its digest, in the store that cri-o reads.
set -euo pipefail
umask 022
name=${PAUSE_IMAGE%@*}
skopeo copy --retry-times 3 "docker://${name%:*}@${PAUSE_IMAGE#*@}" "containers-storage:$name"
skopeo inspect "containers-storage:$name" >/dev/null || {
  echo "pause image: $name was copied, and is not in cri-o's store" >&2
  exit 1
}
# The label that cri-o would give it: containers may not run files with another label.
restorecon -R /var/lib/containers
install -d -m 0755 /etc/crio/crio.conf.d
# kubelet tells the runtime to keep this image, and the runtime uses it by this name.
printf '[crio.image]\npause_image = "%s"\n' "$name" >/etc/crio/crio.conf.d/20-pause.conf
