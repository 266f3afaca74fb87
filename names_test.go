package vda_test

import (
	"math"
	"testing"

	"github.com/virtual-disk-array/vda"
)

// The names are on disks, in hosts' configuration and in running data planes:
// they stay as they are.
func TestNamesStay(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	for got, want := range map[string]string{
		vda.VdNQN(id):             "nqn.2016-06.io.spdk:vda-vd-" + id,
		vda.PrimaryHostNQN(id, 7): "nqn.2016-06.io.spdk:vda-cntlr-" + id + "-7",
		vda.ProxyHostNQN(id):      "nqn.2016-06.io.spdk:vda-px-" + id,
		vda.ExpNQN("da0", "exp0"): "nqn.2016-06.io.spdk:vda-exp-da0-exp0",
		vda.OwnerNQN:              "nqn.2016-06.io.spdk:vda-owner",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestTermOfPrimaryHost(t *testing.T) {
	for _, term := range []uint64{0, 1, math.MaxUint64} {
		if got, ok := vda.TermOfPrimaryHost(vda.PrimaryHostNQN("a-b-c", term)); !ok || got != term {
			t.Errorf("term %d is read as %d, %v", term, got, ok)
		}
	}
	for _, nqn := range []string{"", "nqn.2016-06.io.spdk:host-1", vda.ProxyHostNQN("1"), "nqn.2016-06.io.spdk:vda-cntlr-da-x"} {
		if term, ok := vda.TermOfPrimaryHost(nqn); ok {
			t.Errorf("%q has term %d", nqn, term)
		}
	}
}
