package syncer_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// A report of capacity changes capacity: what the user has said of the node and
// the disk stays.
func TestCapacityReportKeepsTheRest(t *testing.T) {
	f := newFixture(t)
	f.syncAll()
	f.update(func(tx store.Tx) error {
		dn, err := tx.DN(f.dn[0].ID)
		if err != nil {
			return err
		}
		pd, err := tx.PD(f.pd[0].ID)
		if err != nil {
			return err
		}
		dn.Location, dn.Online, pd.Online = "rack7", false, false
		return errors.Join(tx.UpdateNode(vda.DiskNode, &dn.Node), tx.UpdatePD(pd))
	})
	f.agents.Agent("dn0:9720").SetCapacity(300)
	f.ok(f.syncer.Sync(t.Context(), array.DN(f.dn[0].ID), syncer.Full))
	f.view(func(tx store.Reader) error {
		dn, err := tx.DN(f.dn[0].ID)
		if err != nil {
			return err
		}
		pd, err := tx.PD(f.pd[0].ID)
		if err != nil {
			return err
		}
		f.equal("after the report", fmt.Sprintln(dn.Location, dn.Online, pd.Online, pd.TotalClusters), "rack7 false false 300\n")
		return nil
	})
}

// Hosts tell controllers of a subsystem apart by their ids.
func TestCntlidsDoNotOverlap(t *testing.T) {
	f := newFixture(t)
	f.syncAll()
	type span struct{ from, to uint32 }
	var spans []span
	f.view(func(tx store.Reader) error {
		for _, cn := range f.cn {
			req, err := syncer.BuildCn(tx, cn.ID, 0)
			if err != nil {
				return err
			}
			for _, c := range req.Cntlrs {
				spans = append(spans, span{c.MinCntlid, c.MaxCntlid})
			}
		}
		return nil
	})
	if len(spans) < 2 {
		t.Fatalf("%d controllers", len(spans))
	}
	for i, a := range spans {
		for _, b := range spans[:i] {
			if a.from <= b.to && b.from <= a.to || a.from == 0 || a.to < a.from || a.to > nvme.MaxCNTLID {
				t.Errorf("controller ids %d to %d and %d to %d", a.from, a.to, b.from, b.to)
			}
		}
	}
}
