package store_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// TestPatience: a view may take as long as it needs, as long as the database answers; one
// statement may not, and neither may a transaction that writes.
func TestPatience(t *testing.T) {
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
		each := func(pause time.Duration, statements int) func(store.Reader) error {
			return func(tx store.Reader) error {
				for i := range statements {
					time.Sleep(pause)
					var err error
					switch i % 3 { // all ways by which a statement gets to the database
					case 0:
						_, err = tx.ClusterID()
					case 1:
						_, err = tx.DeletedDAs()
					case 2:
						_, err = tx.DANames([]string{"x"})
					}
					if err != nil {
						return err
					}
				}
				return nil
			}
		}
		if err := s.View(t.Context(), each(10*time.Second, 100)); err != nil {
			t.Errorf("a view of 1,000 s in which the database answers each 10 s: %v", err)
		}
		const late = "does not answer in time"
		if err := s.View(t.Context(), each(16*time.Second, 1)); err == nil || !strings.Contains(err.Error(), late) {
			t.Errorf("a view in which the database says nothing for 16 s: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 35*time.Second)
		defer cancel()
		begin := time.Now()
		if err := s.View(ctx, each(10*time.Second, 100)); err == nil || !strings.Contains(err.Error(), late) ||
			time.Since(begin) != 40*time.Second {
			t.Errorf("a view whose caller waits for 35 s, with a statement per 10 s, ended after %v: %v", time.Since(begin), err)
		}
		for range 2 { // neither waits for what the other has left behind
			err := s.Update(t.Context(), func(tx store.Tx) error { return each(10*time.Second, 2)(tx) })
			if err == nil || !strings.Contains(err.Error(), late) {
				t.Errorf("a transaction of 20 s that writes: %v", err)
			}
		}
	})
}
