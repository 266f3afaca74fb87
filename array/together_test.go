package array_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/placement"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// TestTogether runs transitions of many arrays at once on PostgreSQL, which locks row
// by row: in the one lock order none of them is ever the victim of a deadlock and has to
// be run again, and in the end the counts of space and controllers are right.
func TestTogether(t *testing.T) {
	_, uri := dbtest.Postgres(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if _, _, err := store.Create(ctx, uri); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	c := &cluster{t, st}
	c.update(insertNodes)
	var runs, again atomic.Int64
	// do runs a transition and counts when the store runs it again.
	do := func(fn func(tx store.Tx) error) {
		tries := int64(0)
		err := st.Update(ctx, func(tx store.Tx) error {
			tries++
			err := fn(tx)
			if vda.KindOf(err) == vda.Conflict {
				t.Logf("conflict: %v", err)
			}
			return err
		})
		runs.Add(1)
		again.Add(tries - 1)
		if err != nil && !errors.Is(err, array.ErrStale) {
			t.Errorf("a transition failed: %v", err)
		}
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(worker)))
			for i := range 10 {
				life(do, fmt.Sprintf("w%d-%d", worker, i), r.Perm(nodes))
			}
		})
	}
	wg.Wait()
	if again.Load() > 0 {
		t.Errorf("%d of %d transitions had to be run again", again.Load(), runs.Load())
	}
	if err := st.View(ctx, func(tx store.Reader) error { return checkEmpty(t, tx) }); err != nil {
		t.Error(err)
	}
}

// life makes an array, moves, exports, deletes and settles it; at are the nodes.
func life(do func(func(store.Tx) error), id string, at []int) {
	do(func(tx store.Tx) error {
		_, err := array.Create(tx, &vda.DA{ID: id, Name: id, Term: 1, CntlrCnt: 2, Created: true}, places(at[0], at[1], at[2]),
			[]placement.Cntlr{{CNID: cn(at[1]), Primary: true}, {CNID: cn(at[0])}})
		return err
	})
	do(func(tx store.Tx) error {
		_, err := array.CreateExp(tx, &vda.Exp{ID: id + "-e", DAID: id, Name: "e", NQN: id})
		return err
	})
	do(func(tx store.Tx) error {
		if err := array.Begin(tx).LockArrays(id); err != nil {
			return err
		}
		cntlrs, err := tx.CntlrsOfDA(id)
		if err != nil {
			return err
		}
		_, err = array.MovePrimary(tx, array.Move{DAID: id, Term: 1, To: cntlrs[1].ID, Planned: true})
		return err
	})
	do(func(tx store.Tx) error {
		da, err := tx.DA(id)
		if err != nil {
			return err
		}
		_, err = array.Delete(tx, da)
		return err
	})
	// The cns confirm, one after the other, then the dns.
	for _, at := range at[:2] {
		do(func(tx store.Tx) error {
			return gone(tx, id, array.CN(cn(at)), func(c *array.Change, cntlrs []vda.Cntlr, _ []vda.VD) error {
				for i := range cntlrs {
					if cntlrs[i].CNID == cn(at) {
						return c.DropCntlr(&cntlrs[i])
					}
				}
				return nil
			})
		})
	}
	for _, at := range at[:3] {
		do(func(tx store.Tx) error {
			return gone(tx, id, array.DN(dn(at)), func(c *array.Change, _ []vda.Cntlr, vds []vda.VD) error {
				for i := range vds {
					if vds[i].DNID == dn(at) {
						return errors.Join(c.LockPDs(vds[i].PDID), c.DropVD(&vds[i]))
					}
				}
				return nil
			})
		})
	}
}

// gone is the answer of a node that has carried out a tombstone.
func gone(tx store.Tx, id string, n array.Node, drop func(*array.Change, []vda.Cntlr, []vda.VD) error) error {
	c := array.Begin(tx)
	if err := c.LockArrays(id); err != nil {
		return err
	}
	cntlrs, err := tx.CntlrsOfDA(id)
	if err != nil {
		return err
	}
	vds, err := tx.VDsOfDA(id)
	if err != nil {
		return err
	}
	if err := drop(c, cntlrs, vds); err != nil {
		return err
	}
	if err := c.Settle(id); err != nil {
		return err
	}
	c.Applied(n, 1)
	return c.Write()
}

// checkEmpty checks that nothing of the arrays is left and counted.
func checkEmpty(t *testing.T, tx store.Reader) error {
	deleted, err := tx.DeletedDAs()
	if err != nil || len(deleted) > 0 {
		t.Errorf("%d deleted arrays are left", len(deleted))
		return err
	}
	for i := range nodes {
		p, err := tx.PD(pd(i))
		if err != nil {
			return err
		}
		n, err := tx.CN(cn(i))
		if err != nil {
			return err
		}
		if p.FreeClusters != p.TotalClusters || p.VDCount != 0 || n.CntlrCount != 0 || n.PrimaryCount != 0 {
			t.Errorf("%s has %d of %d clusters free and %d vds, %s has %d controllers, %d primary",
				p.ID, p.FreeClusters, p.TotalClusters, p.VDCount, n.ID, n.CntlrCount, n.PrimaryCount)
		}
	}
	return nil
}
