#!/bin/bash
# all.sh: every test there is, and a list at the end of what could not run
# and why. With CI=true, what could not run is a failure. Most stages run in lanes,
# beside one another: what a stage in a lane prints comes whole when it has ended.
set -uo pipefail
cd "$(dirname "$0")/.."
# One way of building, which make build has too: nothing is compiled twice but for the race detector.
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:--trimpath}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
skips=$work/skips
: > "$skips"
lane="" order=0 lanes=() names=()

# used sets seconds to the processor time of what this shell has waited for so far.
used() {
  times > "$work/times$lane"
  seconds=$(awk 'NR == 2 { for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); s += 60 * t[1] + t[2] } printf "%d", s }' "$work/times$lane")
}

# why prints of a stage's output what its failing tests say of the reason: the
# verdict at the end of a long test, the begin and the end of what gotestsum shows
# of a unit test, the last lines before go test's "--- FAIL". The end of all of it
# when no test failed, as when something does not compile.
why() {
  awk '
    function flush(  i) {
      for (i = 1; i <= n; i++)
        if (n <= 24 || i <= 12 || i > n - 12) print section[i]
        else if (i == 13) print "…"
      n = 0; inside = 0
    }
    { last[NR % 20] = $0 }
    /^=== FAIL: /            { flush(); inside = 1; found = 1 }
    /^(=== SKIP|=== Skipped|DONE )/ { flush() }
    inside                   { section[++n] = $0; next }
    /why it failed:$/        { verdict = 1; found = 1 }
    verdict                  { print }
    /^--- FAIL: /            { if (!verdict) { for (i = NR - 11; i <= NR; i++) if (i > 0) print last[i % 20] }
                               verdict = 0; found = 1 }
    END                      { flush(); if (!found) for (i = NR - 14; i <= NR; i++) if (i > 0) print last[i % 20] }
  ' | cut -c1-300 | head -80
}

# whole prints text, and a file when one is named, with nothing of another lane's between.
whole() {
  (
    flock 9
    echo "$1"
    [ $# = 1 ] || cat "$2"
  ) 9> "$work/lock"
}
stage() {
  local name=$1 start=$SECONDS output before status took
  shift
  order=$((order + 1))
  output=$work/$order.out
  used
  before=$seconds
  if [ -z "$lane" ]; then
    echo
    echo "==== $name"
    "$@" 2>&1 | tee "$output"
    status=${PIPESTATUS[0]}
  else
    whole "---- begins: $name"
    "$@" > "$output" 2>&1
    status=$?
  fi
  used
  took="$((SECONDS - start)) s, $((seconds - before)) s of processors"
  if [ -n "$lane" ]; then whole "
==== $name ($took)" "$output"; fi
  if [ "$status" = 0 ]; then
    echo "passed  $name ($took)" > "$work/$order.result"
  else
    {
      echo "FAILED  $name ($took)"
      why < "$output" | sed 's/^/        /'
    } > "$work/$order.result"
  fi
}
# unable NAME REASON: a stage that this machine can't run.
unable() {
  order=$((order + 1))
  echo "not run $1: $2" > "$work/$order.result"
}
# beside NAME: runs the stages of the function NAME beside all that comes until together.
# What is urgent in lane guests, hosts with patience of their own, goes before the other lanes.
beside() {
  order=$((order + 100))
  set -m # a group of processes of its own, which can be ended
  (
    set +m
    lane=$1
    [ "$lane" = guests ] || renice -n 5 -p "$BASHPID" > /dev/null
    "$lane"
    exit 0
  ) < /dev/null &
  set +m
  lanes+=($!)
  names+=("$1")
}
together() {
  local i
  order=$((order + 100))
  for i in "${!lanes[@]}"; do
    if ! wait "${lanes[i]}"; then # it was ended, and its stages that were still to come have no result
      order=$((order + 1))
      echo "FAILED  lane ${names[i]}: it ended before its last stage" > "$work/$order.result"
    fi
  done
  lanes=() names=()
  order=$((order + 100))
}
ended() {
  for pid in "${lanes[@]}"; do kill -INT -- "-$pid" 2>/dev/null; done
  wait
  exit 130
}
trap ended INT TERM

# The race detector needs cgo; the programs themselves are built without.
# gotestsum ends with the output of what failed and the reasons of what was
# skipped, and with nothing of the rest. The source check has run vet; without
# DWARF each of the many programs takes a third less time to link. SQLite is translated C
# on memory of its own, which the race detector does not look at but loses time on. (What
# uses sync.Map or the like must stay under it: its copy of that code would do for all.)
unit() {
  local packages
  go -C tools build -o ../bin/gotestsum gotest.tools/gotestsum || return 1
  # Without their names, go test would test the package in this folder alone, and pass.
  packages=$(go list ./... | grep -v '/module/mirror/core$\|/packaging/images$') || return 1
  CGO_ENABLED=1 bin/gotestsum --no-color --format pkgname-and-test-fails --format-hide-empty-pkg -- -race -vet=off -ldflags=-w \
    -gcflags=modernc.org/...=-d=checkptr=0 -gcflags=modernc.org/sqlite/lib=-race=false -count=1 -timeout 30m $packages 2>&1 |
    tee >(grep -A1 '^=== SKIP: ' > "$skips")
  return "${PIPESTATUS[0]}"
}
# Without the race detector: allocation counts, which differ under it, a package that has one
# goroutine, one that compresses all the time, by code of others, and models of which the race
# detector has time for a few seeds.
plain() {
  go test -count=1 -timeout 20m -run 'Alloc|TestQoSInAnyTenSeconds' ./bdev/... ./module/... ./nvmf/... | grep -v 'no test'
  [ "${PIPESTATUS[0]}" = 0 ] || return 1
  go test -count=1 -timeout 20m -run 'TestManyArraysOnOneDeadNode' ./test/controlplane || return 1
  go test -count=1 -timeout 20m ./module/mirror/core ./packaging/images ./blobstore/...
}
# made TARGET: make of what the stage "programs" has built.
made() { make --no-print-directory -o build -o dist "$@"; }

# The lanes.
units() {
  if command -v gcc >/dev/null; then
    stage "unit tests, race detector" unit
  else
    unable "unit tests, race detector" "no gcc"
  fi
}
others() {
  if command -v rpm >/dev/null && command -v dpkg-deb >/dev/null && command -v systemd-analyze >/dev/null; then
    stage "packages: deb, rpm, units" bash -c 'make --no-print-directory -o build packages && go test -tags e2e -count=1 -timeout 20m -v -skip "TestInstall$" ./test/packages'
  else
    unable "packages: deb, rpm, units" "needs dpkg-deb, rpm and systemd-analyze"
  fi
  stage "charts: Helm, examples for Kubernetes" made charts
  stage "sandbox: a cluster on this machine" made sandbox
  if command -v chromium >/dev/null && command -v npm >/dev/null; then
    stage "pages in a browser" made browser
  else
    unable "pages in a browser" "needs chromium and npm"
  fi
  stage "without the race detector: allocations, models" plain
  stage "simulation: stories and seeds" go test -count=1 -timeout 25m ./sim
}
guests() {
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && command -v qemu-system-x86_64 >/dev/null; then
    stage "tutorial: ten hosts, Linux NVMe/TCP" made tutorial
    stage "failover: a Linux host's fio through it" made failover
    stage "csi: volumes on a Linux host" made csi
    stage "volumes: snapshots, growth and clones on a Linux host" made volumes
    stage "chaos: a minute of faults, and one on a mirrored array; hung nodes, stalled monitors, snapshots; an upgrade" go test -tags e2e -count=1 -timeout 20m -v -run 'TestLedger|TestLegs|TestChaosShort|TestHung|TestSwitches|TestStalled|TestUpgrade' ./test/chaos
  else
    unable "tutorial, failover, chaos: hosts of namespaces, Linux NVMe/TCP" "needs root, Debian and QEMU"
  fi
}

stage "set-up" test/setup.sh
stage "source" test/check.sh
stage "programs" make --no-print-directory dist
# On their own, as they print figures.
stage "rounds: snapshot, writes, failover, rollback, comparison; pauses" make --no-print-directory rounds ROUNDS=5
stage "scale: what a change costs in a larger cluster" go test -tags e2e -count=1 -timeout 20m -v -run TestCostOfAChange ./test/scale
beside guests
beside units
beside others
together

echo
echo "==== summary"
results=()
for n in $(seq "$order"); do
  if [ -e "$work/$n.result" ]; then results+=("$work/$n.result"); fi
done
cat "${results[@]}"
if [ -s "$skips" ]; then
  echo "skipped by tests themselves:"
  sed '/^--$/d; s/^ */  /' "$skips"
fi
passed=$(grep -c '^passed ' < <(cat "${results[@]}"))
failed=$(grep -c "^FAILED $([ "${CI:-}" = true ] && echo '\|^not run ')" < <(cat "${results[@]}"))
echo "$passed passed, $failed failed in $((SECONDS / 60)) min"
[ "$failed" = 0 ]
