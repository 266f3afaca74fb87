package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestArchitectureNamesFiles: the walks of ARCHITECTURE.md name files that are
// there, and functions, methods and types that these files have.
func TestArchitectureNamesFiles(t *testing.T) {
	const root = "../.."
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	file := regexp.MustCompile("`([a-z0-9_/]+\\.go)`((?: (?:and )?[A-Za-z]+,?)*)")
	name := regexp.MustCompile(`^(?:[A-Z][A-Za-z]+|[a-z]+[A-Z][A-Za-z]*|fence|follow|retire|beat)$`)
	n, folder := 0, ""
	for _, m := range file.FindAllStringSubmatch(string(text), -1) {
		n++
		path := m[1] // without a folder: in that of the file before it
		if dir := filepath.Dir(path); dir != "." {
			folder = dir
		}
		source, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			source, err = os.ReadFile(filepath.Join(root, folder, path))
		}
		if err != nil {
			t.Errorf("ARCHITECTURE.md names %s, which is not there, nor in %s", path, folder)
			continue
		}
		for word := range strings.FieldsFuncSeq(m[2], func(r rune) bool { return r == ' ' || r == ',' }) {
			if name.MatchString(word) && !regexp.MustCompile(`(?m)^(func (\([^)]*\) )?`+word+`[(\[]|type `+word+` )`).Match(source) {
				t.Errorf("ARCHITECTURE.md says that %s has %s, which it has not", path, word)
			}
		}
	}
	if n < 30 {
		t.Errorf("found %d names of files only: the test looks for what they no longer look like", n)
	}
}
