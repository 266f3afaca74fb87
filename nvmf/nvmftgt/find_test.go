package nvmftgt

import (
	"fmt"
	"testing"

	"github.com/virtual-disk-array/vda/bdev"
)

// Hosts connect to a subsystem by its name, and agents ask for one: what that costs must not grow
// with how many others there are.
func TestASubsystemIsFoundByItsName(t *testing.T) {
	tgt := New(Config{Registry: bdev.NewRegistry()})
	defer tgt.Close()
	name := func(i int) string { return fmt.Sprintf("nqn.2016-06.io.spdk:vda-vd-%032d", i) }
	for i := range 50 {
		if _, err := tgt.CreateSubsystem(SubsystemConfig{NQN: name(i), Serial: "1"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []int{0, 49} {
		if s, ok := tgt.Subsystem(name(i)); !ok || s.NQN() != name(i) {
			t.Errorf("%s is not found", name(i))
		}
		if _, err := tgt.CreateSubsystem(SubsystemConfig{NQN: name(i), Serial: "1"}); err == nil {
			t.Errorf("%s is made twice", name(i))
		}
	}
	if err := tgt.DeleteSubsystem(name(49)); err != nil {
		t.Fatal(err)
	}
	if _, ok := tgt.Subsystem(name(49)); ok {
		t.Error("a subsystem is found that was deleted")
	}
	if len(tgt.byNQN) != len(tgt.subs) {
		t.Errorf("%d names of %d subsystems", len(tgt.byNQN), len(tgt.subs))
	}
}
