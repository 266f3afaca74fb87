package cn_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/spdk"
)

// TestSnapshotOutlivesItsPrimary: whichever process dies while a snapshot is taken or
// deleted, before it is done on media or after, the next primary has it whole when the
// order stands, and not at all when the order was cancelled meanwhile.
func TestSnapshotOutlivesItsPrimary(t *testing.T) {
	for name, swaps := range map[string]bool{"vda_tgt": true, "SPDK": false} {
		for _, method := range []string{"bdev_lvol_snapshot", "bdev_lvol_delete"} {
			if !swaps && method == "bdev_lvol_delete" {
				continue // SPDK refuses that
			}
			for _, carriedOut := range []bool{false, true} {
				for _, cancelled := range []bool{false, true} {
					if !swaps && cancelled && carriedOut {
						continue // nor does it delete what it has taken
					}
					for _, dies := range []string{"agent", "data plane", "both, and it moves"} {
						what := fmt.Sprint(name, " ", method, " carried out ", carriedOut, " cancelled ", cancelled, " ", dies)
						t.Run(what, func(t *testing.T) {
							inBubble(t, 2, swaps, func(l *lab) { snapshotOutlives(l, method, carriedOut, cancelled, dies) })
						})
					}
				}
			}
		}
	}
}

// diesIn has a process of cn0 die in the call of a method, behind so many that pass: its data plane
// now, unless it is the agent, which the caller ends when it is told.
func (l *lab) diesIn(method string, pass int, carriedOut bool, dies string) (died chan struct{}) {
	died = make(chan struct{})
	p := l.cns[0].plane
	var mu sync.Mutex
	hit := false
	p.SetHook(func(m string, _ map[string]any) error {
		mu.Lock()
		defer mu.Unlock()
		if m != method || hit {
			return nil
		}
		if pass--; pass >= 0 {
			return nil
		}
		hit = true
		if dies != "agent" {
			p.Kill()
		}
		close(died) // the next one is started from then on
		if carriedOut {
			return nil
		}
		return spdk.ErrLost
	})
	return died
}

func snapshotOutlives(l *lab, method string, carriedOut, cancelled bool, dies string) {
	l.small()
	l.up(0)
	l.spec.Create = false
	s := l.snap(0)
	if method == "bdev_lvol_delete" {
		l.snapState(0, s)
		s.State = deleting
	}
	p, died := l.cns[0].plane, l.diesIn(method, 0, carriedOut, dies)
	answered, c := make(chan struct{}), l.cntlr(0, 0)
	go func() {
		defer close(answered)
		l.sync(0, c)
	}()
	<-died
	synctest.Wait() // the data plane has died, where it is to
	primary := 0
	switch dies {
	case "data plane":
		p.Boot()
		<-answered
	case "agent":
		<-answered
		l.cns[0].stop(l)
		l.cns[0].start(l)
	default:
		<-answered
		l.cns[0].stop(l)
		primary = 1
		l.term++
		l.fence(false)
	}
	if cancelled {
		s.State = deleting
	}
	var st *apiv1.ObjectState
	for range 20 {
		if st = l.snapState(primary, s); !st.Error {
			break
		}
	}
	gone := s.State == deleting
	all, _ := l.lvols(primary)
	if st.Error || st.Gone != gone || st.Found == gone || strings.Contains(all, "snap-"+s.Id+":") == gone {
		l.Errorf("%v, and it has %s", st, all)
	}
	if got := l.cns[primary].plane.ANA(expNQN); got != spdk.ANAOptimized {
		l.Errorf("the path is %s", got)
	}
}
