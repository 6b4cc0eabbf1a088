#!/bin/bash
# The pause image, so that the first pod waits for no registry. By its digest, into the store that cri-o reads.
set -euo pipefail
umask 022
name=${PAUSE_IMAGE%@*}
skopeo copy --retry-times 3 "docker://${name%:*}@${PAUSE_IMAGE#*@}" "containers-storage:$name"
skopeo inspect "containers-storage:$name" >/dev/null || {
  echo "pause image: $name was copied, and is not in cri-o's store" >&2
  exit 1
}
# As cri-o would have labelled it: containers may not run what is labelled otherwise.
restorecon -R /var/lib/containers
install -d -m 0755 /etc/crio/crio.conf.d
# kubelet asks the runtime to keep it, and the runtime asks for it by this name.
printf '[crio.image]\npause_image = "%s"\n' "$name" >/etc/crio/crio.conf.d/20-pause.conf
