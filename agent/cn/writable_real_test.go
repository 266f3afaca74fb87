package cn_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
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
	l.leased()
	l.up(0)
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

// TestRealWritableSnapshotOfAFullArray: hosts of a writable snapshot of a thin array fill its physical
// size. They and those of the array get Capacity Exceeded for what needs a cluster, and nothing else is
// lost or refused; another writable snapshot is. They go on when the array has more.
func TestRealWritableSnapshotOfAFullArray(t *testing.T) {
	t.Parallel()
	l, _, _ := reals(t, 2, true, false, false)
	const size, mib = 40, 1 << 20
	l.spec.Size, l.spec.Thin = size*mib, true
	l.leased()
	l.up(0)
	l.spec.Create = false
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	chunk := func(b byte) []byte { return bytes.Repeat([]byte{b}, mib) }
	array := l.disk(0)
	write := func(ns *host.Namespace, b byte, at int64) error { return ns.WriteAt(ctx, chunk(b), at*mib) }
	is := func(what string, ns *host.Namespace, b byte, at int64) {
		t.Helper()
		got := make([]byte, mib)
		if err := ns.ReadAt(ctx, got, at*mib); err != nil || !bytes.Equal(got, chunk(b)) {
			t.Errorf("%s has %#x to %#x at MiB %d, want %#x; %v", what, got[0], got[mib-1], at, b, err)
		}
	}
	full := func(err error) bool {
		var st nvme.Status
		return errors.As(err, &st) && st&^nvme.DNR == nvme.CapacityExceeded
	}
	if err := write(array, 0xaa, 0); err != nil {
		t.Fatal(err)
	}
	s := l.shot(0)
	c := l.writable(1, s)
	l.found(0, c)
	c.Clone.State = taken
	e := l.show(1, c)
	l.all(0)
	paths := []*host.Namespace{l.connect(0, e), l.connect(1, e)}

	at := int64(1)
	for ; at < size; at++ {
		if err := write(paths[at%2], 0xcc, at); full(err) {
			break
		} else if err != nil {
			t.Fatalf("a write at MiB %d: %v", at, err)
		}
	}
	if at == size {
		t.Fatal("a writable snapshot of an array of 23 MiB of physical size takes 40 MiB")
	}
	for i, ns := range paths {
		if err := write(ns, 0xcc, 0); !full(err) {
			t.Errorf("by cn%d a cluster that it shares with its snapshot is written: %v", i, err)
		}
		if err := write(ns, 0xdd, 1); err != nil {
			t.Errorf("by cn%d one of its own is not: %v", i, err)
		}
	}
	if err := write(array, 0xbb, 0); !full(err) {
		t.Errorf("the array's host writes beside it: %v", err)
	}
	is("the array", array, 0xaa, 0)
	is("the writable snapshot", paths[1], 0xaa, 0)
	another := l.writable(2, s)
	if st := l.snapState(0, another); !st.Error || !strings.Contains(st.ErrorMsg, "the disk array has used up its physical size; delete a "+
		"snapshot, or give the array a larger physical_size") {
		t.Errorf("another one: %v", st)
	}
	l.spec.Snaps = l.spec.Snaps[:2]

	g := l.another()
	l.fence(false)
	if st := l.joins(0, g); st.Error || !st.Found {
		t.Fatal(st)
	}
	g.Joining = false
	l.good(0, l.cntlr(0, 0))
	for more := at; more < size; more++ {
		if err := write(paths[more%2], 0xcc, more); err != nil {
			t.Fatalf("a write at MiB %d after the array has grown: %v", more, err)
		}
	}
	if err := errors.Join(write(array, 0xbb, 0), write(paths[1], 0xee, 0)); err != nil {
		t.Errorf("writes to what was shared, after the array has grown: %v", err)
	}
	for i, ns := range paths {
		is("the writable snapshot", ns, 0xee, 0)
		is("the writable snapshot", ns, 0xdd, 1)
		for k := int64(2); k < size; k++ {
			is("the writable snapshot", ns, 0xcc, k)
		}
		is("the array", l.disk(i), 0xbb, 0)
		is("the array", l.disk(i), 0, 1)
	}
}

// TestRealWritableSnapshotByHops: where primaries are reached at another address, a host writes to a
// writable snapshot by a secondary: it gets there by its own hop, the primary's host reads it, and the array
// stays what it is; also when the primary has moved.
func TestRealWritableSnapshotByHops(t *testing.T) {
	t.Parallel()
	l, _, _ := reals(t, 2, false, false, false)
	l.secret = "of the cluster"
	l.small()
	l.leased()
	l.up(0)
	l.spec.Create = false
	l.apart(0, 1)
	var relays []*relay
	for _, n := range l.cns {
		r := newRelay(t, n.config.Backend.String())
		n.through, relays = r.port, append(relays, r)
	}
	l.all(0)
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	old := bytes.Repeat([]byte{0xaa}, ioSize)
	if err := l.disk(0).WriteAt(ctx, old, 0); err != nil {
		t.Fatal(err)
	}
	s := l.shot(0)
	c := l.writable(1, s)
	l.found(0, c)
	c.Clone.State = taken
	e := l.show(1, c)
	read := func(what string, ns *host.Namespace, want []byte) {
		t.Helper()
		got := make([]byte, ioSize)
		if err := ns.ReadAt(ctx, got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s has %#x, want %#x; %v", what, got[0], want[0], err)
		}
	}
	has := old
	for primary := range 2 {
		if primary > 0 {
			l.term++
			l.sync(0, l.cntlr(0, 1)) // retires
			l.fence(false)
		}
		for _, i := range []int{primary, 1 - primary} {
			l.settled(i, l.cntlr(i, primary))
		}
		l.healthy(primary)
		l.healthy(1 - primary) // its hop may wait a while before it connects again
		l.standApart()
		by := l.connect(1-primary, e)
		if by.Identity().ReadOnly {
			t.Errorf("cn%d says that it takes no writes", 1-primary)
		}
		before := relays[primary].bytes.Load()
		read("the writable snapshot", by, has)
		has = bytes.Repeat([]byte{byte(0xc0 + primary)}, ioSize)
		if err := by.WriteAt(ctx, has, 0); err != nil {
			t.Fatalf("by cn%d: %v", 1-primary, err)
		}
		if n := relays[primary].bytes.Load() - before; n < 2*ioSize {
			t.Errorf("of %d bytes of a host of cn%d, %d came over the back-end address", 2*ioSize, 1-primary, n)
		}
		read("the writable snapshot", l.connect(primary, e), has)
		read("the array", l.disk(primary), old)
		read("the array by the secondary", l.disk(1-primary), old)
	}
}
