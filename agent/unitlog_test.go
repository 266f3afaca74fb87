package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/support"
)

// fakeJournalctl puts a program called journalctl on the path, and returns the file that it writes its
// arguments to.
func fakeJournalctl(t *testing.T, script string) (asked string) {
	t.Helper()
	dir := t.TempDir()
	asked = filepath.Join(dir, "asked")
	text := fmt.Sprintf("#!/bin/sh\necho \"$*\" > %s\n%s\n", asked, script)
	if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	return asked
}

// TestUnitLog: the log of a data plane that does not give it away is the end of its unit's journal,
// without secrets, bounded, and with words for why there is none.
func TestUnitLog(t *testing.T) {
	n := &Node{Cfg: Config{PlaneUnit: "vda-cn-tgt.service"}}
	log := func() support.File { return n.planeLog(t.Context(), []string{"spdk_get_version"}, time.Minute) }

	asked := fakeJournalctl(t, `echo "2026-11-30T09:00:00+0000 cn0 spdk_tgt[7]: token=abcdefgh then all is well"`)
	f := log()
	if text := string(f.Content); f.Name != "data_plane/log.txt" || !strings.Contains(text, "spdk_tgt[7]: token=REDACTED then all is well") ||
		strings.Contains(text, "abcdefgh") {
		t.Errorf("%s: %s", f.Name, f.Content)
	}
	b, err := os.ReadFile(asked)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Fields(string(b)), strings.Fields("--no-pager --quiet --output short-iso --unit vda-cn-tgt.service "+
		"--since -86400s --lines 20000"); !slices.Equal(got, want) {
		t.Errorf("journalctl %v, want %v", got, want)
	}

	// 12 MiB of lines: the last of them are there, the first that is shown is whole.
	fakeJournalctl(t, fmt.Sprintf("yes %s | head -c 12582912; echo the end", strings.Repeat("x", 127)))
	f = log()
	if text := string(f.Content); len(text) > support.MaxFile+100 || !strings.HasSuffix(text, "x\nthe end\n") ||
		!strings.Contains(text[:100], "bytes before this are left out") {
		t.Errorf("%d bytes, from %.100s to %s", len(text), text, text[len(text)-20:])
	}

	for script, want := range map[string]string{
		"echo 'Failed to get journal access: Permission denied' >&2; exit 1": "journalctl: Failed to get journal access: Permission denied",
		"exit 3": "journalctl has failed and does not say why",
		"true":   "the agent's user is not of the group systemd-journal",
	} {
		fakeJournalctl(t, script)
		f := log()
		if f.Name != "data_plane/log.txt.error" || !strings.Contains(string(f.Content), want) ||
			!strings.Contains(string(f.Content), "vda-cn-tgt.service") || strings.Contains(string(f.Content), "exit status") {
			t.Errorf("%q: %s: %s", script, f.Name, f.Content)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if f := log(); !strings.Contains(string(f.Content), "journalctl is not on this machine") {
		t.Errorf("%s: %s", f.Name, f.Content)
	}
	fakeJournalctl(t, "sleep 600 & sleep 600")
	if _, err := unitLog(context.Background(), "u.service", 200*time.Millisecond); err == nil || !strings.Contains(err.Error(),
		"journalctl did not end in time, 200ms") {
		t.Errorf("%v", err)
	}
	// Without a unit it is said where the log may be, and how to have it.
	n.Cfg.PlaneUnit = ""
	if f := log(); !strings.Contains(string(f.Content), "--data-plane-unit") {
		t.Errorf("%s: %s", f.Name, f.Content)
	}
}

// TestPlaneUnit: what cannot be a unit, such as a flag of journalctl, is refused with what would be right.
func TestPlaneUnit(t *testing.T) {
	for unit, good := range map[string]bool{"": true, "vda-dn-tgt.service": true, `a\x2d@b.service`: true, "--file=x.service": false,
		"vda-dn-tgt": false, "a b.service": false, "*.service": false} {
		c := Config{Socket: "/s", StateDir: "/d", PlaneUnit: unit}
		err := c.Validate()
		if bad := err != nil && strings.Contains(err.Error(), "data-plane-unit "); bad == good {
			t.Errorf("%q: %v", unit, err)
		}
	}
}
