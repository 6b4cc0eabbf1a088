#!/bin/sh
# Starts a script of this repository on a machine that has nothing but npm: installs the pinned Node and packages
# when they are missing, and the Debian packages the script's tier needs. Everything said goes to standard error.
#   test/launch.sh TIER SCRIPT [ARGS]      tier: none, models, check, demo, test or vm (column 2 of test/packages.txt)
set -eu
cd "$(dirname "$0")/.."
tier=$1
shift
say() { printf '%s\n' "$*" >&2; }
if [ ! -x node_modules/.bin/node ]; then
  say 'installing npm packages (npm ci)'
  npm ci --no-fund --no-audit --loglevel=error >&2
fi
case $tier in
  none) wanted='' ;;
  models) wanted=$(awk '$1 == "python3-pip" { print $1 }' test/packages.txt) ;;
  check | demo) wanted=$(awk -v tier="$tier" '$2 == tier { print $1 }' test/packages.txt) ;;
  test) wanted=$(awk '$2 == "check" || $2 == "demo" || $2 == "test" { print $1 }' test/packages.txt) ;;
  *) wanted=$(awk '/^[a-z0-9]/ { print $1 }' test/packages.txt) ;;
esac
missing=''
for package in $wanted; do
  dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
if [ -n "$missing" ]; then
  if ! command -v apt-get >/dev/null; then
    say "not found (Debian package names):$missing"
    say 'Install what provides them and run this again; continuing, since names differ elsewhere.'
  elif [ "$(id -u)" = 0 ]; then
    say "installing Debian packages:$missing"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    # Another one may be installing: seconds to wait for it.
    # shellcheck disable=SC2086 # a list
    install() { apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing; }
    install >"$log" 2>&1 || { apt-get update && install; } >"$log" 2>&1 ||
      { cat "$log" >&2; rm -f "$log"; exit 1; }
    rm -f "$log"
  else
    say "These Debian packages are needed:$missing"
    say "As root: apt-get install --no-install-recommends$missing"
    exit 1
  fi
fi
PATH=$PWD/node_modules/.bin:$PATH
export PATH
# By these the simulated AWS refuses what AWS refuses. No test goes without them; a demonstration does.
case $tier in
  none | check) ;;
  demo)
    if ! node test/aws/fetch.ts >/dev/null 2>&1; then
      say "without AWS's models (test/aws/fetch.ts): the simulated AWS takes requests that AWS would refuse"
      ENIBOOT_REQUESTS_UNCHECKED=1
      export ENIBOOT_REQUESTS_UNCHECKED
    fi
    ;;
  *) node test/aws/fetch.ts >/dev/null ;;
esac
exec node "$@"
