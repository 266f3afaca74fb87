package store_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// TestUrgentGoesFirst: an urgent transaction is the next one, however many wait.
func TestUrgentGoesFirst(t *testing.T) {
	uri := dbtest.SQLite(t)
	synctest.Test(t, func(t *testing.T) {
		if _, _, err := store.Create(t.Context(), uri); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(t.Context(), uri)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var order []string
		done := make(chan error)
		begin := func(ctx context.Context, name string, wait <-chan struct{}) {
			go func() {
				done <- s.Update(ctx, func(store.Tx) error {
					order = append(order, name)
					<-wait
					return nil
				})
			}()
			synctest.Wait()
		}
		first, none := make(chan struct{}), make(chan struct{})
		close(none)
		begin(t.Context(), "first", first)
		const others = 20
		for range others {
			begin(t.Context(), "other", none)
		}
		begin(store.Urgent(t.Context()), "urgent", none)
		close(first)
		for range others + 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if order[1] != "urgent" {
			t.Errorf("the order was %q", order)
		}
	})
}

// TestUrgentHasAConnection: transactions that hold all the connections that they may leave
// some for urgent ones, which need not wait for any of them.
func TestUrgentHasAConnection(t *testing.T) {
	_, uri := dbtest.Postgres(t)
	if _, _, err := store.Create(t.Context(), uri); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const many = 40
	busy, end, done := make(chan struct{}, many), make(chan struct{}), make(chan error)
	for range many {
		go func() {
			done <- s.View(t.Context(), func(store.Reader) error {
				busy <- struct{}{}
				<-end
				return nil
			})
		}()
	}
	for range 14 {
		<-busy
	}
	if err := s.View(store.Urgent(t.Context()), func(tx store.Reader) error { _, err := tx.ClusterID(); return err }); err != nil {
		t.Error(err)
	}
	close(end)
	for range many {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
