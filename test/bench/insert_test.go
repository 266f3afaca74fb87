package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A part that is measured again takes the place of what it said before, a new
// one comes last, and the text around stays.
func TestInsert(t *testing.T) {
	const begin, end = "<!-- measured: make bench writes this part -->\n", "<!-- end of the measured part -->"
	path := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(path, []byte("text\n"+begin+end+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range [][2]string{{"A", "one\n"}, {"B", "two\n"}, {"A", "three\n"}, {"B", "four\n"}} {
		if err := insert(path, s[0], s[1]); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "text\n" + begin + "## A\n\nthree\n\n## B\n\nfour\n\n" + end + "\nafter\n"; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := insert(path, "A", "x"); err == nil {
		t.Error("a document without marks is accepted")
	}
}
