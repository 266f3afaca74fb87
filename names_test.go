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
		vda.VdNQN(id):                                 "nqn.2016-06.io.spdk:vda-vd-" + id,
		vda.PrimaryHostNQN(id, 7):                     "nqn.2016-06.io.spdk:vda-cntlr-" + id + "-7",
		vda.LegHostNQN(vda.PrimaryHostNQN(id, 7), 0):  "nqn.2016-06.io.spdk:vda-cntlr-" + id + "-7",
		vda.LegHostNQN(vda.PrimaryHostNQN(id, 7), 12): "nqn.2016-06.io.spdk:vda-cntlr-" + id + "-7-e12",
		vda.ProxyHostNQN(id):                          "nqn.2016-06.io.spdk:vda-px-" + id,
		vda.ExpNQN("da0", "exp0"):                     "nqn.2016-06.io.spdk:vda-exp-da0-exp0",
		vda.OwnerNQN:                                  "nqn.2016-06.io.spdk:vda-owner",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestParsePrimaryHost(t *testing.T) {
	for _, da := range []string{"a-b-c", "a-e5", "0123456789abcdef0123456789abcdef"} {
		for _, term := range []uint64{0, 1, math.MaxUint64} {
			for _, epoch := range []uint64{0, 1, math.MaxUint64} {
				nqn := vda.LegHostNQN(vda.PrimaryHostNQN(da, term), epoch)
				if gotTerm, gotEpoch, ok := vda.ParsePrimaryHost(nqn); !ok || gotTerm != term || gotEpoch != epoch {
					t.Errorf("%s is read as term %d, epoch %d, %v", nqn, gotTerm, gotEpoch, ok)
				}
			}
		}
	}
	da := vda.PrimaryHostNQN("da", 1)
	for _, nqn := range []string{"", "nqn.2016-06.io.spdk:host-1", vda.ProxyHostNQN("1"), "nqn.2016-06.io.spdk:vda-cntlr-da-x",
		da + "-e", da + "-e0", da + "-ex", da + "-e1-e2", "nqn.2016-06.io.spdk:vda-cntlr--e1"} {
		if term, epoch, ok := vda.ParsePrimaryHost(nqn); ok {
			t.Errorf("%q has term %d and epoch %d", nqn, term, epoch)
		}
	}
}
