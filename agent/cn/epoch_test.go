package cn_test

import (
	"context"
	"testing"

	"github.com/virtual-disk-array/vda"
)

// TestEachVdIsReachedUnderItsEpoch: a primary is to each vd the host that the
// vd's epoch names, and to one that was never dropped the host of the term.
func TestEachVdIsReachedUnderItsEpoch(t *testing.T) {
	inBubble(t, 1, true, eachVdIsReachedUnderItsEpoch)
}

func eachVdIsReachedUnderItsEpoch(l *lab) {
	vds := l.spec.Grps[0].Vds
	for _, epochs := range [][]uint64{{0, 3}, {1, 3}} {
		for i := range vds {
			vds[i].Epoch = epochs[i]
		}
		l.up(0)
		l.spec.Create = false
		list, err := l.cns[0].plane.Client().BdevNvmeGetControllers(context.Background())
		if err != nil {
			l.Fatal(err)
		}
		hosts := map[string]string{}
		for _, c := range list {
			hosts[c.Name] = c.Ctrlrs[0].Host.NQN
		}
		for i, v := range vds {
			if got, want := hosts["vda-vd-"+v.VdId], vda.LegHostNQN(l.hostNQN(), epochs[i]); got != want {
				l.Errorf("vd %d is reached as %q, not %q", i, got, want)
			}
		}
	}
}
