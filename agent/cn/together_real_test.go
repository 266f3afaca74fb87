package cn_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// redo are two arrays, each on nodes of its own, and one who writes number n to the first and,
// when that is acknowledged, to the second, by their controllers in turn.
type redo struct {
	*testing.T
	labs  [2]*lab
	tgts  [2][]*tgt // of controller nodes
	acked atomic.Uint64
	wg    sync.WaitGroup
	stop  chan struct{}
}

func newRedo(t *testing.T) *redo {
	d := &redo{T: t, stop: make(chan struct{})}
	for i := range d.labs {
		d.labs[i], _, d.tgts[i] = reals(t, 2, false, false, false)
		l := d.labs[i]
		l.small()
		l.leased()
		l.up(0)
		l.spec.Create = false
	}
	return d
}

func (d *redo) start() {
	paths := [2]*multipath{d.labs[0].multipath(), d.labs[1].multipath()}
	d.wg.Go(func() {
		buf := make([]byte, 4096)
		for n := uint64(1); ; n++ {
			select {
			case <-d.stop:
				return
			default:
			}
			binary.LittleEndian.PutUint64(buf, n)
			prefer := []host.ANAState{host.ANAOptimized, host.ANANonOptimized}[n%2]
			begin := time.Now()
			for i, m := range paths {
				if err := m.do(prefer, func(ctx context.Context, p *host.Namespace) error { return p.WriteAt(ctx, buf, 0) }); err != nil {
					d.Errorf("number %d to array %d: %v", n, i, err)
					return
				}
			}
			d.acked.Store(n)
			breathe(time.Since(begin))
		}
	})
}

// goesOn waits until some more has been written to both.
func (d *redo) goesOn() {
	d.Helper()
	begin := d.acked.Load()
	planetest.Eventually(d, func() string {
		if n := d.acked.Load(); n < begin+3 && !d.Failed() {
			return fmt.Sprintf("number %d is written, as %d was", n, begin)
		}
		return ""
	})
}

// order asks for snapshot n of both.
func (d *redo) order(n int) (s [2]*apiv1.SnapSpec) {
	d.Helper()
	for i, l := range d.labs {
		s[i] = l.snap(n)
		s[i].State = together
		if st := l.snapState(0, s[i]); st.Error || st.Found {
			d.Fatal(st)
		}
	}
	return s
}

// hold has both arrays held with a snapshot each.
func (d *redo) hold(s [2]*apiv1.SnapSpec) {
	d.Helper()
	for i, l := range d.labs {
		if err := l.hold(s[i], l.term); err != nil {
			d.Fatalf("array %d: %v", i, err)
		}
	}
}

// drop has both go, as when one is void.
func (d *redo) drop(s [2]*apiv1.SnapSpec) {
	d.Helper()
	for i, l := range d.labs {
		s[i].State = deleting
		if st := l.snapState(0, s[i]); st.Error || !st.Gone {
			d.Fatalf("array %d: %v", i, st)
		}
		l.spec.Snaps = nil
	}
}

// TestRealSnapshotsTogether: snapshots of two arrays on nodes of their own show one instant of
// a host that writes to both, through all controllers. When an agent or a data plane dies while
// both are held, the host goes on, and a release says that the snapshot is void.
func TestRealSnapshotsTogether(t *testing.T) {
	t.Parallel()
	d := newRedo(t)
	d.start()
	defer d.wg.Wait()
	defer close(d.stop)
	for round := range 3 {
		d.goesOn()
		s := d.order(0)
		before := d.acked.Load()
		d.hold(s)
		for i, l := range d.labs {
			if r := l.release(s[i]); !r.InForce || r.HeldUs == 0 {
				t.Fatalf("round %d, array %d: %v", round, i, r)
			}
		}
		var at [2]uint64
		for i, l := range d.labs {
			s[i].State = taken
			e := l.exporter(round + 1)
			e.SnapName, e.SnapId = s[i].Name, s[i].Id
			l.all(0)
			buf := make([]byte, 4096)
			if err := l.connect(1-round%2, e).ReadAt(t.Context(), buf, 0); err != nil {
				t.Fatal(err)
			}
			at[i] = binary.LittleEndian.Uint64(buf)
			e.Deleted = true
			l.all(0)
			l.spec.Exps = l.spec.Exps[:1]
		}
		if at[1] < before || at[1] > at[0] || at[0] > at[1]+1 {
			t.Errorf("round %d: the snapshots show numbers %d and %d; %d was acknowledged before", round, at[0], at[1], before)
		}
		d.drop(s)
	}

	s := d.order(1)
	d.hold(s)
	l := d.labs[1]
	l.cns[0].stop(l)
	d.goesOn() // when the data plane ends the hold
	l.cns[0].start(l)
	l.leased()
	planetest.Eventually(t, func() string { return fmt.Sprint(l.states(0)[l.cns[0].cntlr]) })
	if r := l.release(s[1]); r.InForce {
		t.Errorf("a hold whose agent died: %v", r)
	}
	if r := d.labs[0].release(s[0]); r.InForce {
		t.Errorf("the other array's hold, after its time: %v", r)
	}
	d.drop(s)

	s = d.order(2)
	d.hold(s)
	d.tgts[1][0].stop()
	if r := d.labs[0].release(s[0]); r.HeldUs == 0 {
		t.Errorf("the array whose data plane lives: %v", r)
	}
	d.tgts[1][0].start()
	l.healthy(0)
	d.goesOn()
	if r := l.release(s[1]); r.InForce {
		t.Errorf("a hold whose data plane died: %v", r)
	}
	d.drop(s)
	d.goesOn()
}
