package dn_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

func TestVdIsZeroedBeforeItIsExported(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var zeroed atomic.Bool
	l.plane.SetHook(func(method string, p map[string]any) error {
		if p["nqn"] == vdNQN && method != "nvmf_get_subsystems" && !zeroed.Load() {
			t.Errorf("%s before the vd was renamed", method)
		}
		if method == "bdev_lvol_rename" {
			zeroed.Store(true)
		}
		return nil
	})
	r := l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	if !zeroed.Load() || len(r.Capacities) != 1 || r.Capacities[0].TotalClusters == 0 || r.Capacities[0].ClusterSize != 1<<20 {
		t.Errorf("renamed %v, capacities %v", zeroed.Load(), r.Capacities)
	}
	if got := l.c.Lvols(l.c.Disk("/dev/null")); !slices.Equal(got, []string{"vda-vd-" + vdID}) {
		t.Errorf("lvols %v", got)
	}
	if got := l.hosts(); !slices.Equal(got, []string{hostNQN(1)}) {
		t.Errorf("admitted %v", got)
	}
}

func TestSameRequestTwiceChangesNothing(t *testing.T) { inBubble(t, sameRequestTwiceChangesNothing) }

func sameRequestTwiceChangesNothing(l *lab) {
	req := full(1, []*apiv1.PdSpec{aioPD()}, vd(1))
	l.good(req)
	l.plane.Changes()
	l.good(req)
	time.Sleep(time.Second) // of fake time: some self-checks
	if n := l.plane.Changes(); n != 0 {
		l.Errorf("%d changes", n)
	}
}

func TestFenceRemovesTheOldHostFirst(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	var order []string
	l.plane.SetHook(func(method string, p map[string]any) error {
		if h, ok := p["host"].(string); ok {
			order = append(order, method+" "+h)
		}
		return nil
	})
	delta := full(2, nil, vd(2))
	delta.BaseVersion = 1
	l.good(delta)
	want := []string{"nvmf_subsystem_remove_host " + hostNQN(1), "nvmf_subsystem_add_host " + hostNQN(2)}
	if !slices.Equal(order, want) {
		t.Errorf("got %v, want %v", order, want)
	}
}

func TestLowerTermIsRefusedAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(5, []*apiv1.PdSpec{aioPD()}, vd(3)))
	l.refused(full(6, []*apiv1.PdSpec{aioPD()}, vd(2)), codes.FailedPrecondition, "term 2", "term 3", daID)
	l.stop()
	l.start()
	l.refused(full(6, []*apiv1.PdSpec{aioPD()}, vd(2)), codes.FailedPrecondition, "term 2", "term 3", daID)
}

func TestOlderVersionIsRefusedAndSaysItsOwn(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(5, []*apiv1.PdSpec{aioPD()}, vd(1)))
	l.stop()
	l.start()
	l.refused(full(4, []*apiv1.PdSpec{aioPD()}, vd(1)), codes.FailedPrecondition, "version 4", "version 5")
	delta := full(9, nil, vd(1))
	delta.BaseVersion = 7
	_, err := l.a.Sync(context.Background(), delta)
	details := status.Convert(err).Details()
	if len(details) != 1 || details[0].(*apiv1.SyncReply).Version != 5 {
		t.Errorf("details %v of %v", details, err)
	}
	// A delta whose answer was lost comes again.
	delta.BaseVersion, delta.Version = 4, 6
	l.good(delta)
	l.good(delta)
}

func TestAnotherClusterIsRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}))
	other := full(2, []*apiv1.PdSpec{aioPD()})
	other.ClusterId = "c1057e00000000000000000000000002"
	l.refused(other, codes.FailedPrecondition, cluster, other.ClusterId)
}

func TestAnEmptySetNeedsAWord(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	l.refused(full(2, nil), codes.FailedPrecondition, "allow_empty")
	if got := l.hosts(); len(got) != 1 {
		t.Errorf("admitted %v", got)
	}
	empty := full(2, nil)
	empty.AllowEmpty = true
	l.good(empty)
	if got := l.plane.Objects(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	// Absence lets go; only a tombstone deletes.
	if got := l.c.Lvols(l.c.Disk("/dev/null")); len(got) != 1 {
		t.Errorf("lvols on the medium: %v", got)
	}
}

func TestTombstonesLeaveNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	gone := func(r *apiv1.SyncReply) {
		t.Helper()
		for _, s := range r.States {
			if !s.Gone || s.Error {
				t.Errorf("%v", s)
			}
		}
	}
	v, p := vd(1), aioPD()
	v.Deleted, p.Deleted = true, true
	delta := full(2, nil, v)
	delta.BaseVersion = 1
	gone(l.sync(delta))
	gone(l.sync(delta))
	if got := l.c.Lvols(l.c.Disk("/dev/null")); len(got) != 0 {
		t.Errorf("lvols on the medium: %v", got)
	}
	delta = full(3, []*apiv1.PdSpec{p})
	delta.BaseVersion = 2
	gone(l.sync(delta))
	if got := l.plane.Objects(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	if l.c.Lvols(l.c.Disk("/dev/null")) != nil {
		t.Error("the lvstore is still on the medium")
	}
	// The node may be created again under another id, with versions from 1.
	again := full(1, []*apiv1.PdSpec{aioPD()})
	again.NodeId = "d0000000000000000000000000000002"
	l.good(again)
}
