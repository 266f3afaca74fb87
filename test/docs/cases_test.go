package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// namedTests finds "`package` TestA, TestB" in a document.
var namedTests = regexp.MustCompile("`([a-z][a-z0-9_/]*)` (Test[A-Za-z0-9_]+(?:, Test[A-Za-z0-9_]+)*)")

// TestNamedTestsExist looks for each test that docs/failover.md names, and for a
// row of its table of cases that names none.
func TestNamedTestsExist(t *testing.T) {
	text, err := os.ReadFile("../../docs/failover.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range namedTests.FindAllStringSubmatch(string(text), -1) {
		files, err := filepath.Glob("../../" + m[1] + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		var source strings.Builder
		for _, f := range files {
			code, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(code)
		}
		for _, name := range strings.Split(m[2], ", ") {
			if !strings.Contains(source.String(), "\nfunc "+name+"(") {
				t.Errorf("docs/failover.md names %s in %s, where it is not", name, m[1])
			}
		}
	}
	_, cases, ok := strings.Cut(string(text), "\n## Cases\n")
	if !ok {
		t.Fatal("docs/failover.md has no table of cases")
	}
	rows := 0
	for line := range strings.Lines(cases) {
		if strings.HasPrefix(line, "## ") {
			break
		}
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| case ") {
			continue
		}
		rows++
		if !namedTests.MatchString(line) {
			t.Errorf("no test for the case %q", line)
		}
	}
	if rows < 8 {
		t.Errorf("%d cases, want 8 or more", rows)
	}
}
