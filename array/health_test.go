package array_test

import (
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
)

// TestRawHealthIsWrittenOnce: what an older agent says in a library's words is
// kept in ours, and is not news at each heartbeat.
func TestRawHealthIsWrittenOnce(t *testing.T) {
	const raw = "ask: context deadline exceeded"
	kept := vda.Health{Error: true, Msg: store.CleanMsg(raw)}
	if kept.Msg != "ask: no answer in time" || !array.SameHealth(kept, vda.Health{Error: true, Msg: raw}) {
		t.Errorf("kept as %q, which is not the same as %q", kept.Msg, raw)
	}
}
