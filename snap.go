package vda

import (
	"fmt"
	"time"
)

// SnapState says how far a snapshot has come. It only moves forward.
type SnapState uint8

// SnapTogether: the array's primary takes it when it is called for that, together with
// those of other arrays at one instant. All become taken at once, or all tombstones; a
// release that knows no such snapshots leaves them alone.
const SnapTogether SnapState = 0

// The other states of a snapshot.
const (
	// SnapAsked: the array's primary is to take it, unless it finds it taken.
	SnapAsked SnapState = iota + 1
	// SnapTaken: it is on media, and is never taken again.
	SnapTaken
	// SnapDeleting: a tombstone. What there may be of it on media goes, whether
	// it was ever taken or not.
	SnapDeleting
)

func (s SnapState) String() string {
	switch s {
	case SnapAsked, SnapTogether:
		return "asked"
	case SnapTaken:
		return "taken"
	case SnapDeleting:
		return "deleting"
	}
	return fmt.Sprintf("snapshot state %d", uint8(s))
}

// SnapRollback says how far an array has come in being rolled back to a snapshot.
type SnapRollback uint8

// The states of a rollback. The order is in SQL before anything is done, and is
// finished by whichever controller is the primary.
const (
	// RollbackNone: there is none.
	RollbackNone SnapRollback = iota
	// RollbackAsked: the primary is to make the volume what the snapshot shows, unless it
	// has. The volume of before is put aside.
	RollbackAsked
	// RollbackDone: it has, and never does it again. The volume of before goes.
	RollbackDone
)

func (r SnapRollback) String() string {
	switch r {
	case RollbackNone:
		return ""
	case RollbackAsked:
		return "asked"
	case RollbackDone:
		return "done"
	}
	return fmt.Sprintf("rollback state %d", uint8(r))
}

// Snap is a snapshot of a disk array: what was on it at one moment.
type Snap struct {
	ID   string
	DAID string
	Name string // unique in its array
	// CloneOf is the id of the snapshot that a writable one is a clone of, in the array's lvstore;
	// "" for one that shows what was on the array at one moment, and takes no writes.
	CloneOf string
	State   SnapState
	// Together is the same for snapshots that several arrays have of one instant; "" for others.
	Together string
	// Rollback is of the array to this snapshot. One of an array's snapshots has one at most.
	Rollback SnapRollback
	Size     uint64    // bytes of the array at that moment
	Held     uint64    // bytes of clusters that are this snapshot's own; as last reported
	Asked    time.Time // when the order was recorded
	Taken    time.Time // when it was first known to be on media, which is after the moment that it shows; zero before

	Health Health
}

// TogetherTime is within what snapshots of several arrays are taken or not: after it they
// become tombstones.
const TogetherTime = 2 * time.Minute

// Live reports that users see the snapshot.
func (s *Snap) Live() bool { return s.State != SnapDeleting }

// Writable reports that hosts may write to the snapshot.
func (s *Snap) Writable() bool { return s.CloneOf != "" }

// Claims is how many bytes of its physical size an array that is not thin needs for the
// snapshot: what it holds, or, as hosts may write to all of it, what it may come to hold.
func (s *Snap) Claims() uint64 {
	if s.Writable() {
		return max(s.Size, s.Held)
	}
	return s.Held
}

// Validate checks what a user has said of a new snapshot; the fields of its error
// are those of CreateSnapRequest.
func (s *Snap) Validate() error { return CheckNewSnapName("snap_name", s.Name) }

// MaxSnaps is how many snapshots an array of that physical size, bytes, may have.
// Each takes metadata pages of the lvstore, which has as many as clusters; three
// quarters of them stay for the volume and what comes and goes.
func MaxSnaps(physical, clusterSize uint64) int {
	const most = 255
	if clusterSize == 0 {
		return most
	}
	return int(max(1, min(most, physical/clusterSize/4)))
}
