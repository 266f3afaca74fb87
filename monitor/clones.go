package monitor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// cloneReports are what a reply says of clones.
func cloneReports(states []*apiv1.CloneState) []*array.CloneReport {
	var all []*array.CloneReport
	for _, c := range states {
		all = append(all, &array.CloneReport{DAID: c.DaId, Term: c.Term, Done: c.DoneBytes, Total: c.TotalBytes, Independent: c.Independent})
	}
	return all
}

// startCloning starts noteClones when the last reply asks for it: at once for a clone that
// needs its source no more, and else as often as the database learns of what is copied.
func (n *node) startCloning(ctx context.Context, start func(func())) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ready := false
	for _, c := range n.clones {
		ready = ready || c.Independent
	}
	if n.down || n.cloning || len(n.clones) == 0 || !ready && time.Since(n.clonesNoted) < lackPeriod {
		return
	}
	n.cloning, n.clonesNoted = true, time.Now()
	reports := n.clones
	start(func() {
		defer func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.cloning = false
		}()
		ctx := rpc.WithRequestID(ctx, rpc.NewRequestID())
		var changes []syncer.Transition
		noted := map[string]string{}
		for _, r := range reports {
			noted[r.DAID] = fmt.Sprint(*r)
			if r.Independent || n.cloneNoted[r.DAID] != noted[r.DAID] {
				changes = append(changes, func(tx store.Tx) (array.Plan, error) { return array.NoteClone(tx, r) })
			}
		}
		if n.m.changeLegs(ctx, changes) {
			n.cloneNoted = noted
		}
	})
}

// clonePeriod is how often the sources of clones are looked at.
const clonePeriod = 5 * time.Second

// watchClones has the primaries of clones follow the controllers of their sources, and has
// exporters and snapshots go that no clone is copied from any more. Every monitor does; each
// transition looks again.
func (m *Monitor) watchClones(ctx context.Context) {
	m.every(ctx, clonePeriod, "the sources of clones stay as they are for now", m.tendClones)
}

func (m *Monitor) tendClones(ctx context.Context) error {
	var das []vda.DA
	var exps []vda.Exp
	var snaps []vda.Snap
	if err := m.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		var err1, err2, err3 error
		das, err1 = tx.CopyingDAs()
		exps, err2 = tx.CloneExps()
		snaps, err3 = tx.CloneSnaps()
		return errors.Join(err1, err2, err3)
	}); err != nil {
		return err
	}
	var errs []error
	do := func(f func(tx store.Tx) (array.Plan, error)) {
		errs = append(errs, m.cfg.Store.Update(ctx, func(tx store.Tx) error {
			_, err := f(tx) // its nodes hear of it as of any change
			return err
		}))
	}
	copied := map[string]bool{}
	for i := range das {
		d := &das[i]
		copied[d.Source.ExpID] = !d.Deleted
		do(func(tx store.Tx) (array.Plan, error) { return array.FollowSource(tx, d.ID) })
	}
	for i := range exps {
		if e := &exps[i]; !copied[e.ID] {
			do(func(tx store.Tx) (array.Plan, error) { return array.DropSource(tx, e.ID) })
		}
	}
	for i := range snaps {
		do(func(tx store.Tx) (array.Plan, error) { return array.DropCloneSnap(tx, snaps[i].ID, time.Now()) })
	}
	return errors.Join(errs...)
}

// dropOverdue has snapshots of several arrays at one instant go whose portal has not
// recorded in time that they are taken.
func (m *Monitor) dropOverdue(ctx context.Context) error {
	var some []vda.Snap
	err := m.cfg.Store.View(ctx, func(tx store.Reader) (err error) {
		some, err = tx.TogetherSnaps()
		return err
	})
	if err != nil || len(some) == 0 {
		return err
	}
	return m.cfg.Store.Update(ctx, func(tx store.Tx) error { return array.DropOverdue(tx, time.Now()) })
}
