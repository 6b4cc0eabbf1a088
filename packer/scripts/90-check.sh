#!/bin/bash
# Whether what is left is fit to be an image: eniboot's own check, after everything else. Its report leaves the machine
# also when it says no; the template then fails the build.
set -euo pipefail
umask 022
report=/run/eniboot-check.json
# Paths, which the shell is not to look up.
set -f
allowed=()
for path in $EXTRA_FILES; do allowed+=(--allow "$path"); done
# 1: it is not fit, or could not look, and then there is no report.
/usr/libexec/eniboot/current/eniboot image check --report "$report" \
  --expect "kubelet=$KUBERNETES_VERSION" --expect "cri-o=$CRIO_VERSION" "${allowed[@]}" || [ $? = 1 ]
chmod 0644 "$report"
