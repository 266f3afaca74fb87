package cn_test

import (
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// TestSnapshotCallOutlivesItsAgent: the data plane goes on with a call for a snapshot
// whose agent has ended, or has waited for too long. Until it is done, nothing else is
// done about the array's snapshots, and SPDK's paths stay closed; then they open.
func TestSnapshotCallOutlivesItsAgent(t *testing.T) {
	for name, swaps := range map[string]bool{"vda_tgt": true, "SPDK": false} {
		for how, restarts := range map[string]bool{"restart": true, "no answer": false} {
			t.Run(name+" "+how, func(t *testing.T) {
				inBubble(t, 1, swaps, func(l *lab) { snapshotCallOutlivesItsAgent(l, swaps, restarts) })
			})
		}
	}
}

func snapshotCallOutlivesItsAgent(l *lab, swaps, restarts bool) {
	l.small()
	l.up(0)
	l.spec.Create = false
	p := l.cns[0].plane
	end, begun, count := make(chan struct{}), make(chan struct{}), 0
	p.SetHook(func(method string, _ map[string]any) error {
		if method == "bdev_lvol_snapshot" {
			if count++; count == 1 {
				close(begun)
				<-end
			}
		}
		return nil
	})
	s := l.snap(0)
	answered := make(chan *apiv1.SyncReply)
	c := l.cntlr(0, 0)
	go func() { answered <- l.sync(0, c) }()
	<-begun
	<-answered
	if restarts {
		l.cns[0].stop(l)
		l.cns[0].start(l)
	} else {
		time.Sleep(20 * time.Second)
	}
	closed := func() {
		want := spdk.ANAOptimized
		if !swaps {
			want = spdk.ANAInaccessible
		}
		if got := p.ANA(expNQN); got != want {
			l.Errorf("while it is being taken the path is %s, want %s", got, want)
		}
	}
	for _, s.State = range []apiv1.SnapState{asked, deleting} {
		for range 2 {
			for _, st := range l.sync(0, l.cntlr(0, 0)).States {
				if st.Id == s.Id && (!st.Error || st.Found || st.Gone) {
					l.Errorf("while it is being taken: %v", st)
				}
			}
			closed()
		}
	}
	close(end)
	time.Sleep(10 * time.Second)
	alias := "vda-da-" + daID + "/vda-snap-" + s.Id
	_, err := p.Client().BdevGet(l.Context(), alias, 0)
	if swaps {
		if st := l.snapState(0, s); st.Error || !st.Gone || !spdk.IsNoSuchDevice(err) {
			l.Errorf("its tombstone: %v; on media: %v", st, err)
		}
	} else if err != nil {
		l.Errorf("SPDK has not taken it: %v", err)
	}
	if got := p.ANA(expNQN); got != spdk.ANAOptimized || count != 1 {
		l.Errorf("the path is %s afterwards, and it was taken %d times", got, count)
	}
}

// TestSnapshotDoubtEnds: a call of which the next agent knows, and that never came to
// the data plane, keeps nothing from going on.
func TestSnapshotDoubtEnds(t *testing.T) {
	for name, swaps := range map[string]bool{"vda_tgt": true, "SPDK": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 1, swaps, func(l *lab) {
				l.small()
				l.up(0)
				l.spec.Create = false
				p, lost := l.cns[0].plane, true
				p.SetHook(func(method string, _ map[string]any) error {
					if method == "bdev_lvol_snapshot" && lost {
						lost = false
						return spdk.ErrLost
					}
					return nil
				})
				s := l.snap(0)
				l.sync(0, l.cntlr(0, 0))
				l.cns[0].stop(l)
				l.cns[0].start(l)
				if st := l.snapState(0, s); !st.Found || st.Error {
					l.Errorf("it is not taken: %v", st)
				}
				if got := p.ANA(expNQN); got != spdk.ANAOptimized {
					l.Errorf("the path is %s afterwards", got)
				}
			})
		})
	}
}

// TestOneSnapshotCallAtATime: while one snapshot of an array is being taken, no other
// is taken or deleted.
func TestOneSnapshotCallAtATime(t *testing.T) {
	for name, swaps := range map[string]bool{"vda_tgt": true, "SPDK": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 1, swaps, func(l *lab) {
				l.small()
				l.up(0)
				l.spec.Create = false
				end, count := make(chan struct{}), 0
				l.cns[0].plane.SetHook(func(method string, _ map[string]any) error {
					if method == "bdev_lvol_snapshot" {
						if count++; count == 1 {
							<-end
						}
					}
					return nil
				})
				first, second := l.snap(0), l.snap(1)
				for _, st := range l.sync(0, l.cntlr(0, 0)).States {
					if (st.Id == first.Id || st.Id == second.Id) && !st.Error {
						l.Errorf("%v", st)
					}
				}
				if count != 1 {
					l.Errorf("the data plane was told to take %d at once", count)
				}
				close(end)
				time.Sleep(10 * time.Second)
				if st := l.snapState(0, first); !st.Found {
					l.Errorf("the first: %v", st)
				}
				if st := l.snapState(0, second); st.Found != swaps { // SPDK takes one safely
					l.Errorf("the second: %v", st)
				}
			})
		})
	}
}
