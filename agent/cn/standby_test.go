package cn_test

import (
	"context"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

func (l *lab) standBy(i int, hold time.Duration) {
	l.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req := &apiv1.StandByRequest{ClusterId: cluster, NodeId: l.cns[i].id, DaIds: []string{daID}, HoldMs: uint32(hold.Milliseconds())}
	if _, err := l.cns[i].a.StandBy(ctx, req); err != nil {
		l.Fatal(err)
	}
}

// TestStandBy: a secondary's path is closed when the call returns, and open
// again when the time is up, or when the primary has moved.
func TestStandBy(t *testing.T) { inBubble(t, 3, false, standBy) }

func standBy(l *lab) {
	t := l.T
	l.up(0)
	l.ana(1, spdk.ANANonOptimized)
	state := func(i int) string { return l.cns[i].plane.ANA(expNQN) }

	l.standBy(1, time.Second)
	if got := state(1); got != spdk.ANAInaccessible {
		t.Errorf("standing by, the path is %s", got)
	}
	l.stays(1, spdk.ANAInaccessible, 500*time.Millisecond)
	l.ana(1, spdk.ANANonOptimized)
	if got := state(0); got != spdk.ANAOptimized {
		t.Errorf("the primary's path is %s", got)
	}

	l.standBy(0, time.Minute/2) // it is primary
	if got := state(0); got != spdk.ANAOptimized {
		t.Errorf("a primary was told to stand by, and its path is %s", got)
	}
	for i := 1; i < 3; i++ {
		l.standBy(i, time.Minute/2)
	}
	l.term++
	l.spec.Create = false
	l.sync(0, l.cntlr(0, 1)) // retires
	l.fence(false)
	l.good(1, l.cntlr(1, 1))
	l.ana(1, spdk.ANAOptimized)
	l.good(2, l.cntlr(2, 1))
	l.ana(2, spdk.ANANonOptimized)
}

func TestStandByIsRefused(t *testing.T) { inBubble(t, 2, false, standByIsRefused) }

func standByIsRefused(l *lab) {
	t := l.T
	l.up(0)
	for want, req := range map[string]*apiv1.StandByRequest{
		"the request is for node": {ClusterId: cluster, NodeId: "d00d", DaIds: []string{daID}},
		"hold_ms 30001":           {ClusterId: cluster, NodeId: l.cns[1].id, DaIds: []string{daID}, HoldMs: 30001},
	} {
		if _, err := l.cns[1].a.StandBy(context.Background(), req); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", req, err)
		}
	}
	if got := l.cns[1].plane.ANA(expNQN); got != spdk.ANANonOptimized {
		t.Errorf("after refusals the path is %s", got)
	}
}
