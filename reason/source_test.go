package reason_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// speakers are the packages whose words users read.
var speakers = []string{
	"portal", "syncer", "monitor", "cli", "client", "daemon", "program", "store/dbcli", "store/dbflag", "agent", "agent/dn", "agent/cn",
}

// rawError is an error's own text, made into a string without this package.
var rawError = regexp.MustCompile(`\b\w*[eE]rr\w*\.Error\(\)|Fprint\w*\(.*%v.*, err\)|Fprintln\(.*, err\)`)

// TestSourceHasNoRawErrors: who tells users of an error puts it into words here
// first. A line that may do otherwise says so with "reason:".
func TestSourceHasNoRawErrors(t *testing.T) {
	for _, dir := range speakers {
		files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for line := range strings.Lines(string(src)) {
				n++
				if rawError.MatchString(line) && !strings.Contains(line, "// reason:") {
					t.Errorf("%s:%d: %s", path, n, strings.TrimSpace(line))
				}
			}
		}
	}
}
