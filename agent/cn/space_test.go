package cn_test

import (
	"context"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// space is what the heartbeat of controller node i says of how full the array is, nil
// for nothing.
func (l *lab) space(i int) *apiv1.SpaceState {
	l.Helper()
	r, err := l.cns[i].a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: l.cns[i].id})
	if err != nil {
		l.Fatal(err)
	}
	switch len(r.Spaces) {
	case 0:
		return nil
	case 1:
		return r.Spaces[0]
	}
	l.Fatalf("the heartbeat has %d arrays: %v", len(r.Spaces), r.Spaces)
	return nil
}

// TestSpaceIsReported: the primary alone says how full the array is, and says so again when
// that changes.
func TestSpaceIsReported(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		l.spec.Size = 4 << 20
		l.up(0)
		l.spec.Create = false
		time.Sleep(5 * time.Second)
		first := l.space(0)
		if first == nil || first.DaId != daID || first.Term != l.term || first.TotalBytes-first.FreeBytes != 4<<20 || first.FreeBytes == 0 {
			t.Fatalf("the primary says %v, want 4 MiB of the array in use", first)
		}
		if s := l.space(1); s != nil {
			t.Errorf("the secondary says %v", s)
		}
		l.spec.Size = 6 << 20
		l.good(0, l.cntlr(0, 0))
		time.Sleep(5 * time.Second)
		if s := l.space(0); s.TotalBytes != first.TotalBytes || s.FreeBytes != first.FreeBytes-2<<20 {
			t.Errorf("after 2 MiB more it says %v, before %v", s, first)
		}
	})
}
