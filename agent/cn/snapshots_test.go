package cn_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

const (
	asked    = apiv1.SnapState_SNAP_STATE_ASKED
	taken    = apiv1.SnapState_SNAP_STATE_TAKEN
	deleting = apiv1.SnapState_SNAP_STATE_DELETING
)

// snap adds a snapshot to the primary's spec.
func (l *lab) snap(n int) *apiv1.SnapSpec {
	s := &apiv1.SnapSpec{Id: id("5a", n), Name: string(rune('a' + n)), State: asked}
	l.spec.Snaps = append(l.spec.Snaps, s)
	return s
}

// snapState syncs the primary and returns what it says of a snapshot.
func (l *lab) snapState(primary int, s *apiv1.SnapSpec) *apiv1.ObjectState {
	l.Helper()
	for _, st := range l.settled(primary, l.cntlr(primary, primary)) {
		if st.Id == s.Id {
			return st
		}
	}
	l.Fatalf("cn%d says nothing of snapshot %s", primary, s.Name)
	return nil
}

// small makes the array one that has room for snapshots.
func (l *lab) small() { l.spec.Size = 4 << 20 }

// snapshots counts how often controller node i's data plane is told to take one.
func (l *lab) countSnapshots(i int) *int {
	n := new(int)
	l.cns[i].plane.SetHook(func(method string, _ map[string]any) error {
		if method == "bdev_lvol_snapshot" {
			*n++
		}
		return nil
	})
	return n
}

// TestSnapshotIsTakenOnce: a primary takes what is asked for and not
// there, and nothing twice.
func TestSnapshotIsTakenOnce(t *testing.T) { inBubble(t, 2, true, snapshotIsTakenOnce) }

func snapshotIsTakenOnce(l *lab) {
	t := l.T
	l.small()
	l.up(0)
	l.spec.Create = false
	first, second := l.countSnapshots(0), l.countSnapshots(1)
	s := l.snap(0)
	for range 2 { // as when the answer is lost
		if st := l.snapState(0, s); st.Error || !st.Found || st.HeldBytes != 4<<20 {
			t.Fatalf("the first primary says %v", st)
		}
	}
	l.checked()

	// The one who asked has not been answered when the primary dies: the next one
	// finds it.
	l.cns[0].stop(l)
	l.cns[0].plane.Kill()
	l.term++
	l.fence(false)
	if st := l.snapState(1, s); st.Error || !st.Found {
		t.Fatalf("the second primary says %v", st)
	}
	if *first != 1 || *second != 0 {
		t.Errorf("it was taken %d and %d times", *first, *second)
	}

	// Of one that has been answered for nothing is left on media.
	lost := l.snap(1)
	lost.State = taken
	if st := l.snapState(1, lost); !st.Error || !strings.Contains(st.ErrorMsg, "it is not taken again") || *second != 0 {
		t.Errorf("%v, taken %d times", st, *second)
	}
	lost.State = deleting
	if st := l.snapState(1, lost); st.Error || !st.Gone {
		t.Errorf("what is not there is not gone: %v", st)
	}
	s.State = deleting
	if st := l.snapState(1, s); st.Error || !st.Gone {
		t.Errorf("it is not deleted: %v", st)
	}
	if b, err := l.cns[1].plane.Client().BdevGet(t.Context(), "vda-da-"+daID+"/vda-snap-"+s.Id, 0); !spdk.IsNoSuchDevice(err) {
		t.Errorf("it is still there: %v, %v", b, err)
	}
}

// TestSnapshotThatIsCancelled: an order that becomes a tombstone before it is
// carried out takes none.
func TestSnapshotThatIsCancelled(t *testing.T) {
	inBubble(t, 1, true, func(l *lab) {
		l.small()
		l.up(0)
		l.spec.Create = false
		n := l.countSnapshots(0)
		s := l.snap(0)
		s.State = deleting
		if st := l.snapState(0, s); st.Error || !st.Gone || *n != 0 {
			l.Errorf("%v, taken %d times", st, *n)
		}
	})
}

// TestSnapshotNeedsRoom: an array that is not thin keeps its promise that all of it
// can be written.
func TestSnapshotNeedsRoom(t *testing.T) {
	inBubble(t, 1, true, func(l *lab) {
		l.up(0) // 16 MiB of 23
		l.spec.Create = false
		n := l.countSnapshots(0)
		s := l.snap(0)
		st := l.snapState(0, s)
		if !st.Error || st.Found || *n != 0 || !strings.Contains(st.ErrorMsg, "7340032 bytes of the disk array's physical size are free") ||
			!strings.Contains(st.ErrorMsg, "may need 16777216; delete a snapshot, or give the array a larger physical_size") {
			l.Errorf("%v, taken %d times", st, *n)
		}
	})
}

// TestSPDKIsQuietWhileASnapshotIsTaken: SPDK destroys an lvstore otherwise. Paths are
// closed, what was under way has ended, and they open again.
func TestSPDKIsQuietWhileASnapshotIsTaken(t *testing.T) {
	inBubble(t, 1, false, func(l *lab) {
		t := l.T
		l.small()
		second := l.exporter(1) // on the first, in a chain
		leaving := l.exporter(2)
		l.up(0)
		l.spec.Create = false
		leaving.Deleted = true // its hosts write until it has gone
		p := l.cns[0].plane
		drained, count := map[any]bool{}, 0
		p.SetHook(func(method string, a map[string]any) error {
			switch method {
			case "nvmf_subsystem_add_ns": // which waits for what is under way
				if ns, _ := a["namespace"].(map[string]any); ns["bdev_name"] == "vda-none" && p.ANA(a["nqn"].(string)) == spdk.ANAInaccessible {
					drained[a["nqn"]] = true
				}
			case "bdev_lvol_snapshot":
				count++
				for _, nqn := range []string{expNQN, second.Nqn, leaving.Nqn} {
					if p.ANA(nqn) != spdk.ANAInaccessible || !drained[nqn] {
						t.Errorf("a snapshot is taken while path %s is %s, drained %v", nqn, p.ANA(nqn), drained[nqn])
					}
				}
			}
			return nil
		})
		s := l.snap(0)
		if st := l.snapState(0, s); st.Error || !st.Found || count != 1 {
			t.Fatalf("%v, taken %d times", st, count)
		}
		for _, nqn := range []string{expNQN, second.Nqn} {
			if p.ANA(nqn) != spdk.ANAOptimized {
				t.Errorf("path %s is %s afterwards", nqn, p.ANA(nqn))
			}
		}
		// What SPDK cannot do safely is refused, and harms nothing.
		more := l.snap(1)
		st := l.snapState(0, more)
		if !st.Error || st.Found || count != 1 || !strings.Contains(st.ErrorMsg, "move the primary to a node that runs vda_tgt") {
			t.Errorf("%v, taken %d times", st, count)
		}
		more.State, s.State = deleting, deleting
		st = l.snapState(0, s)
		if !st.Error || st.Gone || !strings.Contains(st.ErrorMsg, "it is deleted when the primary is on a node that runs vda_tgt") {
			t.Errorf("%v", st)
		}
		if p.ANA(expNQN) != spdk.ANAOptimized {
			t.Errorf("the path is %s after a refusal", p.ANA(expNQN))
		}
	})
}

// TestSnapshotIsExported: from all controllers, under an identity of its own, and
// the volume stays what it was.
func TestSnapshotIsExported(t *testing.T) {
	for name, swaps := range map[string]bool{"vda_tgt": true, "SPDK": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 2, swaps, func(l *lab) {
				l.small()
				l.up(0)
				l.spec.Create = false
				s := l.snap(0)
				if st := l.snapState(0, s); !st.Found {
					l.Fatalf("%v", st)
				}
				s.State = taken
				e := l.exporter(1)
				e.SnapName, e.SnapId = s.Name, s.Id
				l.all(0)
				shows := func(i int, e *apiv1.ExpSpec) spdk.NvmfNamespace {
					subs, err := l.cns[i].plane.Client().NvmfGetSubsystems(l.Context())
					if err != nil {
						l.Fatal(err)
					}
					for _, sub := range subs {
						if sub.NQN == e.Nqn && len(sub.Namespaces) == 1 {
							return sub.Namespaces[0]
						}
					}
					l.Fatalf("cn%d does not export %s: %v", i, e.Name, l.states(i))
					return spdk.NvmfNamespace{}
				}
				b, err := l.cns[0].plane.Client().BdevGet(l.Context(), "vda-da-"+daID+"/vda-snap-"+s.Id, 0)
				if err != nil {
					l.Fatal(err)
				}
				live, snap := shows(0, l.spec.Exps[0]), shows(0, e)
				if snap.BdevName != b.Name || live.BdevName == b.Name || snap.NGUID == live.NGUID {
					l.Errorf("the snapshot's exporter shows %+v, the volume's %+v; the snapshot is %s", snap, live, b.Name)
				}
				if other := shows(1, e); other.BdevName != "vda-px-"+e.Id+"n1" || other.NGUID != snap.NGUID {
					l.Errorf("the secondary shows %+v", other)
				}
				// The roles change, and the exporters with them.
				l.standBy(1, 5e9)
				l.term++
				l.sync(0, l.cntlr(0, 1))
				l.fence(false)
				l.good(1, l.cntlr(1, 1))
				l.good(0, l.cntlr(0, 1))
				if now := shows(1, e); strings.HasPrefix(now.BdevName, "vda-px-") || now.NGUID != snap.NGUID {
					l.Errorf("the new primary shows %+v", now)
				}
				// Its exporter and the snapshot go in one order.
				if swaps {
					e.Deleted, s.State = true, deleting
					if st := l.snapState(1, s); !st.Gone {
						l.Errorf("%v", st)
					}
				}
			})
		})
	}
}

// TestSnapshotsAreDeletedInAnyOrder: what others stand on waits for them.
func TestSnapshotsAreDeletedInAnyOrder(t *testing.T) {
	inBubble(t, 1, true, func(l *lab) {
		l.small()
		l.up(0)
		l.spec.Create = false
		var all []*apiv1.SnapSpec
		for n := range 3 {
			s := l.snap(n)
			if st := l.snapState(0, s); !st.Found {
				l.Fatalf("%v", st)
			}
			s.State = taken
			all = append(all, s)
		}
		for _, n := range []int{1, 0, 2} {
			all[n].State = deleting
			if st := l.snapState(0, all[n]); st.Error || !st.Gone {
				l.Fatalf("snapshot %d: %v", n, st)
			}
			l.spec.Snaps = slices.DeleteFunc(l.spec.Snaps, func(s *apiv1.SnapSpec) bool { return s.Id == all[n].Id })
			for _, s := range l.spec.Snaps {
				if st := l.snapState(0, proto.CloneOf(s)); !st.Found {
					l.Errorf("after %d: %v", n, st)
				}
			}
		}
	})
}

// TestSnapshotThatWaitsHoldsNothingUp: one that others stand on is to go, and stays for as long as they do. Its
// node has nothing else to do, and says so.
func TestSnapshotThatWaitsHoldsNothingUp(t *testing.T) {
	inBubble(t, 1, true, func(l *lab) {
		l.small()
		l.up(0)
		l.spec.Create = false
		base, later := l.snap(0), (*apiv1.SnapSpec)(nil)
		l.snapState(0, base)
		base.State = taken
		later = l.snap(1)
		l.snapState(0, later)
		later.State = taken
		l.withdraw(0)
		for _, base.Rollback = range []apiv1.SnapRollback{rollAsked, rollDone} {
			if st := l.snapState(0, base); st.Error || st.Rolled != base.Rollback {
				l.Fatalf("rollback %v: %v", base.Rollback, st)
			}
		}
		base.Rollback, base.State = rollNone, deleting
		if st := l.snapState(0, base); !st.Error || !st.Done || st.Gone || !strings.Contains(st.ErrorMsg, "2 others stand on it") {
			l.Errorf("a snapshot on which another and the array stand: %v", st)
		}
		later.State = deleting
		for _, s := range []*apiv1.SnapSpec{base, later} {
			if st := l.snapState(0, s); st.Error || !st.Gone {
				l.Errorf("snapshot %s, when the other one is deleted too: %v", s.Name, st)
			}
		}
	})
}

// TestSnapshotIsStillBeingTaken: while the data plane is at it, as when I/O waits for
// a leg, the array is looked after; its tombstone is carried out only when the call
// has ended, and takes away what it made.
func TestSnapshotIsStillBeingTaken(t *testing.T) {
	for name, swaps := range map[string]bool{"vda_tgt": true, "SPDK": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 1, swaps, func(l *lab) {
				l.small()
				l.up(0)
				l.spec.Create = false
				p := l.cns[0].plane
				end, begun := make(chan struct{}), make(chan struct{})
				p.SetHook(func(method string, _ map[string]any) error {
					if method == "bdev_lvol_snapshot" {
						close(begun)
						<-end
					}
					return nil
				})
				s := l.snap(0)
				answered := make(chan *apiv1.SyncReply)
				go func() { answered <- l.sync(0, l.cntlr(0, 0)) }()
				<-begun
				// Another order of the array is carried out.
				e := l.exporter(1)
				e.InitiatorNqn = "nqn.2016-06.io.spdk:another"
				c := l.cntlr(0, 0)
				<-answered
				for _, st := range l.sync(0, c).States {
					if st.Id == s.Id && (!st.Error || st.Found) || st.Id != s.Id && st.Error {
						l.Errorf("while it is being taken: %v", st)
					}
				}
				want := spdk.ANAOptimized
				if !swaps {
					want = spdk.ANAInaccessible
				}
				if got := p.ANA(expNQN); got != want {
					l.Errorf("the path is %s, want %s", got, want)
				}
				s.State = deleting
				for _, st := range l.sync(0, l.cntlr(0, 0)).States {
					if st.Id == s.Id && (!st.Error || st.Gone) {
						l.Errorf("its tombstone, while it is being taken: %v", st)
					}
				}
				close(end)
				if swaps {
					if st := l.snapState(0, s); st.Error || !st.Gone {
						l.Errorf("its tombstone: %v", st)
					}
				}
				l.checked()
				if got := p.ANA(expNQN); got != spdk.ANAOptimized {
					l.Errorf("the path is %s afterwards", got)
				}
			})
		})
	}
}

// TestWhatSPDKRefusesOfSnapshots: the second one of an array, a second exporter of one, and to
// delete what the array stands on. Nothing is changed, and the reason is said.
func TestWhatSPDKRefusesOfSnapshots(t *testing.T) {
	inBubble(t, 1, false, func(l *lab) {
		l.small()
		l.up(0)
		l.spec.Create = false
		n := l.countSnapshots(0)
		first := l.snap(0)
		if st := l.snapState(0, first); st.Error || !st.Found {
			l.Fatalf("the first: %v", st)
		}
		first.State = taken
		second := l.snap(1)
		if st := l.snapState(0, second); !st.Error || st.Found || *n != 1 ||
			!strings.Contains(st.ErrorMsg, "is SPDK, which cannot safely take a snapshot of an array that has one already") {
			l.Errorf("the second: %v, %d were taken", st, *n)
		}
		second.State = deleting // as when it is given up
		if st := l.snapState(0, second); !st.Gone {
			l.Errorf("the second, given up: %v", st)
		}
		l.spec.Snaps = l.spec.Snaps[:1]
		var exps []*apiv1.ExpSpec
		for i := range 2 {
			e := l.exporter(1 + i)
			e.SnapName, e.SnapId = first.Name, first.Id
			exps = append(exps, e)
		}
		l.sync(0, l.cntlr(0, 0))
		if said := fmt.Sprint(l.states(0)); strings.Count(said, "is SPDK, which exports a snapshot once") != 1 ||
			!strings.Contains(said, "a is exported by exp1; run vda_tgt on this node") {
			l.Errorf("two exporters of a snapshot: %v", said)
		}
		exps[0].Deleted, exps[1].Deleted = true, true
		l.sync(0, l.cntlr(0, 0))
		first.State = deleting
		if st := l.snapState(0, first); !st.Error || st.Gone ||
			!strings.Contains(st.ErrorMsg, "is SPDK, which cannot safely delete a snapshot that the array stands on") {
			l.Errorf("the deletion: %v", st)
		}
	})
}
