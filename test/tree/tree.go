// Package tree reads the repository's own files, for tests of rules that all of it keeps.
package tree

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// built are folders of the root that make and tests write while other tests run: what is found in
// them may be gone before it is read, and may be a whole machine's files, /proc among them.
var built = []string{".git", "bin", "out"}

// Files calls f with each file below the repository's root, a path, whose name ends in suffix:
// its path with slashes, relative to the root, and its text. The first error ends it.
func Files(root, suffix string, f func(path string, text []byte) error) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && slices.Contains(built, rel):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, suffix):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return f(filepath.ToSlash(rel), text)
	})
}
