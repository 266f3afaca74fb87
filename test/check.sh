#!/bin/bash
# check.sh: what a machine can say of the source. Each check prints its name,
# and what it found when it found something; all run even if one fails.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=0
check() {
  local name=$1 out
  shift
  if out=$("$@" 2>&1); then
    echo "ok    $name"
  else
    echo "FAIL  $name"
    sed 's/^/      /' <<< "$out"
    failed=1
  fi
}

formatted() {
  local files
  files=$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 gofmt -l)
  [ -z "$files" ] || { echo "gofmt would change: $files"; return 1; }
}
static() {
  go -C tools build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck && bin/staticcheck -tags e2e ./...
}
generated() {
  local before after
  before=$(cat api/v1/*.go | sha256sum)
  go generate ./api || return 1
  after=$(cat api/v1/*.go | sha256sum)
  [ "$before" = "$after" ] || { echo "api/v1 was not up to date: run make generate and commit"; return 1; }
}

check "gofmt" formatted
check "go vet" go vet -tags e2e ./...
check "staticcheck" static
check "generated code is up to date" generated
check "go.mod is tidy" go mod tidy -diff
check "shell scripts parse" bash -n test/*.sh test/e2e/guest/*.sh test/e2e/lab/*.sh .ci/run
exit $failed
