package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestArchitectureNamesFiles: the walks of ARCHITECTURE.md name files that are
// there, and functions and methods that these files have.
func TestArchitectureNamesFiles(t *testing.T) {
	const root = "../.."
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	file := regexp.MustCompile("`([a-z0-9_/]+\\.go)`((?: (?:and )?[A-Za-z]+,?)*)")
	name := regexp.MustCompile(`^(?:[A-Z][A-Za-z]+|[a-z]+[A-Z][A-Za-z]*|fence|follow|retire|beat)$`)
	n := 0
	for _, m := range file.FindAllStringSubmatch(string(text), -1) {
		n++
		source, err := os.ReadFile(filepath.Join(root, m[1]))
		if err != nil {
			t.Errorf("ARCHITECTURE.md names %s, which is not there", m[1])
			continue
		}
		for word := range strings.FieldsFuncSeq(m[2], func(r rune) bool { return r == ' ' || r == ',' }) {
			if name.MatchString(word) && !regexp.MustCompile(`(?m)^func (\([^)]*\) )?`+word+`[(\[]`).Match(source) {
				t.Errorf("ARCHITECTURE.md says that %s has %s, which it has not", m[1], word)
			}
		}
	}
	if n < 30 {
		t.Errorf("found %d names of files only: the test looks for what they no longer look like", n)
	}
}
