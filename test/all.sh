#!/bin/bash
# all.sh: every test there is, and a list at the end of what could not run
# and why. With CI=true, what could not run is a failure.
set -uo pipefail
cd "$(dirname "$0")/.."
passed=0 failed=0
results=()
skips=$(mktemp) output=$(mktemp) clock=$(mktemp)
trap 'rm -f "$skips" "$output" "$clock"' EXIT

# used sets seconds to the processor time of what this shell has waited for so far.
used() {
  times > "$clock"
  seconds=$(awk 'NR == 2 { for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); s += 60 * t[1] + t[2] } printf "%d", s }' "$clock")
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

stage() {
  local name=$1 start=$SECONDS seconds before status took
  shift
  used
  before=$seconds
  echo
  echo "==== $name"
  "$@" 2>&1 | tee "$output"
  status=${PIPESTATUS[0]}
  used
  took="$((SECONDS - start)) s, $((seconds - before)) s of processors"
  if [ "$status" = 0 ]; then
    passed=$((passed + 1))
    results+=("passed  $name ($took)")
  else
    failed=$((failed + 1))
    results+=("FAILED  $name ($took)")
    while IFS= read -r line; do
      results+=("        $line")
    done < <(why < "$output")
  fi
}
# unable NAME REASON: a stage that this machine can't run.
unable() {
  results+=("not run $1: $2")
  if [ "${CI:-}" = true ]; then failed=$((failed + 1)); fi
}

# The race detector needs cgo; the programs themselves are built without.
# gotestsum ends with the output of what failed and the reasons of what was
# skipped, and with nothing of the rest. The source check has run vet; without
# DWARF each of the many programs takes a third less time to link. SQLite is translated C
# whose every access the race detector would also check for misuse of unsafe (checkptr).
unit() {
  go -C tools build -o ../bin/gotestsum gotest.tools/gotestsum || return 1
  CGO_ENABLED=1 bin/gotestsum --no-color --format pkgname --format-hide-empty-pkg -- -race -vet=off -ldflags=-w \
    -gcflags=modernc.org/...=-d=checkptr=0 -count=1 -timeout 30m ./... 2>&1 |
    tee >(grep -A1 '^=== SKIP: ' > "$skips")
  return "${PIPESTATUS[0]}"
}
# Allocation counts differ under the race detector: these run without it.
allocations() {
  go test -count=1 -timeout 5m -run 'Alloc' ./bdev/... ./module/... ./nvmf/... ./blobstore/... | grep -v 'no test'
  return "${PIPESTATUS[0]}"
}

stage "set-up" test/setup.sh
stage "source" test/check.sh
if command -v gcc >/dev/null; then
  stage "unit tests, race detector" unit
else
  unable "unit tests, race detector" "no gcc"
fi
stage "allocations" allocations
stage "rounds: snapshot, writes, failover, rollback, comparison; pauses" make --no-print-directory rounds ROUNDS=5
stage "simulation: stories and seeds" go test -count=1 -timeout 15m ./sim
stage "sandbox: a cluster on this machine" make --no-print-directory sandbox
stage "scale: what a change costs in a larger cluster" go test -tags e2e -count=1 -timeout 10m -v -run TestCostOfAChange ./test/scale
if command -v rpm >/dev/null && command -v dpkg-deb >/dev/null && command -v systemd-analyze >/dev/null; then
  stage "packages: deb, rpm, units" bash -c 'make --no-print-directory packages && go test -tags e2e -count=1 -timeout 10m -v -skip "TestInstall$" ./test/packages'
else
  unable "packages: deb, rpm, units" "needs dpkg-deb, rpm and systemd-analyze"
fi
stage "charts: Helm, examples for Kubernetes" make --no-print-directory charts
if command -v chromium >/dev/null && command -v npm >/dev/null; then
  stage "pages in a browser" make --no-print-directory browser
else
  unable "pages in a browser" "needs chromium and npm"
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && command -v qemu-system-x86_64 >/dev/null; then
  stage "tutorial: ten hosts, Linux NVMe/TCP" make --no-print-directory tutorial
  stage "failover: a Linux host's fio through it" make --no-print-directory failover
  stage "csi: volumes on a Linux host" make --no-print-directory csi
  stage "volumes: snapshots, growth and clones on a Linux host" make --no-print-directory volumes
  stage "chaos: a minute of faults, and one on a mirrored array; hung nodes, stalled monitors, snapshots; an upgrade" go test -tags e2e -count=1 -timeout 15m -v -run 'TestLedger|TestLegs|TestChaosShort|TestHung|TestSwitches|TestStalled|TestUpgrade' ./test/chaos
else
  unable "tutorial, failover, chaos: hosts of namespaces, Linux NVMe/TCP" "needs root, Debian and QEMU"
fi

echo
echo "==== summary"
printf '%s\n' "${results[@]}"
if [ -s "$skips" ]; then
  echo "skipped by tests themselves:"
  sed '/^--$/d; s/^ */  /' "$skips"
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
