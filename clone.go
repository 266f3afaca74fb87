package vda

import (
	"slices"
	"strings"
)

// CloneSource is what an array is copied from: a snapshot of another array, by an exporter
// that lets in its primary alone. Until all is copied, what the array has not written and
// not copied is read from there.
type CloneSource struct {
	ExpID string     `json:"exp,omitempty"`  // "": the array stands for itself
	Name  string     `json:"name,omitempty"` // of the snapshot, as ARRAY/SNAPSHOT
	NQN   string     `json:"nqn,omitempty"`
	UUID  string     `json:"uuid,omitempty"` // of the namespace
	Size  uint64     `json:"size,omitempty"` // bytes
	At    []Listener `json:"at,omitempty"`   // the source's controllers, as the clone's primary has been told
	Done  uint64     `json:"done,omitempty"` // bytes that need not be copied any more; as last reported
	Total uint64     `json:"total,omitempty"`
	Term  uint64     `json:"term,omitempty"` // of the source, whose key the clone's primary is told; 0: none yet
}

// Copying reports that the array is not without its source yet.
func (s *CloneSource) Copying() bool { return s.ExpID != "" }

// SameAt reports that a source's controllers are where the clone's primary knows them.
func (s *CloneSource) SameAt(at []Listener) bool { return slices.Equal(s.At, at) }

// ParseSnapPath reads ARRAY/SNAPSHOT.
func ParseSnapPath(field, text string) (da, snap string, err error) {
	da, snap, ok := strings.Cut(text, "/")
	if !ok {
		return "", "", invalid("%s %q is not ARRAY/SNAPSHOT, like ledger/monday", field, Shorten(text, 80))
	}
	if err := CheckName(field+"'s array", da); err != nil {
		return "", "", err
	}
	return da, snap, CheckName(field+"'s snapshot", snap)
}

// checkNotOurs refuses names that only VDA gives.
func checkNotOurs(field, name string) error {
	if strings.HasPrefix(name, ClonePrefix) {
		return invalid("%s %q: names that begin with %s are those of what clones are copied from; choose another", field, Shorten(name, 80),
			ClonePrefix)
	}
	return nil
}

// CheckNewSnapName refuses a name that a user may not give a snapshot.
func CheckNewSnapName(field, name string) error {
	if err := CheckName(field, name); err != nil {
		return err
	}
	return checkNotOurs(field, name)
}
