#!/bin/bash
# Packages: cri-o and kubelet from their own repositories at exact versions, the rest from Fedora. Signatures of packages
# and of repositories are checked, by keys whose fingerprints the build knows. With a lock, every package of the image is
# the package that the lock names, down to the digest of its header.
set -euo pipefail
umask 022

# Installs only missing packages: dnf5 upgrades a package that is installed and asked for (rpm-software-management/dnf5 #1747;
# since
# `best` is the default, doc/changes_from_dnf4.7.rst). Weak dependencies would bring packages that the image does not need.
install() {
  local name missing=() present
  present=$(rpm -qa --queryformat '%{NAME}\n%{NAME}.%{ARCH}\n%{NAME}-%{VERSION}\n%{NAME}-%{VERSION}-%{RELEASE}\n%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\n%{NEVRA}\n')
  for name in "$@"; do
    grep -Fxq -e "$name" <<<"$present" || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] || dnf --assumeyes --setopt=install_weak_deps=False install "${missing[@]}"
}
# builds: name and CPU, then version, of all installed packages.
builds() { rpm -qa --queryformat '%{NAME}.%{ARCH} %{VERSION}-%{RELEASE}\n' | LC_ALL=C sort; }
base=$(builds)
# The SSM agent is in no repository; 60-ssm-agent.sh installs it by its own pins and adds it to both lists.
lock=/tmp/eniboot/packages.lock
[ ! -e "$lock" ] || sed -i '/^amazon-ssm-agent-/d' "$lock"
mapfile -t locked < <([ ! -s "$lock" ] || cut -d ' ' -f 1 "$lock")
# Fedora's repository `updates` has only the newest build of each package, while a lock names older ones. updates-archive has
# all
# builds. The file is that of fedora-repos-archive (src.fedoraproject.org/rpms/fedora-repos, fedora-updates-archive.repo). That
# package is not installed, since its build in the lock may itself be only in the archive. The file is removed when this script
# ends.
archive=/etc/yum.repos.d/eniboot-updates-archive.repo
if [ ${#locked[@]} != 0 ]; then
  trap 'rm -f "$archive"' EXIT
  cat >"$archive" <<REPO
[updates-archive]
name=Fedora $FEDORA_VERSION updates, all builds
baseurl=https://fedoraproject-updates-archive.fedoraproject.org/fedora/$FEDORA_VERSION/\$basearch/
enabled=1
gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-$FEDORA_VERSION-\$basearch
skip_if_unavailable=1
# Asked last: its mirror is one machine. The default is 1000.
cost=10000
REPO
fi
# Tools that these scripts run: since Fedora 43 no package of a cloud image requires gpg. With a lock, all of Fedora's packages
# are installed here, as the lock names them. The other repositories are added later, after gpg has checked their keys.
if [ ${#locked[@]} != 0 ]; then
  mapfile -t fedora < <(printf '%s\n' "${locked[@]}" | grep -Ev '^(kubelet|kubeadm|kubectl|kubernetes-cni|cri-o|cri-tools)-[0-9]')
  install "${fedora[@]}"
fi
for tool in gpg:gnupg2 tar:tar; do
  if command -v "${tool%:*}" >/dev/null; then continue; fi
  if [ ${#locked[@]} != 0 ]; then
    echo "packages: packages_lock has no ${tool#*:}, which this build needs; build without it to make a new one" >&2
    exit 1
  fi
  install "${tool#*:}"
done

# trust NAME URL FINGERPRINT: installs the key at URL if it has that fingerprint and is the only key there.
trust() {
  local key=/etc/pki/rpm-gpg/RPM-GPG-KEY-$1 found
  curl --fail --silent --show-error --location --proto '=https' --retry 3 --output "$key" "$2" || {
    echo "packages: cannot get $2" >&2
    exit 1
  }
  # A file that is no key has no fingerprint.
  found=$(gpg --batch --quiet --show-keys --with-colons "$key" | awk -F: '$1 == "pub" { want = 1 } $1 == "fpr" && want { print $10; want = 0 }') || :
  if [ "$found" != "$3" ]; then
    rm -f "$key"
    echo "packages: the key at $2 has the fingerprint ${found:-none}, and key_fingerprints asks for $3" >&2
    exit 1
  fi
}

# repository NAME URL: signed; packages of it are installed only when they are asked for by name.
repository() {
  cat >"/etc/yum.repos.d/$1.repo" <<REPO
[$1]
name=$1
baseurl=$2
enabled=1
gpgcheck=1
repo_gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-$1
REPO
}

# Addresses: kubernetes.io, "Installing kubeadm", and github.com/cri-o/packaging.
kubernetes=https://pkgs.k8s.io/core:/stable:/v$KUBERNETES_MINOR/rpm/
crio=https://download.opensuse.org/repositories/isv:/cri-o:/stable:/v${CRIO_VERSION%.*}/rpm/
if [ "${CRIO_VERSION%.*}" != "$KUBERNETES_MINOR" ]; then
  echo "packages: cri-o $CRIO_VERSION is not of the minor of kubelet $KUBERNETES_VERSION" >&2
  exit 1
fi
trust kubernetes "${kubernetes}repodata/repomd.xml.key" "$KUBERNETES_KEY"
trust crio "${crio}repodata/repomd.xml.key" "$CRIO_KEY"
repository kubernetes "$kubernetes"
repository crio "$crio"

# Programs that the agent, the units and an operator on the node run. iproute-tc: bandwidth limits.
needed=(nftables iproute iproute-tc ethtool conntrack-tools container-selinux
  policycoreutils-python-utils skopeo NetworkManager audit chrony)
# shellcheck disable=SC2086 # a list of names
read -ra extra <<<"$EXTRA_PACKAGES"
if [ ${#locked[@]} != 0 ]; then
  install "${locked[@]}"
else
  install "${needed[@]}" "${extra[@]}" "kubelet-$KUBERNETES_VERSION" "cri-o-$CRIO_VERSION" cri-tools
fi
# Fedora swaps to compressed memory by default; kubelet's accounting does not include it.
for package in zram-generator-defaults zram-generator; do
  if rpm --query --quiet "$package"; then dnf --assumeyes remove "$package"; fi
done
# A new package may require a newer build of an installed one. The list has it; this prints it.
upgraded=$(LC_ALL=C join <(echo "$base") <(builds) | awk '$2 != $3 { print "  " $1 " " $2 " -> " $3 }')
[ -z "$upgraded" ] || printf 'packages: of the base image these are now other builds, since a package that was installed requires it:\n%s\n' "$upgraded"

# A node that updates itself would no longer be this image.
for unit in dnf{,5}-automatic.timer dnf{,5}-makecache.timer; do systemctl mask "$unit"; done
# Running nodes install nothing from these repositories unless an operator enables them. Even then the locked versions stay,
# also
# when Fedora itself offers packages of the same names. Form: dnf5-versionlock(8).
sed -i 's/^enabled=1/enabled=0/' /etc/yum.repos.d/kubernetes.repo /etc/yum.repos.d/crio.repo
{
  echo 'version = "1.0"'
  for name in kubelet cri-o cri-tools; do
    evr=$(rpm --query --queryformat '%{EPOCHNUM}:%{VERSION}-%{RELEASE}' "$name")
    printf '\n[[packages]]\nname = "%s"\n[[packages.conditions]]\nkey = "evr"\ncomparator = "="\nvalue = "%s"\n' "$name" "$evr"
  done
} >/etc/dnf/versionlock.toml

# The list is the record of this build (out/packages-ARCH.lock), and the lock of the next. gpg-pubkey entries are keys.
listed() { rpm -qa --queryformat "%{NEVRA} $1\n" | grep -v -e '^gpg-pubkey' -e '^amazon-ssm-agent-' | LC_ALL=C sort; }
listed '%{SHA256HEADER}' >/tmp/eniboot-packages.lock
listed '%{LICENSE}' >/tmp/eniboot-licences.txt
chmod 0644 /tmp/eniboot-packages.lock /tmp/eniboot-licences.txt
difference=$([ ! -s "$lock" ] || LC_ALL=C sort "$lock" | LC_ALL=C comm -3 - /tmp/eniboot-packages.lock)
if [ -n "$difference" ]; then
  echo "packages: these differ from packages_lock (locked, and indented installed); build without it to make a new one:" >&2
  echo "$difference" | head -n 40 >&2
  exit 1
fi
