package cn_test

import (
	"context"
	"strings"
	"testing"
	"time"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

const together = apiv1.SnapState_SNAP_STATE_TOGETHER

func (l *lab) hold(s *apiv1.SnapSpec, term uint64) error {
	n := l.cns[0]
	_, err := n.a.HoldSnap(context.Background(), &apiv1.HoldSnapRequest{ClusterId: cluster, NodeId: n.id, DaId: daID, Term: term, SnapId: s.Id,
		LimitMs: 10000})
	return err
}

func (l *lab) release(s *apiv1.SnapSpec) *apiv1.ReleaseSnapReply {
	l.Helper()
	n := l.cns[0]
	r, err := n.a.ReleaseSnap(context.Background(), &apiv1.ReleaseSnapRequest{ClusterId: cluster, NodeId: n.id, DaId: daID, SnapId: s.Id})
	if err != nil {
		l.Fatal(err)
	}
	return r
}

// TestSnapshotTogetherIsTakenByItsCall: passes leave it alone, and the call takes it while it
// is to be taken, by the primary of that term, and never after its tombstone.
func TestSnapshotTogetherIsTakenByItsCall(t *testing.T) {
	inBubble(t, 1, true, func(l *lab) {
		l.small()
		l.up(0)
		l.spec.Create = false
		taken := 0
		l.cns[0].plane.SetHook(func(method string, _ map[string]any) error {
			if strings.HasPrefix(method, "bdev_lvol_snapshot") || method == "vda_lvol_snapshot_hold" {
				taken++
			}
			return nil
		})
		s := l.snap(0)
		s.State = together
		if st := l.snapState(0, s); st.Error || st.Found || taken != 0 {
			l.Fatalf("a pass has taken it: %v, %d", st, taken)
		}
		if err := l.hold(s, l.term+1); err == nil || !strings.Contains(err.Error(), "in term 2 is not here") {
			l.Errorf("in another term: %v", err)
		}
		if err := l.hold(s, l.term); err != nil || taken != 1 {
			l.Fatalf("%v, taken %d times", err, taken)
		}
		if st := l.snapState(0, s); st.Error || st.Found || taken != 1 {
			l.Errorf("a pass says %v", st)
		}
		// A monitor of the release before knows no such state. It would record as taken what is found.
		s.State = apiv1.SnapState_SNAP_STATE_UNSPECIFIED
		if st := l.snapState(0, s); st.Error || st.Found || taken != 1 {
			l.Errorf("a pass says to a monitor of the release before: %v", st)
		}
		if r := l.release(s); !r.InForce {
			l.Errorf("the hold: %v", r)
		}
		s.State = apiv1.SnapState_SNAP_STATE_TAKEN
		if st := l.snapState(0, s); st.Error || !st.Found || taken != 1 {
			l.Errorf("taken: %v, %d times", st, taken)
		}

		// Nobody releases this one.
		t2 := l.snap(1)
		t2.State = together
		l.snapState(0, t2)
		if err := l.hold(t2, l.term); err != nil {
			l.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		if r := l.release(t2); r.InForce || r.HeldUs == 0 {
			l.Errorf("a hold that has ended: %v", r)
		}
		t2.State = deleting
		if st := l.snapState(0, t2); st.Error || !st.Gone {
			l.Errorf("deleting: %v", st)
		}
		if err := l.hold(t2, l.term); err == nil || !strings.Contains(err.Error(), "is not to be taken") || taken != 2 {
			l.Errorf("after its tombstone: %v, taken %d times", err, taken)
		}
		if r := l.release(t2); r.InForce {
			l.Errorf("there is no hold: %v", r)
		}
	})
}

// TestSnapshotTogetherOnSPDK: it cannot hold I/O, and says so.
func TestSnapshotTogetherOnSPDK(t *testing.T) {
	inBubble(t, 1, false, func(l *lab) {
		l.small()
		l.up(0)
		l.spec.Create = false
		s := l.snap(0)
		s.State = together
		l.snapState(0, s)
		if err := l.hold(s, l.term); err == nil || !strings.Contains(err.Error(), "its primary's data plane is SPDK, which cannot hold") {
			l.Errorf("%v", err)
		}
		if r := l.release(s); r.InForce {
			l.Errorf("%v", r)
		}
	})
}
