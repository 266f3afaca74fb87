//go:build rounds

package cn_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// rounds is how often TestRounds goes round: a few times, or as SNAPSHOT_ROUNDS says.
func rounds(t *testing.T) int {
	if v := os.Getenv("SNAPSHOT_ROUNDS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatalf("SNAPSHOT_ROUNDS: %v", err)
		}
		return n
	}
	return 3
}

// TestRounds: rounds of a snapshot under writes through both controllers, more writes, a
// failover under them, and a rollback; after each the array is what the snapshot shows,
// through both controllers, and the snapshot goes. With cn0 on SPDK, every other round takes
// its snapshot there and is rolled back on vda_tgt, and the others the other way round: SPDK
// refuses to delete what the array stands on, which vda_tgt then deletes.
func TestRounds(t *testing.T) { planes(t, goRound) }

func goRound(t *testing.T, spdkDN, spdkCN bool) {
	l, _, _ := reals(t, 2, false, spdkDN, spdkCN)
	l.small()
	l.leased()
	l.up(0)
	l.spec.Create = false
	primary := 0
	leave := func(to int) (was int) {
		was, primary = primary, to
		l.term++
		l.sync(was, l.cntlr(was, to))
		l.fence(false)
		return was
	}
	move := func(to int) {
		t.Helper()
		was := leave(to)
		l.good(to, l.cntlr(to, to))
		l.good(was, l.cntlr(was, to))
	}
	refused := 0
	for round := range rounds(t) {
		if want := round % 2; primary != want {
			move(want)
		}
		e := l.spec.Exps[0]
		// The numbers begin again.
		if err := l.connect(primary, e).WriteAt(t.Context(), make([]byte, offsetOf(0, blocks)), 0); err != nil {
			t.Fatal(err)
		}
		work := startLedger(l.multipathOf(e))
		work.running(3)
		acked, _ := work.now()
		s := l.snap(round)
		s.Name = fmt.Sprint("s", round)
		if st := l.snapState(primary, s); st.Error || !st.Found {
			t.Fatalf("round %d: %v", round, st)
		}
		_, sent := work.now()
		s.State = taken
		work.running(5)
		move(1 - primary)
		work.running(3)
		work.end()
		l.withdraw(primary)
		for _, s.Rollback = range []apiv1.SnapRollback{rollAsked, rollDone} {
			if st := l.snapState(primary, s); st.Error || st.Rolled != s.Rollback {
				t.Fatalf("round %d: rollback %v: %v", round, s.Rollback, st)
			}
		}
		s.Rollback = rollNone
		l.spec.Exps = []*apiv1.ExpSpec{e}
		n := l.exporter(round + 1)
		n.Nqn = fmt.Sprint(expNQN, "-r", round)
		l.spec.Exps = []*apiv1.ExpSpec{n}
		l.all(primary)
		at := holds(t, l.connect(primary, n), acked, sent)
		holds(t, l.connect(1-primary, n), at, at)
		s.State = deleting
		if spdkCN && primary == 0 {
			if st := l.snapState(primary, s); !st.Error || st.Gone || !strings.Contains(st.ErrorMsg, "vda_tgt") {
				t.Fatalf("round %d: SPDK deletes what the array stands on: %v", round, st)
			}
			refused++
			leave(1)
		}
		if st := l.snapState(primary, s); st.Error || !st.Gone {
			t.Fatalf("round %d: %v", round, st)
		}
		l.spec.Snaps = nil
		l.all(primary)
		holds(t, l.connect(primary, n), at, at)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	t.Logf("%d rounds without a difference; SPDK refused %d deletions", rounds(t), refused)
}

// TestSnapshotPause takes snapshots under 32 writes at a time and tells the longest write
// about each, and of writes without one; it holds no time against the machine, but every
// write ends well.
func TestSnapshotPause(t *testing.T) {
	t.Parallel()
	const depth = 32
	l, _, _ := reals(t, 1, false, false, false)
	l.small()
	l.leased()
	l.up(0)
	l.spec.Create = false
	ns := l.disk(0)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var mu sync.Mutex
	longest := time.Duration(0)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range depth {
		wg.Go(func() {
			buf := make([]byte, 4096)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				begin := time.Now()
				if err := ns.WriteAt(ctx, buf, int64((w*8+n%8)*4096)); err != nil {
					t.Errorf("a write: %v", err)
					return
				}
				took := time.Since(begin)
				mu.Lock()
				longest = max(longest, took)
				mu.Unlock()
			}
		})
	}
	window := func() (d time.Duration) {
		time.Sleep(20 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		d, longest = longest, 0
		return d
	}
	var without, with []time.Duration
	for i := range rounds(t) * 2 {
		window()
		without = append(without, window())
		s := l.snap(i)
		s.Name = fmt.Sprint("s", i)
		if st := l.snapState(0, s); st.Error || !st.Found {
			t.Fatal(st)
		}
		with = append(with, window())
		s.State = deleting
		if st := l.snapState(0, s); st.Error || !st.Gone {
			t.Fatal(st)
		}
		l.spec.Snaps = nil
	}
	close(stop)
	wg.Wait()
	for what, d := range map[string][]time.Duration{"with a snapshot": with, "without": without} {
		slices.Sort(d)
		t.Logf("the longest of %d writes at a time, %s: median %v, p99 %v, of %d", depth, what, d[len(d)/2], d[len(d)*99/100], len(d))
	}
}
