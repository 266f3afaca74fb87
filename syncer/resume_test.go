package syncer_test

import (
	"strings"
	"testing"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// A node that is new in the database, but that its agent was before: its
// versions go on from those that the agent holds.
func TestVersionsContinueFromWhatTheAgentHolds(t *testing.T) {
	f := newFixture(t)
	dn := &vda.DN{Node: vda.Node{ID: store.NewID(), Name: "dn9:9720", Online: true, Version: 5}}
	cn := &vda.CN{Node: vda.Node{ID: store.NewID(), Name: "cn9:9820", Online: true, Version: 5}}
	f.update(func(tx store.Tx) error {
		if err := tx.InsertNode(vda.DiskNode, &dn.Node); err != nil {
			return err
		}
		return tx.InsertNode(vda.ControllerNode, &cn.Node)
	})
	f.agents.Start(dn.Name).Join(f.clusterID(), dn.ID, 5+1<<32)
	f.agents.Start(cn.Name).Join(f.clusterID(), cn.ID, 5+1<<32)
	f.ok(f.syncer.Sync(t.Context(), array.DN(dn.ID), syncer.Changes))
	f.ok(f.syncer.Sync(t.Context(), array.CN(cn.ID), syncer.Full))
	f.view(func(tx store.Reader) error {
		d, err := tx.DN(dn.ID)
		if err != nil {
			return err
		}
		c, err := tx.CN(cn.ID)
		if err != nil {
			return err
		}
		if want := uint64(6 + 1<<32); d.Version != want || d.Applied != want || c.Version != want || c.Applied != want {
			t.Errorf("dn %d, applied %d; cn %d, applied %d; want %d", d.Version, d.Applied, c.Version, c.Applied, want)
		}
		return nil
	})
}

// A database that is older than its node, with objects or without, and a
// version that no portal has given are no reason to go on.
func TestVersionsDoNotContinueForAnOldDatabase(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct {
		applied, held uint64
		pd            bool
		says          string
	}{
		"it has a pd":               {0, 1000, true, "restoring a backup"},
		"it was in step once":       {4, 1000, false, "restoring a backup"},
		"a version far ahead of it": {0, 1<<64 - 1, false, "version 5 is older"},
	} {
		dn := &vda.DN{Node: vda.Node{ID: store.NewID(), Name: strings.ReplaceAll(name, " ", "-") + ":9720", Online: true, Version: 5}}
		f.update(func(tx store.Tx) error {
			if err := tx.InsertNode(vda.DiskNode, &dn.Node); err != nil {
				return err
			}
			if c.pd {
				if err := tx.InsertPD(&vda.PD{ID: store.NewID(), DNID: dn.ID, Name: "pd0", Version: 5}); err != nil {
					return err
				}
			}
			return tx.SetNodeApplied(vda.DiskNode, dn.ID, c.applied)
		})
		f.agents.Start(dn.Name).Join(f.clusterID(), dn.ID, c.held)
		if err := f.syncer.Sync(t.Context(), array.DN(dn.ID), syncer.Changes); !strings.Contains(syncer.Refusal(err), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		f.view(func(tx store.Reader) error {
			row, err := tx.DN(dn.ID)
			if err == nil && row.Version != 5 {
				t.Errorf("%s: version %d", name, row.Version)
			}
			return err
		})
	}
}
