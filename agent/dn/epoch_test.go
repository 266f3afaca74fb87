package dn_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

func legNQN(term, epoch uint64) string { return vda.LegHostNQN(hostNQN(term), epoch) }

// legVD is a vd that was dropped from its mirror so often.
func legVD(term, epoch, version uint64) *apiv1.VdSpec {
	v := vd(term)
	v.Epoch, v.HostNqn, v.Version = epoch, legNQN(term, epoch), version
	return v
}

func deltaOf(version uint64, vds ...*apiv1.VdSpec) *apiv1.SyncDnRequest {
	d := full(version, nil, vds...)
	d.BaseVersion = version - 1
	return d
}

// epochs is what a heartbeat says.
func (l *lab) epochs() map[string]uint64 {
	l.Helper()
	r, err := l.a.Heartbeat(context.Background(), &apiv1.HeartbeatRequest{ClusterId: cluster, NodeId: nodeID})
	if err != nil {
		l.Fatal(err)
	}
	return r.VdEpochs
}

// TestEpochFencesTheOneBefore: a vd of another epoch lets its host in when the
// one of the epoch before is out, and only then is the epoch reported.
func TestEpochFencesTheOneBefore(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	for epoch := uint64(1); epoch < 4; epoch++ {
		var order []string
		l.plane.SetHook(func(method string, p map[string]any) error {
			if h, ok := p["host"].(string); ok {
				order = append(order, method+" "+h)
				if got := l.epochs()[vdID]; got != epoch-1 {
					t.Errorf("at %s epoch %d is reported", method, got)
				}
			}
			return nil
		})
		r := l.good(deltaOf(epoch+1, legVD(1, epoch, epoch+1)))
		want := []string{"nvmf_subsystem_remove_host " + legNQN(1, epoch-1), "nvmf_subsystem_add_host " + legNQN(1, epoch)}
		if !slices.Equal(order, want) {
			t.Errorf("got %v, want %v", order, want)
		}
		if r.States[0].Epoch != epoch || l.epochs()[vdID] != epoch {
			t.Errorf("epoch %d: the reply says %v, the heartbeat %v", epoch, r.States, l.epochs())
		}
	}
}

// TestEpochIsNotReportedBeforeTheFence: a data plane that does not let go of the
// old host keeps the vd in the epoch before.
func TestEpochIsNotReportedBeforeTheFence(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, legVD(1, 1, 1)))
	var refuse atomic.Bool
	refuse.Store(true)
	l.plane.SetHook(func(method string, _ map[string]any) error {
		if method == "nvmf_subsystem_remove_host" && refuse.Load() {
			return fmt.Errorf("not now")
		}
		return nil
	})
	r := l.sync(deltaOf(2, legVD(1, 2, 2)))
	if s := r.States[0]; !s.Error || s.Epoch != 1 || l.epochs()[vdID] != 1 {
		t.Errorf("the reply says %v, the heartbeat %v", s, l.epochs())
	}
	if got := l.hosts(); !slices.Equal(got, []string{legNQN(1, 1)}) {
		t.Errorf("admitted %v", got)
	}
	refuse.Store(false)
	planetest.Eventually(t, func() string {
		if got := l.epochs()[vdID]; got != 2 {
			return fmt.Sprintf("epoch %d is reported: %s", got, l.bad(vdID))
		}
		return ""
	})
	if got := l.hosts(); !slices.Equal(got, []string{legNQN(1, 2)}) {
		t.Errorf("admitted %v", got)
	}
}

// TestEpochMustMatchItsHost: a request whose parts disagree about the epoch is
// refused whole.
func TestEpochMustMatchItsHost(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	for _, bad := range []func(v *apiv1.VdSpec){
		func(v *apiv1.VdSpec) { v.HostNqn = legNQN(1, 1) },
		func(v *apiv1.VdSpec) { v.HostNqn = legNQN(2, 2) },
		func(v *apiv1.VdSpec) { v.HostNqn = hostNQN(1) },
		func(v *apiv1.VdSpec) { v.HostNqn = "nqn.2016-06.io.spdk:host0" },
		func(v *apiv1.VdSpec) { v.Epoch = 0 },
	} {
		v := legVD(1, 2, 2)
		bad(v)
		l.refused(deltaOf(2, v), codes.InvalidArgument, "host_nqn", v.HostNqn, vdID, fmt.Sprint("epoch ", v.Epoch))
	}
	l.refused(deltaOf(2, legVD(1, 0, 2), legVD(1, 1, 2)), codes.InvalidArgument) // the same vd twice
	l.good(deltaOf(2, legVD(1, 2, 2)))
	l.refused(deltaOf(3, legVD(1, 1, 3)), codes.FailedPrecondition, "epoch 1", "epoch 2", vdID)
}

// TestNoWriteOfAnEarlierEpoch: a host writes to a vd without a pause, under the
// name of epoch 1. When the agent has answered that epoch 2 is let in, no write
// of the first lands any more, and it is not let in again.
func TestNoWriteOfAnEarlierEpoch(t *testing.T) {
	planes(t, func(t *testing.T, onSPDK bool) {
		l := newRealLab(t, onSPDK)
		pd := aioPD()
		pd.ConfJson = fmt.Sprintf(`{"type":"aio","filename":%q,"size":%d}`, l.file, 64<<20)
		l.good(full(1, []*apiv1.PdSpec{pd}, legVD(1, 1, 1)))
		connect := func(epoch uint64) (*host.Controller, error) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			return host.Connect(ctx, host.Config{Traddr: "127.0.0.1", Trsvcid: l.port, SubNQN: vdNQN, HostNQN: legNQN(1, epoch), Queues: 1})
		}
		old, err := connect(1)
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		begun, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			for n := 1; ; n++ {
				if err := old.Namespace(1).WriteAt(context.Background(), bytes.Repeat([]byte{byte(n)}, 64<<10), 0); err != nil {
					ended <- err
					return
				}
				if n == 100 {
					close(begun)
				}
			}
		}()
		select {
		case <-begun:
		case err := <-ended:
			t.Fatalf("the write under epoch 1: %v", err)
		}
		l.good(deltaOf(2, legVD(1, 2, 2)))
		if got := l.epochs()[vdID]; got != 2 {
			t.Errorf("epoch %d is reported", got)
		}
		next, err := connect(2)
		if err != nil {
			t.Fatal(err)
		}
		defer next.Close()
		if c, err := connect(1); err == nil {
			c.Close()
			t.Error("epoch 1 is let in again")
		}
		mark := bytes.Repeat([]byte("epoch 2 "), 8<<10)
		if err := next.Namespace(1).WriteAt(context.Background(), mark, 0); err != nil {
			t.Fatal(err)
		}
		old.Close()
		if err := <-ended; err == nil {
			t.Error("the write under epoch 1 succeeds")
		}
		got := make([]byte, 64<<10)
		if err := next.Namespace(1).ReadAt(context.Background(), got, 0); err != nil || !bytes.Equal(got, mark) {
			t.Errorf("the block reads %x…, not what epoch 2 wrote (%v)", got[:4], err)
		}
	})
}

// TestVdTakesOneAssociation: before its host is let in, a vd's subsystem is told
// to end the association that the host has when it comes again, also one that an
// earlier agent has made.
func TestVdTakesOneAssociation(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, true)
	ctx := context.Background()
	single := func() bool {
		sub, err := l.plane.Client().NvmfGetSubsystem(ctx, vdNQN)
		if err != nil {
			t.Fatal(err)
		}
		return sub.SingleAssociation
	}
	var told atomic.Bool
	l.plane.SetHook(func(method string, p map[string]any) error {
		switch {
		case p["nqn"] != vdNQN:
		case method == "vda_nvmf_set_single_association":
			told.Store(true)
		case method == "nvmf_subsystem_add_host" && !told.Load():
			t.Error("the host is let in first")
		}
		return nil
	})
	l.good(full(1, []*apiv1.PdSpec{aioPD()}, vd(1)))
	if !single() {
		t.Error("a new vd takes several associations")
	}
	if err := l.plane.Client().VdaNvmfSetSingleAssociation(ctx, vdNQN, false); err != nil {
		t.Fatal(err)
	}
	l.good(full(2, []*apiv1.PdSpec{aioPD()}, vd(1)))
	if !single() {
		t.Error("a vd that was there takes several associations")
	}
}
