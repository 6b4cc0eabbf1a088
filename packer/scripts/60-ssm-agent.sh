#!/bin/bash
# The SSM agent, through which rollouts reach a node. Fedora has no package of it, so AWS's own is installed, at one version,
# with
# the digest that the build names and with AWS's signature.
set -euo pipefail
umask 022
case $ARCH in x86_64) platform=linux_amd64 ;; *) platform=linux_arm64 ;; esac
# Address: Systems Manager user guide, "Manually installing SSM Agent".
case $REGION in cn-*) domain=amazonaws.com.cn ;; *) domain=amazonaws.com ;; esac
url=https://s3.$REGION.$domain/amazon-ssm-$REGION/$SSM_AGENT_VERSION/$platform/amazon-ssm-agent.rpm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
get() {
  curl --fail --silent --show-error --proto '=https' --retry 3 --output "$work/$2" "$1" || {
    echo "ssm agent: cannot get $1: is $SSM_AGENT_VERSION a version that $REGION has?" >&2
    exit 1
  }
}
get "$url" agent.rpm
echo "$SSM_AGENT_SHA256  $work/agent.rpm" | sha256sum --check --quiet - || {
  echo "ssm agent: $url is not the file whose digest ssm_agent names" >&2
  exit 1
}
get "$url.sig" agent.rpm.sig
key=/tmp/eniboot/keys/amazon-ssm-agent.gpg
[ -s "$key" ] || {
  echo "ssm agent: packer/keys/amazon-ssm-agent.gpg is missing; packer/keys/README.md says where it comes from" >&2
  exit 1
}
export GNUPGHOME="$work/gnupg"
install -d -m 0700 "$GNUPGHOME"
gpg --batch --quiet --import "$key"
gpg --batch --status-fd 1 --verify "$work/agent.rpm.sig" "$work/agent.rpm" 2>/dev/null | grep -q "^\[GNUPG:\] VALIDSIG $SSM_AGENT_KEY " || {
  echo "ssm agent: the signature of $url is not by the key $SSM_AGENT_KEY" >&2
  exit 1
}
# Digest and AWS's signature are checked above. The package itself has no signature by a key that RPM knows: from Fedora 45 on,
# RPM
# installs such a package only with this option (fedoraproject.org/wiki/Changes/Enforcing_signature_checking_by_default).
# rpm is used and not dnf, which applies the same rule; and rpm installs no further packages, which no list would have.
rpm --query --quiet "amazon-ssm-agent-$SSM_AGENT_VERSION" || rpm --upgrade --nosignature "$work/agent.rpm" || {
  echo "ssm agent: rpm does not install it; name what it needs in extra_packages" >&2
  exit 1
}
systemctl enable amazon-ssm-agent.service

# Adds it to the list of 20-packages.sh, once, however often this script runs.
list() {
  rpm --query --queryformat "%{NEVRA} $1\n" amazon-ssm-agent >>"$2"
  LC_ALL=C sort --unique --output "$2" "$2"
}
list '%{SHA256HEADER}' /tmp/eniboot-packages.lock
list '%{LICENSE}' /tmp/eniboot-licences.txt
