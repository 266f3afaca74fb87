package cn_test

import (
	"sync"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// writable adds a writable snapshot of another one to the primary's spec.
func (l *lab) writable(n int, of *apiv1.SnapSpec) *apiv1.SnapSpec {
	s := l.snap(n)
	s.State, s.Clone = apiv1.SnapState_SNAP_STATE_UNSPECIFIED, &apiv1.SnapClone{Of: of.Id, State: asked}
	return s
}

// show adds an exporter of a snapshot.
func (l *lab) show(n int, s *apiv1.SnapSpec) *apiv1.ExpSpec {
	e := l.exporter(n)
	e.SnapName, e.SnapId = s.Name, s.Id
	return e
}

// TestRealWritableSnapshot: a writable snapshot is made beside writes to its array, begins with what
// its snapshot shows, and takes writes by both controllers, through a move and through the death of the
// primary's node. Array and snapshot stay what they are, and so does it when the array's next snapshot
// comes and goes.
func TestRealWritableSnapshot(t *testing.T) { planes(t, realWritableSnapshot) }

func realWritableSnapshot(t *testing.T, spdkDN, spdkCN bool) {
	l, _, cnTgts := reals(t, 2, false, spdkDN, spdkCN)
	l.small()
	l.up(0)
	l.leased()
	l.spec.Create = false
	primary := 0
	move := func(to int, planned bool) {
		t.Helper()
		was := primary
		if planned {
			l.standBy(to, 5*time.Second)
		}
		l.term++
		if planned {
			l.sync(was, l.cntlr(was, to))
		}
		l.fence(false)
		l.good(to, l.cntlr(to, to))
		if !l.cns[was].stopped {
			l.good(was, l.cntlr(was, to))
		}
		primary = to
	}
	onArray := startLedger(l.multipath())
	ended := sync.OnceFunc(onArray.end)
	defer ended()

	onArray.running(3)
	s := l.snap(0)
	acked, _ := onArray.now()
	if st := l.snapState(primary, s); st.Error || !st.Found {
		t.Fatal(st)
	}
	_, sent := onArray.now()
	s.State = taken
	onArray.running(2 * blocks) // each block has a cluster of its own by now

	c := l.writable(1, s)
	begin := time.Now()
	st := l.snapState(primary, c)
	if st.Error || !st.Found || st.SizeBytes != l.spec.Size {
		t.Fatal(st)
	}
	t.Logf("it was made in %v", time.Since(begin))
	c.Clone.State = taken
	look, e := l.show(1, s), l.show(2, c)
	l.all(primary)
	at := holds(t, l.connect(primary, look), acked, sent)
	for i := range l.cns {
		ns := l.connect(i, e)
		if holds(t, ns, at, at); ns.Identity().ReadOnly {
			t.Errorf("cn%d says that it takes no writes", i)
		}
	}

	// Its numbers begin again.
	if err := l.connect(1-primary, e).WriteAt(t.Context(), make([]byte, offsetOf(0, blocks)), 0); err != nil {
		t.Fatal(err)
	}
	onIt := startLedger(l.multipathOf(e))
	itEnded := sync.OnceFunc(onIt.end)
	defer itEnded()
	both := func() {
		t.Helper()
		onArray.running(3)
		onIt.running(3)
	}
	both()
	move(1, true) // to vda_tgt, in any case
	both()
	next := l.snap(2)
	if st := l.snapState(primary, next); st.Error || !st.Found {
		t.Fatal(st)
	}
	next.State = taken
	both()
	next.State = deleting
	if st := l.snapState(primary, next); st.Error || !st.Gone {
		t.Fatal(st)
	}
	l.spec.Snaps = l.spec.Snaps[:2]
	move(0, false)
	both()
	if !spdkCN { // what SPDK holds when it dies is another test's
		cnTgts[0].stop()
		l.cns[0].stop(l)
		move(1, false)
		both()
		cnTgts[0].start()
		l.cns[0].start(l)
		l.good(0, l.cntlr(0, 1))
		both()
	} else {
		move(1, false)
	}
	ended()
	itEnded()
	acked, _ = onArray.now()
	holds(t, l.disk(primary), acked, acked)
	acked, _ = onIt.now()
	for i := range l.cns {
		holds(t, l.connect(i, e), acked, acked)
		holds(t, l.connect(i, look), at, at)
	}

	e.Deleted, c.Clone.State = true, deleting
	if st := l.snapState(primary, c); st.Error || !st.Gone {
		t.Fatal(st)
	}
	l.all(primary)
	l.spec.Exps, l.spec.Snaps = l.spec.Exps[:2], l.spec.Snaps[:1]
	look.Deleted, s.State = true, deleting
	if st := l.snapState(primary, s); st.Error || !st.Gone {
		t.Fatal(st)
	}
	acked, _ = onArray.now()
	holds(t, l.disk(primary), acked, acked)
}
