package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/virtual-disk-array/vda"
)

// Events are inserted at the end of their transaction, so that the time between the
// moment in which a row gets its id and the one in which others see it is short: those
// who follow the table by ids wait for what may still come (EventSettled).

// EventSettled is how long after an event was first seen no event with a lower id can
// turn up any more: transactions end before.
const EventSettled = maxTransaction + 5*time.Second

// EventFilter selects events; what is not set selects all.
type EventFilter struct {
	Kinds    []vda.EventKind // one of these
	Object   string          // kind of object
	Name     string          // of the object, without its parent
	Parent   string          // the object's parent
	Under    string          // the object's own name, or its parent's
	ObjectID string
	ReqID    string
	Since    time.Time // not before
}

// EventPage selects events by id.
type EventPage struct {
	Limit  int    // rows at most; 0: all
	After  uint64 // those with higher ids only, the lowest first
	Before uint64 // not 0: those with lower ids only
	Newest bool   // the highest first
}

var eventTable = table[vda.Event]{
	name: "vda_event", noun: "event",
	cols: []string{"id", "at_us", "kind", "object", "name", "parent", "object_id", "msg", "method", "user_name", "peer", "req_id", "code",
		"took_us"},
	dest: func(v *vda.Event) []any {
		return []any{&v.ID, us{&v.At}, &v.Kind, &v.Object, &v.Name, &v.Parent, &v.ObjectID, &v.Text, &v.Method, &v.User, &v.Peer, &v.ReqID,
			&v.Code, micros{&v.Took}}
	},
}

type callerKey struct{}

// WithCaller returns a context for transactions whose events are caused by what c is
// when they happen.
func WithCaller(ctx context.Context, c *vda.Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// Record implements Tx.
func (t *sqlTx) Record(e vda.Event) error {
	if !e.Kind.Known() {
		return vda.Errorf(vda.Internal, "there is no event of kind %q", e.Kind)
	}
	if e.Caller == (vda.Caller{}) && e.Kind.Caused() {
		if c, ok := t.ctx.Value(callerKey{}).(*vda.Caller); ok {
			e.Caller = *c
		}
	}
	t.events = append(t.events, e)
	return nil
}

// eventsAtOnce bounds the events of a statement.
const eventsAtOnce = 100

// insertEvents ends a transaction.
func (t *sqlTx) insertEvents() error {
	for some := range slices.Chunk(t.events, eventsAtOnce) {
		var args []any
		for i := range some {
			e := &some[i]
			if e.At.IsZero() {
				e.At = time.Now().UTC().Truncate(time.Microsecond)
			}
			if !e.Since.IsZero() {
				e.Took = max(e.At.Sub(e.Since), 0).Truncate(time.Microsecond)
			}
			args = append(args, us{&e.At}, string(e.Kind), e.Object, vda.Shorten(e.Name, 200), vda.Shorten(e.Parent, 200), e.ObjectID,
				CleanMsg(e.Text), e.Method, vda.Shorten(e.User, 200), vda.Shorten(e.Peer, 200), vda.Shorten(e.ReqID, 64), e.Code, micros{&e.Took})
		}
		row := "(" + marks(len(args)/len(some)) + ")"
		_, err := t.exec("INSERT INTO vda_event (at_us, kind, object, name, parent, object_id, msg, method, user_name, peer, req_id, code, "+
			"took_us) VALUES "+row+strings.Repeat(", "+row, len(some)-1), args...)
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *sqlReader) ListEvents(f EventFilter, p EventPage) ([]vda.Event, error) {
	var c cond
	c.and("id > ?", p.After)
	if p.Before > 0 {
		c.and("id < ?", p.Before)
	}
	for _, is := range []struct{ col, want string }{
		{"object", f.Object}, {"name", f.Name}, {"parent", f.Parent}, {"object_id", f.ObjectID}, {"req_id", f.ReqID},
	} {
		if is.want != "" {
			c.and(is.col+" = ?", is.want)
		}
	}
	if f.Under != "" {
		c.and("(name = ? OR parent = ?)", f.Under, f.Under)
	}
	if !f.Since.IsZero() {
		c.and("at_us >= ?", f.Since.UnixMicro())
	}
	if len(f.Kinds) > 0 {
		in, args := "kind IN (?", []any{string(f.Kinds[0])}
		for _, k := range f.Kinds[1:] {
			in += ", ?"
			args = append(args, string(k))
		}
		c.and(in+")", args...)
	}
	where := c.String() + " ORDER BY id"
	if p.Newest {
		where += " DESC"
	}
	if p.Limit > 0 {
		where += " LIMIT " + itoa(uint64(p.Limit))
	}
	return listRows(t.unlocked(), &eventTable, where, c.args...)
}

func (t *sqlReader) LastEvent(objectID string, kinds ...vda.EventKind) (*vda.Event, error) {
	all, err := t.ListEvents(EventFilter{ObjectID: objectID, Kinds: kinds}, EventPage{Limit: 1, Newest: true})
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// deletedEvents bounds how many events go in one transaction.
const deletedEvents = 5000

func (t *sqlTx) DeleteOldEvents(keep uint64) (more bool, err error) {
	var least, most uint64
	if err := t.scanOne("SELECT COALESCE(MIN(id), 0), COALESCE(MAX(id), 0) FROM vda_event", nil, &least, &most); err != nil {
		return false, err
	}
	if least == 0 || most-least < keep {
		return false, nil
	}
	last := min(most-keep, least+deletedEvents-1)
	_, err = t.exec("DELETE FROM vda_event WHERE id <= ?", last)
	return last < most-keep, err
}

// EventTail follows the table of events by ids: it passes each event on once, also those
// that are seen after others with higher ids. Not safe for concurrent use.
type EventTail struct {
	low  uint64               // all up to it have been seen, or will never be
	seen map[uint64]time.Time // those above, and when they were seen first
}

// NewEventTail begins behind an id.
func NewEventTail(after uint64) *EventTail {
	return &EventTail{low: after, seen: map[uint64]time.Time{}}
}

// After is the id above which events are to be read for Pass.
func (t *EventTail) After() uint64 { return t.low }

// Pass takes all events above After, the lowest first, and returns those that are new. now
// only grows.
func (t *EventTail) Pass(events []vda.Event, now time.Time) (fresh []vda.Event) {
	for i := range events {
		if _, old := t.seen[events[i].ID]; !old && events[i].ID > t.low {
			t.seen[events[i].ID] = now
			fresh = append(fresh, events[i])
		}
	}
	ids := make([]uint64, 0, len(t.seen))
	for id := range t.seen {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if id != t.low+1 && now.Sub(t.seen[id]) < EventSettled {
			break // one below may be under way
		}
		t.low = id
		delete(t.seen, id)
	}
	return fresh
}
