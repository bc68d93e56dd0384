#!/bin/sh
# install.sh [PACKAGE...]: installs the Debian packages that are missing; without
# arguments those of debian-packages.txt. Needs root only if some are missing.
set -eu

list=$(dirname "$0")/../debian-packages.txt
if [ $# = 0 ]; then
    # shellcheck disable=SC2046  # one word a package
    set -- $(sed 's/#.*//' "$list")
fi

missing=
for package in "$@"; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || state=none
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing:$missing; as root run: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

# Debian starts what it installs, on the default ports; this keeps it from that.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi

install() {
    # shellcheck disable=SC2086  # one word a package
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        -o DPkg::Lock::Timeout=120 $missing </dev/null
}
echo "installing$missing ..."
if ! install; then
    echo "updating the package lists, then trying again ..."
    apt-get update -q -o DPkg::Lock::Timeout=120
    install || {
        echo "apt-get could not install$missing; its last lines above say why" >&2
        exit 1
    }
fi
