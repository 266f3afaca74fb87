package monitor

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/array"
	"github.com/virtual-disk-array/vda/store"
	"github.com/virtual-disk-array/vda/syncer"
)

// slowStore counts transactions that write, which take a second each, and refuses those that
// would write some text.
type slowStore struct {
	store.Store
	updates atomic.Int64
	refuse  string
}

func (s *slowStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	s.updates.Add(1)
	time.Sleep(time.Second)
	return s.Store.Update(ctx, func(tx store.Tx) error { return fn(refusing{tx, s.refuse}) })
}

type refusing struct {
	store.Tx
	text string
}

func (r refusing) SetHealth(o store.Object, id string, h vda.Health) error {
	if r.text != "" && strings.Contains(h.Msg, r.text) {
		return vda.Errorf(vda.Internal, "refused")
	}
	return r.Tx.SetHealth(o, id, h)
}

// TestReportsAreWrittenTogether: many nodes that go down at once do not take as many
// transactions, and one whose report cannot be written keeps no other from being known.
func TestReportsAreWrittenTogether(t *testing.T) {
	inEmptyBubble(t, func(r *rig) {
		const nodes = 60
		var ids []string
		r.update(func(tx store.Tx) error {
			ids = nil
			for i := range nodes {
				n := &vda.Node{ID: store.NewID(), Name: fmt.Sprintf("more%d", i), Online: true, Version: 1}
				if err := tx.InsertNode(vda.DiskNode, n); err != nil {
					return err
				}
				ids = append(ids, n.ID)
			}
			return nil
		})
		slow := &slowStore{Store: r.store, refuse: "reason of 47"}
		m, err := New(Config{Store: slow, Dial: r.agents})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer m.wg.Wait()
		defer cancel()
		for range reportWriters {
			m.wg.Go(func() { m.writeReports(ctx) })
		}
		answers := make(chan error, nodes)
		tell := func(from, to int) (failed int) {
			for i := from; i < to; i++ {
				go func() {
					answers <- m.file(ctx, array.Node{Kind: vda.DiskNode, ID: ids[i]}, syncer.Report{Problem: fmt.Sprint("reason of ", i), Down: true})
				}()
			}
			for i := from; i < to; i++ {
				if <-answers != nil {
					failed++
				}
			}
			return failed
		}
		if failed := tell(0, 40); failed != 0 {
			t.Errorf("%d reports are not written", failed)
		}
		// Each writer's first may be one alone.
		if n := slow.updates.Load(); n > 4 {
			t.Errorf("40 nodes that go down at once take %d transactions", n)
		}
		if failed := tell(40, nodes); failed != 1 {
			t.Errorf("%d reports are not written where one cannot be", failed)
		}
		wrong := 0
		if err := r.store.View(r.Context(), func(tx store.Reader) error {
			for i, id := range ids {
				n, err := tx.Node(vda.DiskNode, id)
				if err != nil {
					return err
				}
				if n.Health.Error == (i == 47) {
					wrong++
				}
			}
			return nil
		}); err != nil || wrong != 0 {
			t.Errorf("%d nodes are not as they were reported, %v", wrong, err)
		}
	})
}
