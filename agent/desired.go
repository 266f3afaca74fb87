package agent

import (
	"iter"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/virtual-disk-array/vda"
	apiv1 "github.com/virtual-disk-array/vda/api/v1"
)

// PruneKey is the unit that removes what no object of the set accounts for.
const PruneKey = "prune"

// goneFor is how long a carried-out tombstone is remembered, so that the Sync
// that brought it can be answered.
const goneFor = time.Minute

// Spec is what the control plane desires of one object.
type Spec interface {
	proto.Message
	GetId() string
	GetDeleted() bool
}

// Object is one of a desired set.
type Object struct {
	Key  string // of its unit
	Kind string // "pd", "vd" or "cntlr"
	DA   string // "" when it is not of a disk array
	Term uint64 // of the array
	Spec Spec
}

// Set is the desired set of an agent. A Sync makes another of it; specs are
// shared between the two and never changed.
type Set interface {
	// Objects returns all of them, tombstones too, in no order.
	Objects() iter.Seq[Object]
	// Spec returns that of a unit's object, nil for one that is not in the set.
	Spec(key string) Spec
	// Vacant reports that there is nothing left to do for any object.
	Vacant() bool
	// Message returns the set as it is persisted, nil for one that is vacant.
	Message() proto.Message
}

// live returns the number of objects that are not tombstones.
func live(s Set) int {
	n := 0
	for o := range s.Objects() {
		if !o.Spec.GetDeleted() {
			n++
		}
	}
	return n
}

// vanished returns the live objects of old that next does not have, not even
// as tombstones.
func vanished(old, next Set) iter.Seq[Object] {
	return func(yield func(Object) bool) {
		for o := range old.Objects() {
			if !o.Spec.GetDeleted() && next.Spec(o.Key) == nil && !yield(o) {
				return
			}
		}
	}
}

// Restore passes what State has kept to merge: the last full set, then each
// change of it, in order. empty makes an empty request.
func (n *Node) Restore(empty func() proto.Message, merge func(req proto.Message)) error {
	full := empty()
	if _, err := n.State.Desired(full); err != nil {
		return err
	}
	changes, err := n.State.Changes(empty)
	if err != nil {
		return err
	}
	for _, req := range append([]proto.Message{full}, changes...) {
		merge(req)
	}
	return nil
}

// Begin starts work on a set that was restored: a unit for each object, and
// PruneKey. lock guards the set, whichever set returns then.
func (n *Node) Begin(lock sync.Locker, set func() Set, cfg LoopConfig) {
	n.whole = func() proto.Message {
		lock.Lock()
		defer lock.Unlock()
		return set().Message()
	}
	n.Plane.Holds = func() bool {
		lock.Lock()
		defer lock.Unlock()
		return !set().Vacant()
	}
	cfg.Log = n.Log
	n.Loop = NewLoop(cfg)
	lock.Lock() // passes begin at once
	defer lock.Unlock()
	for o := range set().Objects() {
		n.Loop.Kick(o.Key, false)
	}
	n.Loop.Kick(PruneKey, false)
}

// Accept takes a request: the set that it makes of old is durable, and the units
// of the objects that it names, which are returned to wait for, are asked for a
// pass. After an error nothing has changed. merge returns the new set and must
// have no effects. The caller holds the lock that guards its set, so that
// passes see the new one.
func Accept[S Set](n *Node, req SyncRequest, named []Object, old S, merge func() S) (next S, tickets []Ticket, err error) {
	full := req.GetBaseVersion() == 0
	c := claim(req, named, old)
	// The marks are not of the set.
	m := req.ProtoReflect()
	m.Clear(m.Descriptor().Fields().ByName("marks"))
	if full {
		err = n.State.Accept(c, func() (proto.Message, error) {
			next = merge()
			if err := n.mayVanish(req, old, next); err != nil {
				return nil, err
			}
			return next.Message(), nil
		})
	} else {
		err = n.State.AcceptChange(c, req, func() (func() proto.Message, bool, error) {
			next = merge()
			return next.Message, !next.Vacant(), nil
		})
	}
	if err != nil {
		return old, nil, err
	}
	return next, n.setToWork(full, named, old, next), nil
}

// claim is what a request says of itself.
func claim(req SyncRequest, named []Object, old Set) Claim {
	c := Claim{ClusterID: req.GetClusterId(), NodeID: req.GetNodeId(), Version: req.GetVersion(), Base: req.GetBaseVersion(),
		Marks: apiv1.VersionMarks(req.GetMarks()), Terms: map[string]uint64{}, Vacant: old.Vacant(), Held: map[string]bool{}}
	for _, o := range named {
		if o.DA != "" && !o.Spec.GetDeleted() {
			c.Terms[o.DA] = max(c.Terms[o.DA], o.Term)
		}
	}
	if c.Base == 0 {
		for o := range old.Objects() {
			c.Held[o.DA] = true
		}
	}
	return c
}

// remembers is of a set whose objects may be told less than they were.
type remembers interface {
	// Lost returns objects as they were that are in both sets, and of which next may have
	// lost what is on disks, under kinds of their own.
	Lost(next Set) []Object
}

// mayVanish refuses a full set that would leave the node without any live object
// and does not say that this is meant. What vanishes from any other becomes an
// orphan.
func (n *Node) mayVanish(req SyncRequest, old, next Set) error {
	if !req.GetAllowEmpty() && live(next) == 0 {
		for range vanished(old, next) {
			return vda.Errorf(vda.FailedPrecondition, "the request would leave this node without any of its %d objects; if that is right, "+
				"say so with vda_cli syncup %s --allow-empty (allow_empty): disks keep what is on them", live(old), n.Plane.agent)
		}
	}
	keep := slices.Collect(vanished(old, next))
	if r, ok := old.(remembers); ok {
		keep = append(keep, r.Lost(next)...)
	}
	for _, o := range keep {
		if err := n.State.KeepOrphan(o.Kind, o.Spec.GetId(), o.Spec); err != nil {
			return err
		}
	}
	return nil
}

// setToWork asks for a pass over each object that a request named.
func (n *Node) setToWork(full bool, named []Object, old, next Set) []Ticket {
	kick := n.Loop.KickNamed
	if full {
		kick = n.Loop.Kick
		for o := range old.Objects() {
			if next.Spec(o.Key) == nil {
				n.Loop.Forget(o.Key)
			}
		}
	}
	var tickets []Ticket
	for _, o := range named {
		changed := !proto.Equal(old.Spec(o.Key), next.Spec(o.Key))
		tickets = append(tickets, Ticket{Key: o.Key, IDs: []string{o.Spec.GetId()}, Gen: kick(o.Key, changed)})
	}
	if full {
		tickets = append(tickets, Ticket{Key: PruneKey, Gen: kick(PruneKey, false)})
	}
	return tickets
}

// Tombstones are those of a set that were carried out, by object id, and when.
type Tombstones map[string]time.Time

// Still returns those that are tombstones of the next set too.
func (t Tombstones) Still(deleted func(id string) bool) Tombstones {
	next := Tombstones{}
	for id, at := range t {
		if deleted(id) {
			next[id] = at
		}
	}
	return next
}

// Has reports that an object's tombstone was carried out.
func (t Tombstones) Has(id string) bool {
	_, gone := t[id]
	return gone
}

// Expire drops those that need not be remembered any longer, and returns their
// ids.
func (t Tombstones) Expire() (ids []string) {
	for id, at := range t {
		if time.Since(at) >= goneFor {
			delete(t, id)
			ids = append(ids, id)
		}
	}
	return ids
}

// NoteGone remembers that an object's tombstone was carried out; false when
// that was known. attrs are for the log.
func (n *Node) NoteGone(t Tombstones, kind, id string, attrs ...any) bool {
	if t.Has(id) {
		return false
	}
	t[id] = time.Now()
	attrs = append([]any{"object", kind, "id", id}, attrs...)
	if err := n.State.ForgetOrphan(kind, id); err != nil {
		n.Log.Warn("a deleted object may be listed as an orphan", append(attrs, "err", err)...)
	}
	n.Log.Info("deleted", attrs...)
	return true
}

// MayPrune reports whether what no object of a set accounts for may be removed:
// not before the first Sync, and not for a set that is empty without saying so.
func (n *Node) MayPrune(s Set, allowEmpty bool) bool {
	_, _, version := n.State.Identity()
	return version > 0 && (allowEmpty || live(s) > 0)
}
