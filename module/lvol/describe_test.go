package lvol

import (
	"fmt"
	"testing"
)

// Agents ask for volumes by name, each for its own: what that costs must not grow with how many
// others their store has.
func TestDescribeLooksAtOneVolume(t *testing.T) {
	r := newRig(t)
	r.disk("d", 256*mib)
	st := r.store("d", "lvs", StoreOpts{})
	v := r.volume(st, VolumeOpts{Name: "v", Bytes: mib})
	cost := func() float64 {
		return testing.AllocsPerRun(50, func() {
			if d := v.DriverSpecific().(DriverSpecific); d.Lvol.NumAllocated != 1 {
				t.Fatalf("%+v", d)
			}
		})
	}
	alone := cost()
	for i := range 100 {
		r.volume(st, VolumeOpts{Name: fmt.Sprint("v", i), Bytes: mib})
	}
	if with := cost(); with > alone+1 {
		t.Errorf("to describe one volume takes %.0f allocations beside 100 others, %.0f alone", with, alone)
	}
}
