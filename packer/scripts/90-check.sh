#!/bin/bash
# Checks whether the machine is fit to be an image: eniboot's own check, after all other scripts. The report is downloaded even
# when the check fails; the template then fails the build.
set -euo pipefail
umask 022
report=/run/eniboot-check.json
# EXTRA_FILES has patterns that the shell must not expand.
set -f
allowed=()
for path in $EXTRA_FILES; do allowed+=(--allow "$path"); done
# Exit code 1: the machine is not fit; or the check could not run, and then there is no report.
/usr/libexec/eniboot/current/eniboot image check --report "$report" \
  --expect "kubelet=$KUBERNETES_VERSION" --expect "cri-o=$CRIO_VERSION" "${allowed[@]}" || [ $? = 1 ]
chmod 0644 "$report"
