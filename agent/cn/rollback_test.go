package cn_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda/agent/planetest"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

const (
	rollAsked = apiv1.SnapRollback_SNAP_ROLLBACK_ASKED
	rollDone  = apiv1.SnapRollback_SNAP_ROLLBACK_DONE
	rollNone  = apiv1.SnapRollback_SNAP_ROLLBACK_UNSPECIFIED
)

// withdraw ends all exporters of the volume and returns them as they were.
func (l *lab) withdraw(primary int) []*apiv1.ExpSpec {
	l.Helper()
	for _, e := range l.spec.Exps {
		e.Deleted = true
	}
	l.all(primary)
	was := l.spec.Exps
	l.spec.Exps = nil
	return was
}

// lvols are the names and parents of what an array's lvstore has, as controller node i
// shows it, and the volume's UUID.
func (l *lab) lvols(i int) (all string, volume string) {
	l.Helper()
	bdevs, err := l.cns[i].plane.Client().BdevGetBdevs(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	names := map[string]string{}
	for _, b := range bdevs {
		if _, name, is := strings.Cut(strings.Join(b.Aliases, ""), "/"); is && b.Lvol() != nil {
			name = strings.TrimSuffix(strings.TrimPrefix(name, "vda-"), "-"+daID)
			names[name] = name + "<" + b.Lvol().BaseSnapshot
			if name == "vol" {
				volume = b.UUID
			}
		}
	}
	return fmt.Sprint(names), volume
}

// TestRollback: the volume becomes a clone of the snapshot, once; what was on it before
// goes when that is recorded. An array that is shown to hosts stays as it is.
func TestRollback(t *testing.T) {
	for name, swaps := range map[string]bool{"vda_tgt": true, "SPDK": false} {
		t.Run(name, func(t *testing.T) { inBubble(t, 2, swaps, rollback) })
	}
}

func rollback(l *lab) {
	l.small()
	l.up(0)
	l.spec.Create = false
	s := l.snap(0)
	l.snapState(0, s)
	s.State, s.Rollback = taken, rollAsked
	before, volume := l.lvols(0)
	st := l.snapState(0, s)
	now, _ := l.lvols(0)
	if !st.Error || st.Rolled != rollNone || now != before || !strings.Contains(st.ErrorMsg, "exporter exp0 shows the disk array") {
		l.Errorf("%v, from %s to %s", st, before, now)
	}
	s.Rollback = rollNone
	exps := l.withdraw(0)
	s.Rollback = rollAsked
	for range 3 {
		if st := l.snapState(0, s); st.Error || st.Rolled != rollAsked {
			l.Errorf("%v", st)
		}
	}
	after, first := l.lvols(0)
	if !strings.Contains(after, "old-") || strings.Contains(after, "new-") || first == volume {
		l.Errorf("it has %s, and volume %s as before", after, first)
	}
	s.Rollback = rollDone
	for range 2 {
		if st := l.snapState(0, s); st.Error || st.Rolled != rollDone {
			l.Errorf("%v", st)
		}
	}
	if after, now := l.lvols(0); strings.Contains(after, "old-") || now != first || after != before {
		l.Errorf("it has %s, want %s, and volume %s, want %s", after, before, now, first)
	}
	s.Rollback = rollNone
	for _, e := range exps {
		e.Deleted = false
		e.Id, e.Nqn = e.Id[:31]+"9", e.Nqn+"-new"
	}
	l.spec.Exps = exps
	l.all(0)
}

// TestRollbackOutlivesItsPrimary: whichever process dies at whichever step, before it or
// after it, the next primary finishes the rollback, and does it once.
func TestRollbackOutlivesItsPrimary(t *testing.T) {
	steps := []string{"bdev_lvol_clone", "bdev_lvol_rename", "bdev_lvol_rename ", "bdev_lvol_delete"}
	for name, swaps := range map[string]bool{"vda_tgt": true, "SPDK": false} {
		for n, method := range steps {
			for _, carriedOut := range []bool{false, true} {
				for _, dies := range []string{"agent", "data plane", "both, and it moves"} {
					t.Run(fmt.Sprint(name, " step ", n, " carried out ", carriedOut, " ", dies), func(t *testing.T) {
						inBubble(t, 2, swaps, func(l *lab) { rollbackOutlives(l, method, carriedOut, dies) })
					})
				}
			}
		}
	}
}

func rollbackOutlives(l *lab, method string, carriedOut bool, dies string) {
	l.small()
	l.up(0)
	l.spec.Create = false
	s := l.snap(0)
	l.snapState(0, s)
	s.State = taken
	l.withdraw(0)
	before, volume := l.lvols(0)
	p := l.cns[0].plane
	died := l.diesIn(strings.TrimSpace(method), strings.Count(method, " "), carriedOut, dies) // a blank for each call that passes
	roll := func(i int, state apiv1.SnapRollback) {
		s.Rollback = state
		for range 20 {
			if st := l.snapState(i, s); !st.Error && st.Rolled == state {
				return
			}
			time.Sleep(time.Second)
		}
		l.Fatalf("rollback %v: %v", state, l.states(i))
	}
	primary := 0
	die := func() {
		if dies == "data plane" {
			p.Boot()
			return
		}
		l.cns[0].stop(l)
		if dies == "agent" {
			l.cns[0].start(l)
			return
		}
		primary = 1
		l.term++
		l.fence(false)
	}
	first := "" // the new volume
	s.Rollback = rollAsked
	if method == "bdev_lvol_delete" {
		roll(0, rollAsked)
		_, first = l.lvols(0)
		s.Rollback = rollDone
	}
	answered := make(chan struct{})
	c := l.cntlr(0, 0)
	go func() {
		defer close(answered)
		l.sync(0, c)
	}()
	<-died
	synctest.Wait() // the data plane has died, where it is to
	if dies == "data plane" {
		die()
		<-answered
	} else {
		<-answered
		die()
	}
	if method != "bdev_lvol_delete" {
		roll(primary, rollAsked)
		if now, _ := l.lvols(primary); !strings.Contains(now, "old-") || strings.Contains(now, "new-") {
			l.Errorf("it has %s", now)
		}
		_, first = l.lvols(primary)
	}
	roll(primary, rollDone)
	if now, uuid := l.lvols(primary); now != before || uuid == volume || uuid != first {
		l.Errorf("it has %s, want %s; volume %s, was %s, then %s", now, before, uuid, volume, first)
	}
}

// toRollBack has an array that is up on cn 0 and shown by no exporter, with a snapshot
// that has been taken.
func (l *lab) toRollBack() *apiv1.SnapSpec {
	l.small()
	l.up(0)
	l.spec.Create = false
	s := l.snap(0)
	l.snapState(0, s)
	s.State = taken
	l.withdraw(0)
	return s
}

// TestLeftoverOfARollback: what a rollback has left that the database does not know of,
// as one that was restored, is no sign that a later one has been carried out.
func TestLeftoverOfARollback(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		s := l.toRollBack()
		s.Rollback = rollAsked
		l.snapState(0, s)
		s.Rollback = rollNone // the database goes back to before the order
		l.snapState(0, s)
		if now, _ := l.lvols(0); strings.Contains(now, "old-") {
			t.Errorf("it has %s", now)
		}
		_, before := l.lvols(0)
		s.Rollback = rollAsked
		if st := l.snapState(0, s); st.Error || st.Rolled != rollAsked {
			t.Errorf("%v", st)
		}
		if _, now := l.lvols(0); now == before {
			t.Error("a rollback is said to be carried out, and the volume is the one of before")
		}
	})
}

// TestRollbackGivenUpHalfway: a rollback whose snapshot is deleted between its two
// renames gives the volume of before back, in one pass.
func TestRollbackGivenUpHalfway(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		s := l.toRollBack()
		_, volume := l.lvols(0)
		renames := 0
		p := l.cns[0].plane
		p.SetHook(func(m string, _ map[string]any) error {
			if m == "bdev_lvol_rename" {
				if renames++; renames == 2 {
					p.Kill()
					return spdk.ErrLost
				}
			}
			return nil
		})
		s.Rollback = rollAsked
		l.sync(0, l.cntlr(0, 0))
		p.SetHook(nil)
		s.State = deleting
		l.cns[0].stop(l)
		l.term++
		l.fence(false)
		for _, st := range l.settled(1, l.cntlr(1, 1)) {
			if st.Error {
				t.Errorf("%v", st)
			}
		}
		l.snapState(1, s)
		if now, uuid := l.lvols(1); uuid != volume {
			t.Errorf("it has %s, volume %s, want %s", now, uuid, volume)
		}
	})
}

// TestRollbackGivenUpUnreported: a rollback that is carried out, and whose snapshot is deleted
// before SQL knows, gives the volume of before back, also when the primary dies in the middle;
// one that SQL knows of stays.
func TestRollbackGivenUpUnreported(t *testing.T) {
	for name, dies := range map[string]int{"": 0, "at the first rename": 1, "at the second": 2} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 2, true, func(l *lab) {
				s := l.toRollBack()
				_, volume := l.lvols(0)
				s.Rollback = rollAsked
				if st := l.snapState(0, s); st.Error || st.Rolled != rollAsked {
					t.Fatal(st)
				}
				if _, uuid := l.lvols(0); uuid == volume {
					t.Fatal("it is not rolled back")
				}
				s.State = deleting
				primary := 0
				if dies > 0 {
					renames, p := 0, l.cns[0].plane
					p.SetHook(func(m string, _ map[string]any) error {
						if m == "bdev_lvol_rename" {
							if renames++; renames == dies {
								p.Kill()
								return spdk.ErrLost
							}
						}
						return nil
					})
					l.sync(0, l.cntlr(0, 0))
					p.SetHook(nil)
					l.cns[0].stop(l)
					l.term++
					l.fence(false)
					primary = 1
				}
				l.settled(primary, l.cntlr(primary, primary))
				if st := l.snapState(primary, s); st.Error || !st.Gone {
					t.Errorf("%v", st)
				}
				if now, uuid := l.lvols(primary); uuid != volume || strings.Contains(now, "old-") || strings.Contains(now, "new-") {
					t.Errorf("it has %s, volume %s, want %s alone", now, uuid, volume)
				}
			})
		})
	}
	inBubble(t, 2, true, func(l *lab) {
		s := l.toRollBack()
		s.Rollback = rollAsked
		l.snapState(0, s)
		_, rolled := l.lvols(0)
		s.Rollback, s.State = rollDone, deleting
		l.snapState(0, s)
		if now, uuid := l.lvols(0); uuid != rolled {
			t.Errorf("it has %s, volume %s, want %s", now, uuid, rolled)
		}
	})
}

// TestRollbackWhileAGrowthIsOpen: a growth for which there is no room is not carried out
// by a rollback, nor does the array become smaller than it was.
func TestRollbackWhileAGrowthIsOpen(t *testing.T) {
	inBubble(t, 2, true, func(l *lab) {
		s := l.toRollBack()
		l.spec.Size = 6 << 20
		l.good(0, l.cntlr(0, 0))
		for _, size := range []uint64{40 << 20, 5 << 20} { // more than there is room for; of a database that went back
			l.spec.Size = size
			for _, s.Rollback = range []apiv1.SnapRollback{rollAsked, rollDone, rollNone} {
				if st := l.snapState(0, s); st.Error || st.Rolled != s.Rollback {
					t.Errorf("%v", st)
				}
			}
			l.volumeIs(0, 6<<20)
		}
	})
}

// TestRollbackOfAGrownArrayOnSPDK: older SPDKs read past the end of what such a volume would stand
// on. Nothing is changed, and the reason is said.
func TestRollbackOfAGrownArrayOnSPDK(t *testing.T) {
	inBubble(t, 2, false, func(l *lab) {
		s := l.toRollBack()
		vol := "vda-da-" + daID + "/vda-vol-" + daID
		if err := l.cns[0].plane.Client().BdevLvolResize(l.Context(), vol, 6); err != nil { // as a primary on vda_tgt has done
			l.Fatal(err)
		}
		l.spec.Size = 6 << 20
		before, volume := l.lvols(0)
		s.Rollback = rollAsked
		st := l.snapState(0, s)
		for _, part := range []string{"SPDK", "6291456", "4194304", "before it grew", "vda_tgt"} {
			if !st.Error || st.Rolled != rollNone || !strings.Contains(st.ErrorMsg, part) {
				t.Errorf("%v lacks %q", st, part)
			}
		}
		if now, v := l.lvols(0); now != before || v != volume {
			t.Errorf("it has %s and volume %s, want %s and %s", now, v, before, volume)
		}
	})
}

// TestSnapshotWhileAGrowthIsOpen: it is said to have the size that it shows.
func TestSnapshotWhileAGrowthIsOpen(t *testing.T) {
	inBubble(t, 1, true, func(l *lab) {
		l.small()
		l.up(0)
		l.spec.Create = false
		l.cns[0].plane.SetHook(func(method string, _ map[string]any) error {
			if method == "vda_lvol_grow" {
				return planetest.Refuse(syscall.EBUSY)
			}
			return nil
		})
		l.spec.Size = 6 << 20
		s := l.snap(0)
		if st := l.snapState(0, s); !st.Found || st.SizeBytes != 4<<20 {
			t.Errorf("%v, want 4194304 bytes", st)
		}
	})
}

// TestRenameUnderWay: while the data plane renames the volume, which takes as long as its
// metadata takes to be written, it has both names. That is no rollback carried out, and
// what is to go under one of them is not the volume.
func TestRenameUnderWay(t *testing.T) {
	for _, prefix := range []string{"vda-old-", "vda-new-"} {
		t.Run(prefix, func(t *testing.T) {
			inBubble(t, 2, true, func(l *lab) {
				l.small()
				l.up(0)
				l.spec.Create = false
				s := l.snap(0)
				l.snapState(0, s)
				s.State = taken
				l.withdraw(0)
				_, volume := l.lvols(0)
				if prefix == "vda-new-" { // the second rename; given up, the array is what it was before
					s.Rollback = rollAsked
					l.snapState(0, s)
				}
				renaming := func(on bool) {
					l.cns[0].plane.Renaming("vda-da-"+daID+"/vda-vol-"+daID, "vda-da-"+daID+"/"+prefix+s.Id, on)
				}
				renaming(true)
				s.Rollback = rollAsked
				if st := l.snapState(0, s); !strings.Contains(st.ErrorMsg, "still renaming the volume") {
					t.Errorf("%s: %v", prefix, st)
				}
				s.State = deleting
				if st := l.snapState(0, s); !strings.Contains(st.ErrorMsg, "still renaming the volume") {
					t.Errorf("%s: deleted: %v", prefix, st)
				}
				renaming(false)
				l.sync(0, l.cntlr(0, 0))
				if now, uuid := l.lvols(0); uuid != volume {
					t.Errorf("%s: it has %s", prefix, now)
				}
			})
		})
	}
}
