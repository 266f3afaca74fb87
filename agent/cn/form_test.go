package cn_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// onVds is controller i's spec as agents had it before every column was a mirror, and as
// a data plane without mirrors takes it.
func (l *lab) onVds(i int) *apiv1.CntlrSpec {
	c := proto.CloneOf(l.cntlr(i, i))
	for _, g := range c.Grps {
		g.Columns = nil
	}
	return c
}

// form is what controller node i's data plane has between the vds and the volume.
func (l *lab) form(i int) string {
	var has []string
	for _, kind := range []string{"vda-mir-", "vda-grp-", "bdev vda-da-"} {
		for _, o := range l.cns[i].plane.Objects() {
			if strings.Contains(o, kind) && !slices.Contains(has, kind) {
				has = append(has, kind)
			}
		}
	}
	return strings.Join(has, " ")
}

// An array that stands on vds stays on them, without a call that changes anything, when
// its spec says that it could stand on mirrors, and when the agent starts again. It does
// once it is assembled again.
func TestAnArrayOnVdsStaysThere(t *testing.T) {
	inBubble(t, 1, true, func(l *lab) {
		l.fence(false)
		l.good(0, l.onVds(0))
		l.spec.Create = false
		if got := l.form(0); got != "vda-grp-" {
			t.Fatalf("it stands on %q", got)
		}
		calls := l.recorded(0)
		l.good(0, l.cntlr(0, 0))
		l.cns[0].stop(l)
		l.cns[0].start(l)
		l.checked()
		l.healthy(0)
		if got := calls(); slices.ContainsFunc(got, func(c string) bool { return c != "set_ana_state optimized" }) {
			t.Errorf("calls %q", got)
		}
		l.term++
		l.up(0)
		if got := l.form(0); got != "vda-mir- vda-grp- bdev vda-da-" {
			t.Errorf("assembled again it stands on %q", got)
		}
		calls()
		l.checked()
		if got := calls(); len(got) > 0 {
			t.Errorf("calls in a pass over what is in order: %q", got)
		}
	})
}

// An lvstore that an agent of before has opened on a group, and died before there was a
// volume, is opened above the concat.
func TestAnLvstoreBelowTheConcat(t *testing.T) {
	inBubble(t, 1, true, func(l *lab) {
		l.fence(false)
		l.cns[0].plane.SetHook(func(method string, _ map[string]any) error {
			if method == "bdev_lvol_create" {
				return fmt.Errorf("not now")
			}
			return nil
		})
		l.sync(0, l.onVds(0))
		l.cns[0].plane.SetHook(nil)
		l.good(0, l.cntlr(0, 0))
		if got := l.form(0); got != "vda-grp-" && got != "vda-mir- vda-grp- bdev vda-da-" {
			t.Errorf("it stands on %q", got)
		}
	})
}

// A group that is not as large as its data is refused where another group follows it and
// the vds themselves are striped.
func TestAGroupThatWouldMoveTheNext(t *testing.T) {
	inBubble(t, 1, false, func(l *lab) {
		g := l.spec.Grps[0]
		for _, m := range g.Columns {
			m.DataSize -= 1 << 20 // the vd has a tail
		}
		l.fence(false)
		l.good(0, l.cntlr(0, 0))
		second := &apiv1.GrpSpec{Id: id("e0", 9), GrpIdx: 1, StripeSizeKb: 64, Vds: g.Vds[1:], Columns: g.Columns[1:]}
		g.Vds, g.Columns = g.Vds[:1], g.Columns[:1]
		l.spec.Grps = append(l.spec.Grps, second)
		l.term++
		l.fence(false)
		states := l.sync(0, l.cntlr(0, 0)).States
		if !slices.ContainsFunc(states, func(s *state) bool { return s.Error && strings.Contains(s.ErrorMsg, "have been legs of mirrors") }) {
			t.Errorf("states %v", states)
		}
	})
}

// The bytes on the disks are the same on vds and on mirrors: the array moves between
// controllers that have it in either form, under a load that verifies what it reads.
func TestRealForms(t *testing.T) {
	t.Parallel()
	l, _, _ := reals(t, 2, true, false, false)
	l.leased()
	l.fence(false)
	l.good(0, l.onVds(0))
	l.good(1, l.cntlr(1, 0))
	l.spec.Create = false
	write(t, l.disk(0), 3)
	work := startLoad(l.multipath())
	l.good(0, l.cntlr(0, 0)) // an agent of now: the array stays up
	work.goesOn()
	for round := range 4 {
		was, is := round%2, (round+1)%2
		l.term++
		l.sync(was, l.cntlr(was, is)) // retires
		l.fence(false)
		if is == 0 {
			l.good(is, l.onVds(is))
		} else {
			l.good(is, l.cntlr(is, is))
		}
		l.good(was, l.cntlr(was, is))
		work.goesOn()
	}
	work.end()
	write(t, l.disk(0), 4)
	verify(t, l.disk(1), 4)
}
