#!/bin/bash
# build.sh OUT: a deb and an rpm of each package into OUT. The programs are in bin/.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
version=${VERSION:-devel}
export VERSION=${version#v} ARCH=${ARCH:-$(go env GOARCH)}
# What is not a release counts as older than all of them.
[[ $VERSION =~ ^[0-9] ]] || VERSION=0.0.0~$VERSION
go -C tools build -o ../bin/nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm
rm -rf "$out"
mkdir -p "$out"
# Each program prints its own man page: users' programs are in section 1, the others in 8.
mkdir -p bin/man
for program in $(grep -ho 'src: bin/vda_[a-z_]*' packaging/nfpm/*.yaml | cut -d/ -f2 | sort -u); do
  section=8
  case $program in vda_cli | vda_rpc) section=1 ;; esac
  bin/"$program" man-page | gzip -9n > bin/man/"$program".$section.gz
done
for recipe in packaging/nfpm/*.yaml; do
  for format in deb rpm; do
    bin/nfpm package --config "$recipe" --packager $format --target "$out/" >/dev/null
  done
done
ls "$out"
