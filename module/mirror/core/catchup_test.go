package core_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// TestALostMemberMayStayWithOneThatCatchesUp: a set is taken whose only member with all writes is
// lost at the moment, as that one resumes with the set. One without it is not.
func TestALostMemberMayStayWithOneThatCatchesUp(t *testing.T) {
	spec := func(n int) core.LegSpec { return core.LegSpec{VD: vdID(n), Role: core.Member} }
	epoch := func(n byte) label.ID { return label.ID{0: 0xe0, 15: n} }
	var seen []core.Seen
	for n := range 3 {
		seen = append(seen, core.Seen{VD: vdID(n), Epoch: epoch(1)})
	}
	c, err := core.New(core.Config{DA: arrayID, Mirror: mirrorID, DataSize: dataSize, Term: 1, Gen: 1, Fresh: true,
		Legs: []core.LegSpec{spec(0), spec(1), spec(2)}}, seen)
	if err != nil {
		t.Fatal(err)
	}
	c.Tick(step)
	labels := map[core.Leg]*label.Label{}
	var reads []core.Action // of repairs
	carry := func() {
		for actions := slices.Clone(c.Take(nil)); len(actions) > 0; actions = slices.Clone(c.Take(nil)) {
			for _, a := range actions {
				switch a.Kind {
				case core.ReadLeg:
					reads = append(reads, a)
				case core.WriteLabel:
					labels[a.Leg] = a.Label
					c.Done(a, core.OK)
				case core.WriteMap, core.FlushLeg, core.WriteLeg:
					c.Done(a, core.OK)
				}
			}
		}
	}
	carry()
	c.Submit(&core.IO{Op: core.Write, Len: block})
	carry()
	c.Lost(1, "")
	carry()
	if err := c.Resume(1, labels[1], epoch(2)); err != nil {
		t.Fatal(err)
	}
	carry()
	c.Lost(2, "")
	c.Lost(0, "")
	carry()
	catches := func() bool { return c.Status().Legs[1].CatchingUp }
	if !catches() {
		t.Fatalf("it does not catch up: %+v", c.Status())
	}
	if err := c.Set(1, 2, []core.LegSpec{spec(0), spec(1)}); err != nil {
		t.Fatalf("without the one that is to be dropped: %v", err)
	}
	carry()
	if err := c.Set(1, 3, []core.LegSpec{spec(1)}); !errors.Is(err, core.ErrCatchingUp) || !catches() {
		t.Errorf("it is left alone: %v, %+v", err, c.Status())
	}
	for _, a := range reads {
		c.Done(a, core.Path)
	}
	reads = nil
	carry()
	if err := c.Resume(0, labels[0], epoch(1)); err != nil {
		t.Fatal(err)
	}
	carry()
	for range 100 {
		for _, a := range slices.Clone(reads) {
			c.Done(a, core.OK)
		}
		reads = nil
		carry()
		c.Tick(step)
	}
	if catches() || !c.Status().Online {
		t.Errorf("it has not caught up: %+v", c.Status())
	}
}
