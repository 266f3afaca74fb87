package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

func testRollback(t *testing.T, s *suite) {
	dn := newDN()
	boom := errors.New("boom")
	err := s.Update(s.ctx, func(tx store.Tx) error {
		if err := tx.InsertNode(vda.DiskNode, &dn.Node); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("update: %v", err)
	}
	s.refused(t, vda.NotFound, func(tx store.Tx) error { _, err := tx.DN(dn.ID); return err })
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic got lost")
			}
		}()
		s.Update(s.ctx, func(tx store.Tx) error {
			if err := tx.InsertNode(vda.DiskNode, &dn.Node); err != nil {
				t.Error(err)
			}
			panic("boom")
		})
	}()
	s.refused(t, vda.NotFound, func(tx store.Tx) error { _, err := tx.DN(dn.ID); return err })
}

func testUnlocked(t *testing.T, s *suite) {
	dn := newDN()
	s.update(t, func(tx store.Tx) error {
		if err := tx.InsertNode(vda.DiskNode, &dn.Node); err != nil {
			return err
		}
		u := tx.Unlocked()
		if _, writes := u.(store.Tx); writes {
			t.Error("what locks nothing can write")
		}
		got, err := u.NodeByName(vda.DiskNode, dn.Name)
		if err == nil && got.ID != dn.ID {
			t.Errorf("it reads %v, which is not what the transaction has written", got)
		}
		if _, missing := u.Node(vda.DiskNode, store.NewID()); vda.KindOf(missing) != vda.NotFound {
			t.Errorf("a node that there is not: %v", missing)
		}
		return err
	})
	s.view(t, func(tx store.Reader) error {
		_, err := tx.Unlocked().Node(vda.DiskNode, dn.ID)
		return err
	})
}

func testView(t *testing.T, s *suite) {
	if err := s.View(s.ctx, func(tx store.Reader) error {
		if _, writes := tx.(store.Tx); writes {
			t.Error("the transaction of a view can write")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	// A view sees one moment.
	c := s.newCluster(t)
	s.view(t, func(tx store.Reader) error {
		a, err := tx.DN(c.dn.ID)
		if err != nil {
			return err
		}
		s.update(t, func(tx store.Tx) error { _, err := tx.BumpNode(vda.DiskNode, c.dn.ID); return err })
		b, err := tx.DN(c.dn.ID)
		if err == nil && a.Version != b.Version {
			t.Errorf("version %d, then %d within one view", a.Version, b.Version)
		}
		return err
	})
}

// inParallel runs fn in n goroutines and waits for them.
func inParallel(n int, fn func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}

// testTakePD lets eight clients take more than there is.
func testTakePD(t *testing.T, s *suite) {
	dn := newDN()
	pd := newPD(dn)
	pd.TotalClusters, pd.FreeClusters = 20, 20
	s.update(t, func(tx store.Tx) error { return errors.Join(tx.InsertNode(vda.DiskNode, &dn.Node), tx.InsertPD(pd)) })
	var taken atomic.Int64
	inParallel(8, func(int) {
		for range 4 {
			err := s.Update(s.ctx, func(tx store.Tx) error {
				// Look first, as a planner does, then take.
				p, err := tx.PD(pd.ID)
				if err != nil {
					return err
				}
				if _, err := tx.BumpNode(vda.DiskNode, p.DNID); err != nil {
					return err
				}
				return tx.TakePD(pd.ID, 3)
			})
			switch {
			case err == nil:
				taken.Add(1)
			case vda.KindOf(err) != vda.ResourceExhausted:
				t.Errorf("take: %v", err)
			}
		}
	})
	s.view(t, func(tx store.Reader) error {
		p, err := tx.PD(pd.ID)
		if err == nil && (taken.Load() != 6 || p.FreeClusters != 2 || p.VDCount != 6) {
			t.Errorf("%d takes of 3 of 20 clusters succeeded; %d free, %d vds", taken.Load(), p.FreeClusters, p.VDCount)
		}
		return err
	})
}

// testReadModifyWrite loses no change of rows that were read first.
func testReadModifyWrite(t *testing.T, s *suite) {
	da := newDA()
	s.update(t, func(tx store.Tx) error { return tx.InsertDA(da) })
	const clients, rounds = 8, 5
	inParallel(clients, func(i int) {
		for range rounds {
			err := s.Update(s.ctx, func(tx store.Tx) error {
				d, err := tx.DAByName(da.Name)
				if err != nil {
					return err
				}
				d.Term++
				return tx.UpdateDA(d)
			})
			if err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		}
	})
	s.view(t, func(tx store.Reader) error {
		d, err := tx.DA(da.ID)
		if err == nil && d.Term != da.Term+clients*rounds {
			t.Errorf("term %d after %d increments of %d", d.Term, clients*rounds, da.Term)
		}
		return err
	})
}

// testConflictRetry checks that a conflict, also one that fn reports itself,
// starts fn again.
func testConflictRetry(t *testing.T, s *suite) {
	runs := 0
	s.update(t, func(store.Tx) error {
		if runs++; runs < 4 {
			return vda.Errorf(vda.Conflict, "once more")
		}
		return nil
	})
	if runs != 4 {
		t.Errorf("%d runs, want 4", runs)
	}
	ctx, cancel := context.WithTimeout(s.ctx, 100*time.Millisecond)
	defer cancel()
	err := s.Update(ctx, func(store.Tx) error { return vda.Errorf(vda.Conflict, "for ever") })
	if vda.KindOf(err) != vda.Conflict {
		t.Errorf("conflicts until the context ends: %v", err)
	}
}

// testDeadlock has two transactions lock two rows in opposite orders.
func testDeadlock(t *testing.T, s *suite) {
	a, b := newDN(), newDN()
	s.update(t, func(tx store.Tx) error {
		return errors.Join(tx.InsertNode(vda.DiskNode, &a.Node), tx.InsertNode(vda.DiskNode, &b.Node))
	})
	inParallel(2, func(i int) {
		ids := []string{a.ID, b.ID}
		if i == 1 {
			slices.Reverse(ids)
		}
		err := s.Update(s.ctx, func(tx store.Tx) error {
			for _, id := range ids {
				if _, err := tx.BumpNode(vda.DiskNode, id); err != nil {
					return err
				}
				time.Sleep(30 * time.Millisecond)
			}
			return nil
		})
		if err != nil {
			t.Errorf("transaction %d: %v", i, err)
		}
	})
	s.view(t, func(tx store.Reader) error {
		for _, dn := range []*vda.DN{a, b} {
			got, err := tx.DN(dn.ID)
			if err != nil {
				return err
			}
			if got.Version != dn.Version+2 {
				t.Errorf("version %d, want %d", got.Version, dn.Version+2)
			}
		}
		return nil
	})
}

// testCancel ends a context while its transaction waits for a lock.
func testCancel(t *testing.T, s *suite) {
	dn := newDN()
	s.update(t, func(tx store.Tx) error { return tx.InsertNode(vda.DiskNode, &dn.Node) })
	s.update(t, func(tx store.Tx) error {
		if _, err := tx.BumpNode(vda.DiskNode, dn.ID); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(s.ctx, 50*time.Millisecond)
		defer cancel()
		start := time.Now()
		err := s.Update(ctx, func(tx store.Tx) error { _, err := tx.BumpNode(vda.DiskNode, dn.ID); return err })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for a lock: %v", err)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("it took %v to notice", d)
		}
		return nil
	})
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if err := s.View(ctx, func(store.Reader) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a view with a dead context: %v", err)
	}
	s.view(t, func(tx store.Reader) error {
		got, err := tx.DN(dn.ID)
		if err == nil && got.Version != dn.Version+1 {
			t.Errorf("version %d, want %d", got.Version, dn.Version+1)
		}
		return err
	})
}
