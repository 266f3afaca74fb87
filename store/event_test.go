package store_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/store/dbtest"
)

// TestEventTail: events are passed on once each, and none is lost that is committed
// after one with a higher id.
func TestEventTail(t *testing.T) {
	start := time.Now()
	tail := store.NewEventTail(10)
	pass := func(after time.Duration, ids ...uint64) (fresh []uint64) {
		var rows []vda.Event
		for _, id := range ids {
			if id > tail.After() {
				rows = append(rows, vda.Event{ID: id})
			}
		}
		for _, e := range tail.Pass(rows, start.Add(after)) {
			fresh = append(fresh, e.ID)
		}
		return fresh
	}
	for _, c := range []struct {
		at          time.Duration
		there, want []uint64
		low         uint64
	}{
		{0, []uint64{11, 12}, []uint64{11, 12}, 12},
		{time.Second, []uint64{11, 12, 14, 15}, []uint64{14, 15}, 12},            // 13 is under way
		{2 * time.Second, []uint64{12, 13, 14, 15}, []uint64{13}, 15},            // it comes
		{3 * time.Second, []uint64{15, 17}, []uint64{17}, 15},                    // 16 never does
		{3*time.Second + store.EventSettled - 1, []uint64{15, 17}, nil, 15},      // which is not certain yet
		{3*time.Second + store.EventSettled, []uint64{17, 18}, []uint64{18}, 18}, // now it is
		{4*time.Second + store.EventSettled, []uint64{16, 17, 18, 19}, []uint64{19}, 19},
	} {
		if got := pass(c.at, c.there...); !slices.Equal(got, c.want) || tail.After() != c.low {
			t.Errorf("at %v, with %v: %v and low %d, want %v and %d", c.at, c.there, got, tail.After(), c.want, c.low)
		}
	}
}

// TestOnEvent: a program hears of the events that it has committed, and of no other.
func TestOnEvent(t *testing.T) {
	ctx := context.Background()
	uri := dbtest.SQLite(t)
	if _, _, err := store.Create(ctx, uri); err != nil {
		t.Fatal(err)
	}
	var heard []string
	s, err := store.Open(ctx, uri, store.OnEvent(func(e vda.Event) { heard = append(heard, e.Text) }))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, text := range []string{"kept", "lost"} {
		_ = s.Update(ctx, func(tx store.Tx) error {
			if err := tx.Record(vda.Event{Kind: vda.EventChange, Text: text}); err != nil || text == "kept" {
				return err
			}
			return context.Canceled
		})
	}
	if !slices.Equal(heard, []string{"kept"}) {
		t.Errorf("heard of %q, want what was committed", heard)
	}
}
