package core_test

import (
	"slices"
	"testing"

	"github.com/virtual-disk-array/vda/module/mirror/core"
)

// TestReadsOfAPassGoTogether: reads that are submitted together go to one leg, as
// long as it does not serve many more than the other; others go to the leg that
// serves the fewest.
func TestReadsOfAPassGoTogether(t *testing.T) {
	legs := []core.LegSpec{{VD: vdID(0), Role: core.Member}, {VD: vdID(1), Role: core.Member}}
	c, err := core.New(core.Config{DA: arrayID, Mirror: mirrorID, DataSize: dataSize, Term: 1, Gen: 1, Fresh: true, Legs: legs},
		[]core.Seen{{VD: vdID(0)}, {VD: vdID(1)}})
	if err != nil {
		t.Fatal(err)
	}
	c.Tick(step)
	var served []core.Leg // by the reads that are under way
	var reads []core.Action
	carry := func() {
		for {
			todo := slices.Clone(c.Take(nil))
			if len(todo) == 0 {
				return
			}
			for _, a := range todo {
				switch a.Kind {
				case core.ReadLeg:
					served, reads = append(served, a.Leg), append(reads, a)
				case core.WriteLabel, core.WriteMap, core.FlushLeg:
					c.Done(a, core.OK)
				}
			}
		}
	}
	carry()
	if !c.Status().Online {
		t.Fatal("the mirror is not online")
	}
	read := func(pass int64) core.Leg {
		c.Submit(&core.IO{Op: core.Read, Off: uint64(len(served)) * block, Len: block, Pass: pass})
		carry()
		return served[len(served)-1]
	}
	end := func() {
		for _, a := range reads {
			c.Done(a, core.OK)
		}
		carry()
		served, reads = nil, nil
	}
	for range 3 {
		read(7)
	}
	if want := []core.Leg{0, 0, 0}; !slices.Equal(served, want) {
		t.Errorf("three reads of a pass went to legs %v, not %v", served, want)
	}
	if l := read(8); l != 1 {
		t.Errorf("a read of the next pass went to leg %d, which serves three", l)
	}
	end()
	for range 40 {
		read(9)
	}
	if n := [2]int{count(served, 0), count(served, 1)}; min(n[0], n[1]) < 16 {
		t.Errorf("of 40 reads of one pass legs serve %v", n)
	}
	end()
	for range 4 {
		read(0)
	}
	if want := []core.Leg{0, 1, 0, 1}; !slices.Equal(served, want) {
		t.Errorf("reads of no pass went to legs %v, not %v", served, want)
	}
}

func count(legs []core.Leg, of core.Leg) (n int) {
	for _, l := range legs {
		if l == of {
			n++
		}
	}
	return n
}
