#!/bin/bash
# setup.sh: installs from Debian's packages what the tests need beyond Go and
# gcc. Does nothing where it is all there, and says what is missing where it
# may not install (no root, no apt-get, or VDA_NO_INSTALL=1).
set -euo pipefail

# program, package that has it
needed="
qemu-system-x86_64 qemu-system-x86
zstd zstd
lz4 lz4
xz xz-utils
cpio cpio
depmod kmod
strip binutils
ip iproute2
nft nftables
python3 python3-minimal
curl curl
promtool prometheus
chromium chromium
rpm rpm
systemd-analyze systemd
mmdebstrap mmdebstrap
systemd-nspawn systemd-container
gcc gcc
/usr/sbin/mkfs.xfs xfsprogs
pg_ctlcluster postgresql
/usr/sbin/mariadbd mariadb-server
"
missing=()
while read -r program package; do
  [ -n "$program" ] || continue
  command -v "$program" >/dev/null || missing+=("$package")
done <<< "$needed"
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || [ -n "${VDA_NO_INSTALL:-}" ]; then
  echo "not installed, so some tests can't run: ${missing[*]}"
  exit 0
fi
echo "installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# An installation that was cut off is ended first.
if ! { DEBIAN_FRONTEND=noninteractive dpkg --configure -a && apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}"; } > "$log" 2>&1; then
  tail -20 "$log" >&2
  exit 1
fi
