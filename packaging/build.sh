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
for recipe in packaging/nfpm/*.yaml; do
  for format in deb rpm; do
    bin/nfpm package --config "$recipe" --packager $format --target "$out/" >/dev/null
  done
done
ls "$out"
