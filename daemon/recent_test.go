package daemon

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
)

// TestRecentLog: the end of a log is remembered, whatever its length.
func TestRecentLog(t *testing.T) {
	var f tail
	var all []byte
	for i := 0; len(all) < 3*recentBytes; i++ {
		line := []byte(fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", i%5000)))
		f.add(line)
		all = append(all, line...)
		if want := all[max(0, len(all)-recentBytes):]; i%97 == 0 && !bytes.Equal(f.bytes(), want) {
			t.Fatalf("after %d bytes %d are remembered, and other ones", len(all), len(f.bytes()))
		}
	}
	f.add(bytes.Repeat([]byte("y"), 2*recentBytes+3))
	if got := f.bytes(); len(got) != recentBytes || bytes.ContainsRune(got, 'x') {
		t.Errorf("%d bytes of a line that is longer than what is remembered", len(got))
	}
	newLog(io.Discard, slog.LevelInfo, false).Info("remember this line")
	if !bytes.Contains(RecentLog(), []byte(`msg="remember this line"`)) {
		t.Error("a line that was logged is not remembered")
	}
}
