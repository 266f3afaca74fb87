package cn_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// countClones counts how often controller node i's data plane is told to make a clone of a snapshot.
func (l *lab) countClones(i int) *int {
	n := new(int)
	l.cns[i].plane.SetHook(func(method string, _ map[string]any) error {
		if method == "bdev_lvol_clone" {
			*n++
		}
		return nil
	})
	return n
}

// shot is a snapshot that is taken.
func (l *lab) shot(primary int) *apiv1.SnapSpec {
	l.Helper()
	s := l.snap(0)
	l.found(primary, s)
	s.State = taken
	return s
}

// found waits until a snapshot is there: on a busy machine the data plane may be at it for longer than a
// pass waits.
func (l *lab) found(primary int, s *apiv1.SnapSpec) {
	l.Helper()
	planetest.Eventually(l, func() string {
		if st := l.snapState(primary, s); st.Error || !st.Found {
			return st.String()
		}
		return ""
	})
}

// TestWritableSnapshotIsMadeOnce: a primary makes what is asked for and not there; the next one
// finds it. Of one that has been answered for and is not there none is made again: hosts have written
// to it.
func TestWritableSnapshotIsMadeOnce(t *testing.T) {
	for name, swaps := range map[string]bool{"vda_tgt": true, "SPDK": false} {
		t.Run(name, func(t *testing.T) { inBubble(t, 2, swaps, writableIsMadeOnce) })
	}
}

func writableIsMadeOnce(l *lab) {
	t := l.T
	l.small()
	l.up(0)
	l.spec.Create = false
	s := l.shot(0)
	first, second := l.countClones(0), l.countClones(1)
	c := l.writable(1, s)
	for range 2 { // as when the answer is lost
		if st := l.snapState(0, c); st.Error || !st.Found || st.HeldBytes != 0 || st.SizeBytes != l.spec.Size {
			t.Fatalf("the first primary says %v", st)
		}
	}
	if all, _ := l.lvols(0); !strings.Contains(all, "wsnap-"+c.Id+"<vda-snap-"+s.Id) {
		t.Errorf("it is not a clone of its snapshot: %s", all)
	}
	l.cns[0].stop(l)
	l.cns[0].plane.Kill()
	l.term++
	l.fence(false)
	if st := l.snapState(1, c); st.Error || !st.Found {
		t.Fatalf("the second primary says %v", st)
	}
	if *first != 1 || *second != 0 {
		t.Errorf("it was made %d and %d times", *first, *second)
	}
	lost := l.writable(2, s)
	lost.Clone.State = taken
	if st := l.snapState(1, lost); !st.Error || !strings.Contains(st.ErrorMsg, "it is not made again") || *second != 0 {
		t.Errorf("%v, made %d times", st, *second)
	}
	l.spec.Snaps = l.spec.Snaps[:2]
	without := l.writable(3, &apiv1.SnapSpec{Id: "00000000000000000000000000000000"})
	if st := l.snapState(1, without); !st.Error || !strings.Contains(st.ErrorMsg, "the snapshot that it is to be a clone of is not found") {
		t.Errorf("without a snapshot: %v", st)
	}
	l.spec.Snaps = l.spec.Snaps[:2]
	c.Clone.State = deleting
	if st := l.snapState(1, c); st.Error || !st.Gone {
		t.Errorf("it is not deleted: %v", st)
	}
	if all, _ := l.lvols(1); strings.Contains(all, "wsnap-") || !strings.Contains(all, "snap-"+s.Id) {
		t.Errorf("left is %s", all)
	}
}

// TestWritableSnapshotOutlivesItsPrimary: whichever process dies while one is made or deleted, before
// it is done on media or after, the next primary has it when the order stands, and not when the order was
// cancelled meanwhile.
func TestWritableSnapshotOutlivesItsPrimary(t *testing.T) {
	for _, method := range []string{"bdev_lvol_clone", "bdev_lvol_delete"} {
		for _, carriedOut := range []bool{false, true} {
			for _, cancelled := range []bool{false, true} {
				for _, dies := range []string{"agent", "data plane", "both, and it moves"} {
					t.Run(fmt.Sprint(method, " carried out ", carriedOut, " cancelled ", cancelled, " ", dies), func(t *testing.T) {
						inBubble(t, 2, true, func(l *lab) { writableOutlives(l, method, carriedOut, cancelled, dies) })
					})
				}
			}
		}
	}
}

func writableOutlives(l *lab, method string, carriedOut, cancelled bool, dies string) {
	l.small()
	l.up(0)
	l.spec.Create = false
	s := l.shot(0)
	c := l.writable(1, s)
	if method == "bdev_lvol_delete" {
		l.snapState(0, c)
		c.Clone.State = deleting
	}
	p, died := l.cns[0].plane, l.diesIn(method, 0, carriedOut, dies)
	answered, sent := make(chan struct{}), l.cntlr(0, 0)
	go func() {
		defer close(answered)
		l.sync(0, sent)
	}()
	<-died
	synctest.Wait() // the data plane has died, where it is to
	<-answered
	primary := 0
	switch dies {
	case "data plane":
		p.Boot()
	case "agent":
		l.cns[0].stop(l)
		l.cns[0].start(l)
	default:
		l.cns[0].stop(l)
		primary = 1
		l.term++
		l.fence(false)
	}
	if cancelled {
		c.Clone.State = deleting
	}
	var st *apiv1.ObjectState
	for range 20 {
		if st = l.snapState(primary, c); !st.Error {
			break
		}
	}
	gone := c.Clone.State == deleting
	all, _ := l.lvols(primary)
	if st.Error || st.Gone != gone || st.Found == gone || strings.Contains(all, "wsnap-"+c.Id+":") == gone {
		l.Errorf("%v, and it has %s", st, all)
	}
}

// TestWritableSnapshotNeedsRoom: an array that is not thin keeps room for all that hosts may write to
// it and to its writable snapshots: none is made, and none is taken beside one, where there is less.
func TestWritableSnapshotNeedsRoom(t *testing.T) {
	inBubble(t, 1, true, func(l *lab) {
		l.spec.Size = 7 << 20 // of 23
		l.up(0)
		l.spec.Create = false
		s := l.shot(0) // 7 for it, 7 for the array: 9 are left
		c := l.writable(1, s)
		if st := l.snapState(0, c); st.Error || !st.Found {
			l.Fatal(st)
		}
		c.Clone.State = taken
		another := l.writable(2, s)
		st := l.snapState(0, another)
		if !st.Error || !strings.Contains(st.ErrorMsg, "16777216 bytes of the disk array's physical size are free, and writes after it may "+
			"need 22020096; delete a snapshot, or give the array a larger physical_size") {
			l.Errorf("a second one: %v", st)
		}
		l.spec.Snaps = l.spec.Snaps[:2]
		// With 10 of the array and 7 of the writable one 17 are needed.
		l.spec.Size = 10 << 20
		if got := l.growthError(0, 10<<20); !strings.Contains(got, "16777216 bytes of its physical size are free, and it may need "+
			"17825792 more") {
			l.Errorf("a growth too far: %q", got)
		}
		st = l.snapState(0, l.snap(3))
		if !st.Error || !strings.Contains(st.ErrorMsg, "writes after the snapshot may need 17825792;") {
			l.Errorf("a snapshot too many: %v", st)
		}
	})
	t.Run("thin", func(t *testing.T) {
		inBubble(t, 1, true, func(l *lab) {
			l.spec.Size, l.spec.Thin = 64<<20, true
			l.up(0)
			l.spec.Create = false
			s := l.shot(0)
			for n := range 3 {
				if st := l.snapState(0, l.writable(1+n, s)); st.Error || !st.Found {
					l.Errorf("number %d: %v", n, st)
				}
			}
		})
	})
}

// TestSPDKIsQuietWhileAWritableSnapshotIsMade: no path through which hosts write is open while SPDK
// changes which lvols there are, neither of the array nor of another writable snapshot; and they open again.
func TestSPDKIsQuietWhileAWritableSnapshotIsMade(t *testing.T) {
	inBubble(t, 1, false, func(l *lab) {
		t := l.T
		l.small()
		l.up(0)
		l.spec.Create = false
		s := l.shot(0)
		c := l.writable(1, s)
		if st := l.snapState(0, c); st.Error || !st.Found {
			t.Fatal(st)
		}
		c.Clone.State = taken
		more := l.writable(3, s)
		if st := l.snapState(0, more); st.Error || !st.Found {
			t.Fatal(st)
		}
		more.Clone.State = taken
		e, look, leaving := l.show(1, c), l.show(2, s), l.show(3, more)
		l.all(0)
		leaving.Deleted, leaving.SnapId = true, "" // its hosts write until it has gone, whatever has become of what it shows
		p := l.cns[0].plane
		var open atomic.Int32
		p.SetHook(func(method string, _ map[string]any) error {
			if method == "bdev_lvol_clone" {
				if p.ANA(expNQN) != spdk.ANAInaccessible || p.ANA(e.Nqn) != spdk.ANAInaccessible ||
					p.ANA(leaving.Nqn) != spdk.ANAInaccessible {
					open.Add(1)
				}
				if p.ANA(look.Nqn) != spdk.ANAOptimized {
					t.Error("the path to a snapshot that takes no writes is closed")
				}
			}
			return nil
		})
		if st := l.snapState(0, l.writable(2, s)); st.Error || !st.Found || open.Load() != 0 {
			t.Errorf("%v; paths were open: %d", st, open.Load())
		}
		for _, nqn := range []string{expNQN, e.Nqn, look.Nqn} {
			if got := p.ANA(nqn); got != spdk.ANAOptimized {
				t.Errorf("afterwards the path of %s is %s", nqn, got)
			}
		}
	})
}

// made is a snapshot of the array, and a writable one that was made of it.
func (l *lab) made() (s, c *apiv1.SnapSpec) {
	l.Helper()
	s = l.shot(0)
	c = l.writable(1, s)
	if st := l.snapState(0, c); st.Error || !st.Found {
		l.Fatal(st)
	}
	c.Clone.State = taken
	return s, c
}

// TestLimitsOfAWritableSnapshot: it has the array's limits, for itself, when hosts get to it, after a
// change, and on the next primary; one that hosts do not get to has none.
func TestLimitsOfAWritableSnapshot(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		l.small()
		l.spec.Limits = &apiv1.Limits{RMbytesPerSec: 3}
		l.up(0)
		l.spec.Create = false
		_, c := l.made()
		is := func(i int, want uint64) {
			l.Helper()
			b, err := l.cns[i].plane.Client().BdevGet(l.Context(), "vda-da-"+daID+"/vda-wsnap-"+c.Id, 0)
			if err != nil {
				l.Fatal(err)
			}
			if got := b.AssignedRateLimits; got != (spdk.RateLimits{RMbytesPerSec: want}) {
				l.Errorf("on cn%d it has the limits %+v, want %d", i, got, want)
			}
		}
		l.all(0)
		is(0, 0)
		l.show(1, c)
		l.all(0)
		is(0, 3)
		l.spec.Limits = &apiv1.Limits{RMbytesPerSec: 4}
		l.all(0)
		is(0, 4)
		l.move(0, 1)
		is(1, 4)
	})
}

// TestSPDKIsQuietWhileAnArrayIsRolledBack: nobody writes to an array that is rolled back, but hosts may to
// a writable snapshot beside it: its paths are closed while SPDK changes which lvols there are, and open again.
func TestSPDKIsQuietWhileAnArrayIsRolledBack(t *testing.T) {
	inBubble(t, 1, false, func(l *lab) {
		l.small()
		l.up(0)
		l.spec.Create = false
		s, c := l.made()
		e := l.show(1, c)
		l.all(0)
		l.spec.Exps[0].Deleted = true
		l.all(0)
		p, calls := l.cns[0].plane, 0
		p.SetHook(func(method string, _ map[string]any) error {
			if method == "bdev_lvol_clone" || method == "bdev_lvol_rename" {
				if calls++; p.ANA(e.Nqn) != spdk.ANAInaccessible {
					l.Errorf("%s while the path of the writable snapshot is %s", method, p.ANA(e.Nqn))
				}
			}
			return nil
		})
		s.Rollback = rollAsked
		if st := l.snapState(0, s); st.Error || st.Rolled != rollAsked || calls != 3 {
			l.Errorf("%v, by %d calls", st, calls)
		}
		if got := p.ANA(e.Nqn); got != spdk.ANAOptimized {
			l.Errorf("afterwards its path is %s", got)
		}
		if all, _ := l.lvols(0); !strings.Contains(all, "wsnap-"+c.Id+"<vda-snap-"+s.Id) {
			l.Errorf("the writable snapshot is not what it was: %s", all)
		}
	})
}

// TestLimitsOfAWritableSnapshotOnSPDK, which changes limits only of what is exported: those of a writable
// snapshot that is exported again are set once it is, and those of an array that is not wait, whatever of
// its writable snapshots.
func TestLimitsOfAWritableSnapshotOnSPDK(t *testing.T) {
	inBubble(t, 1, false, func(l *lab) {
		l.small()
		l.spec.Limits = &apiv1.Limits{RMbytesPerSec: 3}
		l.up(0)
		l.spec.Create = false
		_, c := l.made()
		are := func(when string, volume, writable uint64) {
			l.Helper()
			client := l.cns[0].plane.Client()
			b, err := client.BdevGet(l.Context(), "vda-da-"+daID+"/vda-wsnap-"+c.Id, 0)
			if err != nil {
				l.Fatal(err)
			}
			if of := l.limits(client); of.RMbytesPerSec != volume || b.AssignedRateLimits.RMbytesPerSec != writable {
				l.Errorf("%s the limits are %d and %d, want %d and %d", when, of.RMbytesPerSec, b.AssignedRateLimits.RMbytesPerSec, volume,
					writable)
			}
		}
		e := l.show(1, c)
		l.all(0)
		are("exported,", 3, 3)
		l.spec.Limits = &apiv1.Limits{RMbytesPerSec: 5}
		l.all(0)
		are("changed,", 5, 5)
		e.Deleted = true
		l.all(0)
		l.spec.Limits = &apiv1.Limits{RMbytesPerSec: 7}
		l.all(0)
		are("without its exporter,", 7, 5)
		e.Deleted = false
		l.all(0)
		are("exported again,", 7, 7)
		l.spec.Exps[0].Deleted = true
		l.all(0)
		l.spec.Limits = &apiv1.Limits{RMbytesPerSec: 9}
		var bad []string
		for _, st := range l.settled(0, l.cntlr(0, 0)) {
			if st.Error {
				bad = append(bad, st.ErrorMsg)
			}
		}
		if len(bad) != 1 || !strings.Contains(bad[0], "SPDK, does that only while the array is exported") {
			l.Errorf("without an exporter of the array: %q", bad)
		}
		are("without an exporter of the array,", 7, 9)
		l.spec.Exps[0].Deleted = false
		l.all(0)
		are("with one again,", 9, 9)
	})
}
