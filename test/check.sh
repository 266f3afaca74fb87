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
  before=$(cat api/v1/*.go api/gateway/v1/*.go docs/openapi.swagger.json | sha256sum)
  go generate ./api || return 1
  after=$(cat api/v1/*.go api/gateway/v1/*.go docs/openapi.swagger.json | sha256sum)
  [ "$before" = "$after" ] || { echo "api or docs/openapi.swagger.json was not up to date: run make generate and commit"; return 1; }
}

# A line with a raw string may be as long as that.
widths() {
  git ls-files -z --cached --others --exclude-standard '*.go' ':!*.pb.go' ':!*.pb.gw.go' |
    xargs -0 awk 'length > 140 && !/`/ { print FILENAME ":" FNR ": " length " columns; 140 are the most"; bad = 1 } END { exit bad }'
}
# What a native engineer would not write, and what to write instead.
english() {
  local bad=0 line
  while read -r line; do
    git grep -nP --untracked "${line%% => *}" -- '*.go' '*.md' ':!*.pb.go' ':!*.pb.gw.go'
    case $? in
      0) echo "  ^ write: ${line##* => }"; bad=1 ;;
      1) ;;
      *) bad=1 ;; # git does not take the pattern, and has said so
    esac
  done <<'RULES'
(?<!")\banew\b(?!\() => again, or re- before the verb
\b[Ww]hoever\b => anyone who, or name who it is
(?<=// )Who [a-z]+ => name the subject: the caller that, an exporter that
\bis none of\b => is not one of
\bper each\b => per, or each
\bbears?\b => tolerate, survive, allow
\b(MiB|KiB|bytes|IOPS|requests|writer) a (second|vd|command|node|pass)\b => per
(?<!there )\bis no (address|agent|id|UUID|NQN|error|orphan|socket|port|path|bdev|number|name|JSON|listener|program)\b => is not a
\bhas to be (%|above|at (least|most)) => must be
RULES
  return $bad
}

check "gofmt" formatted
check "lines of at most 140 columns" widths
check "English" english
check "go vet" go vet -tags e2e ./...
check "staticcheck" static
check "generated code is up to date" generated
check "go.mod is tidy" go mod tidy -diff
check "shell scripts parse" bash -n test/*.sh packaging/*.sh packaging/scripts/*.sh test/e2e/guest/*.sh test/e2e/lab/*.sh .ci/run
exit $failed
