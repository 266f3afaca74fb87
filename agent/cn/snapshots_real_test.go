package cn_test

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// ledger are writers that each write their blocks in turn, number n into block n
// modulo blocks, and each only when the write before has been acknowledged. So
// what a writer has left on a disk at a moment follows from its last number.
type ledger struct {
	m       *multipath
	wg      sync.WaitGroup
	stop    chan struct{}
	writers [writers]struct{ sent, acked atomic.Uint64 }
}

// blocks is how many blocks each writer of a ledger has.
const blocks = 64

func startLedger(m *multipath) *ledger {
	l := &ledger{m: m, stop: make(chan struct{})}
	for w := range writers {
		l.wg.Go(func() { l.write(w) })
	}
	return l
}

func offsetOf(w int, block uint64) int64 { return int64(block*writers+uint64(w)) * 4096 }

func (l *ledger) write(w int) {
	buf := make([]byte, 4096)
	prefer := host.ANAOptimized
	if w%2 == 1 { // a host that has lost its path to the primary
		prefer = host.ANANonOptimized
	}
	for n := uint64(1); ; n++ {
		select {
		case <-l.stop:
			return
		default:
		}
		binary.LittleEndian.PutUint64(buf, n)
		l.writers[w].sent.Store(n)
		begin := time.Now()
		if err := l.m.do(prefer, func(ctx context.Context, p *host.Namespace) error {
			return p.WriteAt(ctx, buf, offsetOf(w, n%blocks))
		}); err != nil {
			l.m.t.Errorf("writer %d, number %d: %v", w, n, err)
			return
		}
		l.writers[w].acked.Store(n)
		breathe(time.Since(begin))
	}
}

func (l *ledger) end() {
	close(l.stop)
	l.wg.Wait()
}

// now returns the last number of each writer that was acknowledged, and that was
// sent.
func (l *ledger) now() (acked, sent [writers]uint64) {
	for w := range l.writers {
		acked[w] = l.writers[w].acked.Load()
		sent[w] = l.writers[w].sent.Load()
	}
	return acked, sent
}

// running waits until every writer has come n further.
func (l *ledger) running(n uint64) {
	begin, _ := l.now()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		now, _ := l.now()
		ok := true
		for w := range now {
			ok = ok && now[w] >= begin[w]+n
		}
		if ok || l.m.t.Failed() {
			return
		}
		if time.Now().After(deadline) {
			l.m.t.Fatalf("the writers came from %v to %v", begin, now)
		}
	}
}

// holds checks that a disk shows one moment of the ledger, not before acked and not
// after sent: each writer's numbers up to one, and no later one.
func holds(t *testing.T, ns *host.Namespace, acked, sent [writers]uint64) (at [writers]uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// At once: each read on its own would wait its turn beside the writers, in two data planes of one process.
	all := make([]byte, offsetOf(0, blocks))
	if err := ns.ReadAt(ctx, all, 0); err != nil {
		t.Fatal(err)
	}
	for w := range writers {
		var have [blocks]uint64
		for b := range uint64(blocks) {
			have[b] = binary.LittleEndian.Uint64(all[offsetOf(w, b):])
			at[w] = max(at[w], have[b])
		}
		if at[w] < acked[w] || at[w] > sent[w] {
			t.Errorf("writer %d: the snapshot ends with number %d; %d was acknowledged before it, %d is the last that was sent", w, at[w],
				acked[w], sent[w])
		}
		for b, n := range have {
			want := uint64(0) // the last number up to at[w] that goes to this block
			if at[w] >= uint64(b) {
				want = at[w] - (at[w]-uint64(b))%blocks
			}
			if n != want {
				t.Errorf("writer %d, block %d: %d, want %d, as the snapshot has number %d", w, b, n, want, at[w])
			}
		}
	}
	return at
}

// TestRealSnapshots: snapshots under writes through both controllers hold each one
// moment; they stay what they are while the array is written, moved and their
// neighbours are deleted, and take no writes.
func TestRealSnapshots(t *testing.T) { planes(t, realSnapshots) }

func realSnapshots(t *testing.T, spdkDN, spdkCN bool) {
	l, _, _ := reals(t, 2, false, spdkDN, spdkCN)
	l.small()
	l.leased()
	l.up(0)
	l.spec.Create = false
	work := startLedger(l.multipath())
	ended := sync.OnceFunc(work.end)
	defer ended()

	type shot struct {
		s           *apiv1.SnapSpec
		e           *apiv1.ExpSpec
		acked, sent [writers]uint64
		at          [writers]uint64
	}
	var shots []*shot
	primary := 0
	take := func() {
		t.Helper()
		n := len(shots)
		work.running(3)
		x := &shot{s: l.snap(n)}
		x.acked, _ = work.now()
		begin := time.Now()
		st := l.snapState(primary, x.s)
		took := time.Since(begin)
		_, x.sent = work.now()
		if st.Error || !st.Found {
			t.Fatalf("snapshot %d: %v", n, st)
		}
		x.s.State = taken
		x.e = l.exporter(n + 1)
		x.e.SnapName, x.e.SnapId = x.s.Name, x.s.Id
		l.all(primary)
		x.at = holds(t, l.connect(primary, x.e), x.acked, x.sent)
		t.Logf("snapshot %d took %v and shows %v of %v to %v", n, took, x.at, x.acked, x.sent)
		shots = append(shots, x)
	}
	check := func() {
		t.Helper()
		for n, x := range shots {
			for i := range l.cns {
				if at := holds(t, l.connect(i, x.e), x.at, x.at); at != x.at {
					t.Errorf("snapshot %d through cn%d has changed", n, i)
				}
			}
		}
	}
	move := func(to int) {
		t.Helper()
		was := primary
		l.standBy(to, 5*time.Second)
		l.term++
		l.sync(was, l.cntlr(was, to))
		l.fence(false)
		l.good(to, l.cntlr(to, to))
		l.good(was, l.cntlr(was, to))
		primary = to
		work.running(3)
	}
	take()
	for range 2 {
		if spdkCN && primary == 0 { // one is what SPDK takes safely
			move(1)
		}
		take()
	}
	work.running(2 * blocks)
	check()
	move(1 - primary)
	check()

	// Nothing is written to them, whichever way.
	for i := range l.cns {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := l.connect(i, shots[0].e).WriteAt(ctx, make([]byte, 4096), 0)
		cancel()
		var st nvme.Status
		if !errors.As(err, &st) || st.IsPath() {
			t.Errorf("a write through cn%d: %v", i, err)
		}
		if !spdkCN && st != nvme.WriteProtected|nvme.DNR { // SPDK says Internal Error
			t.Errorf("a write through cn%d: %v, want %v", i, err, nvme.WriteProtected)
		}
		if ns := l.connect(i, shots[0].e); !spdkCN && !ns.Identity().ReadOnly {
			t.Errorf("cn%d does not say that the namespace takes no writes", i)
		}
	}

	// They go in any order, and leave what the others show.
	if spdkCN && primary == 0 {
		move(1)
	}
	for _, n := range []int{1, 0} {
		x := shots[n]
		x.e.Deleted, x.s.State = true, deleting
		if st := l.snapState(primary, x.s); st.Error || !st.Gone {
			t.Fatalf("snapshot %d: %v", n, st)
		}
		l.all(primary)
		shots = append(shots[:n], shots[n+1:]...)
		work.running(3)
		check()
	}
	ended()
	acked, _ := work.now()
	holds(t, l.disk(primary), acked, acked)
}

// TestRealRollback: rounds of snapshot, writes, rollback and a move; after each the array
// is what the snapshot shows, through both controllers, and the snapshot stays.
func TestRealRollback(t *testing.T) { planes(t, realRollback) }

func realRollback(t *testing.T, spdkDN, spdkCN bool) {
	l, _, _ := reals(t, 2, false, spdkDN, spdkCN)
	l.small()
	l.leased()
	l.up(0)
	l.spec.Create = false
	primary := 0
	for round := range 3 {
		e := l.spec.Exps[0]
		// The numbers begin again.
		if err := l.connect(primary, e).WriteAt(t.Context(), make([]byte, offsetOf(0, blocks)), 0); err != nil {
			t.Fatal(err)
		}
		work := startLedger(l.multipathOf(e))
		work.running(3)
		acked, _ := work.now()
		s := l.snap(round)
		if spdkCN && primary == 0 && round > 0 { // it has one already
			t.Fatal("the primary is on SPDK")
		}
		if st := l.snapState(primary, s); !st.Found {
			t.Fatalf("round %d: %v", round, st)
		}
		_, sent := work.now()
		s.State = taken
		work.running(5)
		work.end()
		l.withdraw(primary)
		for _, s.Rollback = range []apiv1.SnapRollback{rollAsked, rollDone} {
			if st := l.snapState(primary, s); st.Error || st.Rolled != s.Rollback {
				t.Fatalf("round %d: rollback %v: %v", round, s.Rollback, st)
			}
		}
		s.Rollback = rollNone
		to := 1 // where vda_tgt is, in any case
		l.term++
		if primary != to {
			l.sync(primary, l.cntlr(primary, to)) // retires
		}
		l.fence(false)
		l.good(to, l.cntlr(to, to))
		l.good(1-to, l.cntlr(1-to, to))
		primary = to
		l.spec.Exps = []*apiv1.ExpSpec{e}
		n := l.exporter(round + 1)
		l.spec.Exps = []*apiv1.ExpSpec{n}
		l.all(primary)
		at := holds(t, l.connect(primary, n), acked, sent)
		holds(t, l.connect(1-primary, n), at, at)
	}
}
