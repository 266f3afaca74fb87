package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/test/tree"
)

// namedTests finds "`package` TestA, TestB" in a document; `vda` is the root.
var namedTests = regexp.MustCompile("`([a-z][a-z0-9_/]*)` (Test[A-Za-z0-9_]+(?:, Test[A-Za-z0-9_]+)*)")

// named fails the test for each test that a document names and that is not there.
func named(t *testing.T, page string) (text string) {
	raw, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range namedTests.FindAllStringSubmatch(string(raw), -1) {
		dir := m[1]
		if dir == "vda" {
			dir = "."
		}
		files, err := filepath.Glob("../../" + dir + "/*_test.go")
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

// TestVolumesNameTests: each section of docs/volumes.md names tests, and all that it names are there.
func TestVolumesNameTests(t *testing.T) {
	for _, section := range strings.Split(named(t, "volumes.md"), "\n## ")[1:] {
		if title, text, _ := strings.Cut(section, "\n"); !namedTests.MatchString(text) {
			t.Errorf("docs/volumes.md: %q names no test", title)
		}
	}
}

// TestMirrorsNameTests: the tests that docs/mirror.md names are there, in the package that it names, if it does.
func TestMirrorsNameTests(t *testing.T) {
	wanted := map[string]bool{}
	for _, name := range regexp.MustCompile(`\bTest[A-Z][A-Za-z0-9]*`).FindAllString(named(t, "mirror.md"), -1) {
		wanted[name] = true
	}
	if len(wanted) < 20 {
		t.Errorf("found %d names of tests only", len(wanted))
	}
	there := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
	if err := tree.Files("../..", "_test.go", func(_ string, code []byte) error {
		for _, m := range there.FindAllSubmatch(code, -1) {
			delete(wanted, string(m[1]))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for name := range wanted {
		t.Errorf("docs/mirror.md names %s, which is nowhere", name)
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
