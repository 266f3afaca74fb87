package rpccli

import (
	"bytes"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda/program"
	"github.com/virtual-disk-array/vda/reason"
)

// TestASocketThatDoesNotAnswer: what is said names the socket and what to do.
func TestASocketThatDoesNotAnswer(t *testing.T) {
	dir := t.TempDir()
	mute, stale := filepath.Join(dir, "mute"), filepath.Join(dir, "stale")
	for _, path := range []string{mute, stale} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		if path == stale {
			l.Close()
			continue
		}
		defer l.Close()
	}
	long := filepath.Join(dir, strings.Repeat("x", 120))
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "there is no socket " + filepath.Join(dir, "none") + "; start vda_tgt or spdk_tgt with -r",
		stale:                      "nobody serves the socket " + stale + "; start vda_tgt or spdk_tgt with -r",
		mute:                       "no reply from " + mute + " within 50ms; see --timeout",
		long:                       "at most 107 bytes",
	} {
		var errs bytes.Buffer
		p := program.Process{Args: []string{"-s", path, "-t", "0.05", "spdk_get_version"}, Stdout: &bytes.Buffer{}, Stderr: &errs}
		if code := Program().Run(t.Context(), p); code != 1 || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit status %d, %q, want %q", path, code, errs.String(), want)
		}
		if raw := reason.Raw(strings.TrimSpace(errs.String())); raw != "" {
			t.Errorf("%q has %q of a library", errs.String(), raw)
		}
	}
}
