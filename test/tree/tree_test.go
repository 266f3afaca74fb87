package tree

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestWhatIsBuiltIsLeftAlone: neither go nor Files looks into the folders that are written while
// tests run. A go list that met a guest's /proc in one of them failed.
func TestWhatIsBuiltIsLeftAlone(t *testing.T) {
	const root = "../.."
	if err := os.MkdirAll(filepath.Join(root, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(filepath.Join(root, "out"), "tree-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "a.go"), []byte("package a\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	var found []string
	if err := Files(root, ".go", func(path string, _ []byte) error { found = append(found, path); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(found, "test/tree/tree.go") {
		t.Errorf("this package's source is not among %d files", len(found))
	}
	for _, path := range found {
		if strings.HasPrefix(path, "out/") {
			t.Errorf("Files reads %s", path)
		}
	}

	list := exec.Command("go", "list", "./...")
	list.Dir = root
	packages, err := list.Output()
	if err != nil || !strings.Contains(string(packages), "/test/tree\n") {
		t.Fatalf("go list finds %d bytes: %v", len(packages), err)
	}
	if strings.Contains(string(packages), "tree-test-") {
		t.Errorf("go finds a package in out: go.mod is to ignore it")
	}
}
