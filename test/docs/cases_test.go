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

// named fails the test for each test that a document names and that is not there.
func named(t *testing.T, page string) (text string) {
	raw, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range namedTests.FindAllStringSubmatch(string(raw), -1) {
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
				t.Errorf("docs/%s names %s in %s, where it is not", page, name, m[1])
			}
		}
	}
	return string(raw)
}

// TestThreatsHaveTests: each row of docs/security.md's table of threats names a test that there is.
func TestThreatsHaveTests(t *testing.T) {
	_, threats, ok := strings.Cut(named(t, "security.md"), "\n| from | tries |")
	if !ok {
		t.Fatal("docs/security.md has no table of threats")
	}
	rows := 0
	for _, line := range strings.Split(threats, "\n")[2:] {
		if !strings.HasPrefix(line, "| ") {
			break
		}
		if rows++; !namedTests.MatchString(line) {
			t.Errorf("no test for the threat %q", line)
		}
	}
	if rows < 10 {
		t.Errorf("%d threats, want 10 or more", rows)
	}
}

// TestNamedTestsExist looks for each test that docs/failover.md names, and for a
// row of its table of cases that names none.
func TestNamedTestsExist(t *testing.T) {
	text := named(t, "failover.md")
	_, cases, ok := strings.Cut(text, "\n## Cases\n")
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
