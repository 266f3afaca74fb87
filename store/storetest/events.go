package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/store"
)

// testEvents: an event is there with what it tells of, or neither is; it is found by all
// that it says.
func testEvents(t *testing.T, s *suite) {
	dn := newDN()
	who := vda.Caller{Method: "CreateDn", User: "alice", Peer: "192.0.2.7:4711", ReqID: "r-" + dn.ID}
	down := vda.Event{Kind: vda.EventNodeDown, Object: "dn", Name: dn.Name, ObjectID: dn.ID, Text: "agent not reachable: \x00"}
	disk := vda.Event{Kind: vda.EventDiskOK, Object: "pd", Name: "pd0", Parent: dn.Name, ObjectID: store.NewID(), Text: "it is well again",
		Took: 1500 * time.Millisecond, At: noon}
	moved := vda.Event{Kind: vda.EventFailoverBegin, Object: "da", Name: "da-" + dn.ID, Parent: dn.Name, Text: "off it goes"}
	refused := vda.Event{Kind: vda.EventRefused, Object: "dn", Name: dn.Name, Text: "no", Caller: who, Code: 12,
		Since: time.Now().Add(-time.Hour)}
	failed := errors.New("changed my mind")
	err := s.Update(s.ctx, func(tx store.Tx) error {
		if err := tx.Record(vda.Event{Kind: vda.EventChange, ObjectID: dn.ID, Object: "dn", Name: dn.Name}); err != nil {
			return err
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Fatalf("update: %v", err)
	}
	err = s.Update(store.WithCaller(s.ctx, &who), func(tx store.Tx) error {
		return errors.Join(tx.InsertNode(vda.DiskNode, &dn.Node), tx.Record(down), tx.Record(disk), tx.Record(moved))
	})
	if err != nil {
		t.Fatal(err)
	}
	s.update(t, func(tx store.Tx) error { return tx.Record(refused) })
	list := func(f store.EventFilter, p store.EventPage) (rows []vda.Event) {
		t.Helper()
		s.view(t, func(tx store.Reader) (err error) {
			rows, err = tx.ListEvents(f, p)
			return err
		})
		return rows
	}
	all := list(store.EventFilter{Under: dn.Name}, store.EventPage{})
	if len(all) != 4 || all[0].ID == 0 || all[0].ID >= all[1].ID || all[1].ID >= all[2].ID || all[2].ID >= all[3].ID {
		t.Fatalf("events: %+v", all)
	}
	if since := time.Since(all[0].At); since < 0 || since > time.Hour {
		t.Errorf("the first event is of %v", all[0].At)
	}
	if took := all[3].Took; took < time.Hour || took > 2*time.Hour {
		t.Errorf("what began an hour ago took %v", took)
	}
	down.ID, down.At = all[0].ID, all[0].At
	disk.ID = all[1].ID
	moved.ID, moved.At, moved.Caller = all[2].ID, all[2].At, who
	refused.ID, refused.At, refused.Took, refused.Since = all[3].ID, all[3].At, all[3].Took, time.Time{}
	down.Text = all[0].Text // without what no database takes
	same(t, "events", all, []vda.Event{down, disk, moved, refused})
	for _, c := range []struct {
		name string
		f    store.EventFilter
		p    store.EventPage
		want []vda.Event
	}{
		{"by kind", store.EventFilter{Under: dn.Name, Kinds: []vda.EventKind{vda.EventRefused, vda.EventNodeDown}}, store.EventPage{},
			[]vda.Event{down, refused}},
		{"by object", store.EventFilter{Under: dn.Name, Object: "pd"}, store.EventPage{}, []vda.Event{disk}},
		{"by name", store.EventFilter{Name: dn.Name}, store.EventPage{}, []vda.Event{down, refused}},
		{"by parent", store.EventFilter{Parent: dn.Name, Name: "pd0"}, store.EventPage{}, []vda.Event{disk}},
		{"by id of the object", store.EventFilter{ObjectID: dn.ID}, store.EventPage{}, []vda.Event{down}},
		{"by request", store.EventFilter{ReqID: who.ReqID}, store.EventPage{}, []vda.Event{moved, refused}},
		{"since", store.EventFilter{Under: dn.Name, Object: "pd", Since: noon.Add(time.Microsecond)}, store.EventPage{}, nil},
		{"until the moment", store.EventFilter{Under: dn.Name, Object: "pd", Since: noon}, store.EventPage{}, []vda.Event{disk}},
		{"the newest first", store.EventFilter{Under: dn.Name}, store.EventPage{Newest: true, Limit: 2}, []vda.Event{refused, moved}},
		{"before", store.EventFilter{Under: dn.Name}, store.EventPage{Newest: true, Before: disk.ID}, []vda.Event{down}},
		{"after", store.EventFilter{Under: dn.Name}, store.EventPage{After: moved.ID}, []vda.Event{refused}},
	} {
		got := list(c.f, c.p)
		same(t, c.name, got, c.want)
	}
	s.view(t, func(tx store.Reader) error {
		last, err := tx.LastEvent(dn.ID, vda.EventNodeDown, vda.EventNodeUp)
		same(t, "the last one", last, &down)
		if err != nil {
			return err
		}
		none, err := tx.LastEvent(dn.ID, vda.EventNodeUp)
		if none != nil {
			t.Errorf("the last one of none: %+v", none)
		}
		return err
	})
	if err := s.Update(s.ctx, func(tx store.Tx) error { return tx.Record(vda.Event{Kind: "party"}) }); err == nil {
		t.Error("an event of a kind that there is not was recorded")
	}
}

// testOldEvents: the table is bounded.
func testOldEvents(t *testing.T, s *suite) {
	s.update(t, func(tx store.Tx) error {
		for range 10 {
			if err := tx.Record(vda.Event{Kind: vda.EventChange, Text: "something"}); err != nil {
				return err
			}
		}
		return nil
	})
	const keep = 4
	for more := true; more; {
		s.update(t, func(tx store.Tx) (err error) {
			more, err = tx.DeleteOldEvents(keep)
			return err
		})
	}
	s.view(t, func(tx store.Reader) error {
		rows, err := tx.ListEvents(store.EventFilter{}, store.EventPage{})
		if len(rows) == 0 || len(rows) > keep || rows[len(rows)-1].ID-rows[0].ID >= keep {
			t.Errorf("%d events are left, want %d", len(rows), keep)
		}
		return err
	})
	s.update(t, func(tx store.Tx) error {
		more, err := tx.DeleteOldEvents(1 << 40)
		if more {
			t.Error("there are more events than there are")
		}
		return err
	})
}
