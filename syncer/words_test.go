package syncer

import (
	"testing"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/store"
)

// TestRawHealthIsWrittenOnce: what an older agent says in a library's words is
// kept in ours, and is not news at each heartbeat.
func TestRawHealthIsWrittenOnce(t *testing.T) {
	const raw = "ask: context deadline exceeded"
	kept := vda.Health{Error: true, Msg: store.CleanMsg(raw)}
	if kept.Msg != "ask: no answer in time" || !same(kept, &apiv1.ObjectState{Error: true, ErrorMsg: raw}) {
		t.Errorf("kept as %q, which is not the same as %q", kept.Msg, raw)
	}
}
