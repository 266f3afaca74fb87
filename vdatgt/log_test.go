package vdatgt

import (
	"strings"
	"testing"
)

// TestGetLog: vda_get_log gives the end of the log, in whole lines, before the start-up has ended
// too.
func TestGetLog(t *testing.T) {
	const log = "one line\nanother line\nthe last line\n"
	p := start(t, Config{BufferMemory: 64 << 20, WaitForRPC: true, RecentLog: func() []byte { return []byte(log) }})
	for limit, want := range map[uint64]string{0: log, 1000: log, uint64(len(log)): log, 27: "another line\nthe last line\n",
		26: "the last line\n", 20: "the last line\n", 14: "the last line\n", 13: ""} {
		if got := must[string](t)(p.VdaGetLog(t.Context(), limit)); got != want {
			t.Errorf("the last %d bytes are %q, not %q", limit, got, want)
		}
	}
	none := start(t, Config{BufferMemory: 64 << 20})
	if got := must[string](t)(none.VdaGetLog(t.Context(), 0)); strings.TrimSpace(got) != "" {
		t.Errorf("without a log: %q", got)
	}
}
