package bdevnvme

import (
	"fmt"
	"testing"
)

// Agents ask for controllers by name, each for its own: what that costs must not grow with
// how many others there are.
func TestGetLooksAtOneController(t *testing.T) {
	r := newRig(t, 1)
	attach := func(i int) {
		r.attach(0, func(c *AttachConfig) { c.Name = fmt.Sprint("ctrl", i) })
	}
	cost := func() float64 {
		return testing.AllocsPerRun(200, func() {
			if c, err := r.m.Get("ctrl0"); err != nil || c.Name != "ctrl0" || len(c.Ctrlrs) != 1 {
				t.Fatalf("%+v, %v", c, err)
			}
		})
	}
	attach(0)
	alone := cost()
	for i := range 20 {
		attach(1 + i)
	}
	if with := cost(); with > alone+20 { // others allocate now and then
		t.Errorf("to describe one controller takes %.0f allocations beside 20 others, %.0f alone", with, alone)
	}
	if _, err := r.m.Get("none"); err == nil {
		t.Error("a controller that is not there is described")
	}
}
