#!/bin/sh
# Collects on a node what only a real account and a real Fedora image can show (docs/first-boot.md, which names the rows),
# into one archive. Changes nothing else. Run as root, on a node that has booted:
#   sh first-boot.sh [--list | --output FILE]
# --list names the rows and their commands. Each command gets 60 s and 400 KB; a command that fails or is missing is a row
# too. Exit codes: 0 the archive is written, 1 it is not, 2 wrong usage.
set -u
export LC_ALL=C
export PATH="$PATH:/usr/libexec/eniboot/current"

# NAME, a bar, and the shell command whose output is the evidence.
rows() {
  cat <<'ROWS'
node|eniboot version; uname -rm; cat /etc/os-release; systemctl --version | head -1; nft --version; rpm -q NetworkManager cloud-init cri-o kubelet amazon-ssm-agent
status|eniboot status --json
check|eniboot check --json
image-check|eniboot image check --booted --json
devices|lspci -nn; for d in /sys/class/net/*/device/driver; do echo "$d $(readlink "$d")"; done; ip -d link; nmcli --terse --fields DEVICE,STATE,CONNECTION device
attach-time|journalctl -b -u eniboot -o cat | grep -E '"phase":"(attach|verify)"'
router-arp|for l in /sys/class/net/*; do d=${l##*/}; mac=$(cat "$l/address"); n=http://169.254.169.254/latest/meta-data/network/interfaces/macs/$mac; t=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token); a=$(curl -s -f -H "X-aws-ec2-metadata-token: $t" "$n/local-ipv4s" | head -1) || continue; c=$(curl -s -H "X-aws-ec2-metadata-token: $t" "$n/subnet-ipv4-cidr-block"); net=${c%/*}; router=${net%.*}.$((${net##*.} + 1)); echo "$d $a $c router $router"; arping -D -c 2 -w 4 -I "$d" "$router"; arping -c 2 -w 4 -s "$a" -I "$d" "$router"; done
selinux|getenforce; ls -Z /usr/libexec/eniboot/current/ /opt/cni/bin; ausearch -m avc,user_avc,selinux_err -ts boot
selinux-limits|journalctl -b -t kubelet -t crio | grep -i 'ATTACHMENT_DIFFERS\|bandwidth'; eniboot pods --json
boot-loader|cat /proc/cmdline; grubby --info=DEFAULT; cat /sys/class/tty/console/active
console|dmesg | grep -i 'console'; ls -l /dev/console /dev/ttyS0 /dev/ttyAMA0
oomd|systemctl show -P ActiveState -P UnitFileState systemd-oomd.service systemd-oomd.socket
cold-start|systemd-analyze; systemd-analyze blame | head -40; systemd-analyze critical-chain eniboot.service
units|systemctl --failed; systemd-analyze verify default.target; journalctl -b -p warning _PID=1 -o short-monotonic | tail -200
packages|dnf versionlock list; dnf history list | head; rpm -qa | sort
hygiene|ls -laR /root /var/lib/cloud /var/lib/dhcpcd /var/lib/NetworkManager | head -200
runtime|crictl info; crictl images
ipvlan|lsmod | grep -E 'ipvlan|nf_tables|nft_|ena|veth'; nft list tables; modinfo ipvlan | head -5
public-address|eniboot status --json | grep -o '"publicAddress":"[^"]*"'; ip -4 route get 192.0.2.1
imds|t=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token); for p in mac placement/availability-zone-id tags/instance/ network/interfaces/macs/; do echo "== $p"; curl -s -i -H "X-aws-ec2-metadata-token: $t" http://169.254.169.254/latest/meta-data/$p; echo; done
metrics|cat /var/lib/eniboot/metrics/*.prom
support|eniboot support-bundle --output "$work/support.tar.gz"
ROWS
}

usage() { sed -n '2,8s/^# \{0,1\}//p' "$0"; }

output=
case ${1-} in
  '') ;;
  --list)
    rows
    exit
    ;;
  --output)
    if [ $# != 2 ] || [ -z "$2" ]; then
      usage >&2
      exit 2
    fi
    output=$2
    ;;
  --help)
    usage
    exit
    ;;
  *)
    usage >&2
    exit 2
    ;;
esac

[ "$(id -u)" = 0 ] || { echo 'first-boot.sh: needs root' >&2; exit 1; }
output=${output:-/var/tmp/eniboot-first-boot-$(uname -n)-$(date -u +%Y%m%dT%H%M%SZ).tar.gz}
[ ! -e "$output" ] || { echo "first-boot.sh: $output is there already" >&2; exit 1; }
umask 077
folder=$(mktemp -d) || exit 1
work=$folder/eniboot-first-boot
export work
mkdir "$work"
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM

rows >"$folder/rows"
while IFS='|' read -r name command; do
  # The rest of the line, since a command may contain bars.
  began=$(date +%s)
  timeout --kill-after=5 60 sh -c "$command" >"$folder/said" 2>&1 </dev/null
  code=$?
  {
    printf '$ %s\n' "$command"
    head -c 400000 "$folder/said"
    printf '\nexit %s\n' "$code"
  } >"$work/$name.txt"
  printf '%-16s exit %-3s %3s s\n' "$name" "$code" "$(($(date +%s) - began))"
done <"$folder/rows"

if ! tar -czf "$output.part" -C "$folder" eniboot-first-boot || ! mv "$output.part" "$output"; then
  rm -f "$output.part"
  echo "first-boot.sh: $output could not be written" >&2
  exit 1
fi
echo "$output"
echo 'It holds names, addresses and IDs of your network: look through it before you send it.'
