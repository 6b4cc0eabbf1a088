#!/bin/sh
# Starts a script of this repository on a machine that has nothing but npm: installs the pinned Node and packages
# when they are missing, and the Debian packages the script's tier needs. All its messages go to standard error.
#   test/launch.sh TIER SCRIPT [ARGS]      tier: none, models, check, demo, test or vm (column 2 of test/packages.txt)
set -eu
cd "$(dirname "$0")/.."
tier=$1
shift
# Help needs no package.
for argument; do
  case $argument in --help | --list) tier=none ;; esac
done
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
# shellcheck disable=SC2086 # a list
installed=$(dpkg-query --show --showformat='${Package} ${db:Status-Status}\n' $wanted 2>/dev/null | awk '$2 == "installed" { printf " %s ", $1 }')
missing=''
for package in $wanted; do
  case $installed in *" $package "*) ;; *) missing="$missing $package" ;; esac
done
if [ -n "$missing" ]; then
  if ! command -v apt-get >/dev/null; then
    say "not found (Debian package names):$missing"
    say 'Install what provides them and run this again; continuing, since names differ elsewhere.'
  elif [ "$(id -u)" = 0 ]; then
    say "installing Debian packages:$missing"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    # Another apt may be running: seconds to wait for it.
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
# Some 200 modules without their types, compiled: 0.4 s of processor for each process that loads them.
# Source: nodejs.org/api/module.html, "Module compile cache".
NODE_COMPILE_CACHE=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/eniboot/compiled
export PATH NODE_COMPILE_CACHE
# AWS's models, against which the simulated AWS checks requests. Tests need them; a demonstration runs without.
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
