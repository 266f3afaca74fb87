package vda

import (
	"slices"
	"strconv"
)

// Mirror is a column of an array: its legs are the vds with the same place in the
// stripe, one in a striped array.
type Mirror struct {
	ID     string
	DAID   string
	GrpIdx uint32
	Idx    uint32 // place in the group's stripe
	Size   uint64 // bytes of data; a leg has LegTail more, at least, unless it is Bare
	Gen    uint64 // counts the changes of its members; from 1
	// Recovered is the Gen of the last change that a user made by da recover; 0: none. Labels
	// of a later one in which all members catch up are not started from.
	Recovered uint64
	Scrub     Scrub // the last one
}

// Scrub is how far a comparison of a mirror's legs is, or has come.
type Scrub struct {
	ID         string     `json:"id"` // of the order; "" when there was none
	Term       uint64     `json:"term"`
	State      ScrubState `json:"state"`
	Done       uint64     `json:"done"`       // bytes of Mirror.Size
	Mismatches uint64     `json:"mismatches"` // blocks of 4096 bytes in which legs differed
	Repaired   uint64     `json:"repaired"`   // of these, blocks that are equal by now
	First      uint64     `json:"first"`      // offset in bytes of the first of them
}

// ScrubState is the state of a scrub, as users see it.
type ScrubState string

// The states of a scrub.
const (
	ScrubRunning ScrubState = "running"
	ScrubDone    ScrubState = "done"
	ScrubStopped ScrubState = "stopped" // before its end
)

// Unequal is how many blocks are known to differ between legs.
func (s *Scrub) Unequal() uint64 { return s.Mismatches - min(s.Mismatches, s.Repaired) }

// Bare reports that the one member of a mirror, whose legs are these, may have no
// label: there has never been another.
func (m *Mirror) Bare(c *Column) bool { return m.Gen == 1 && len(c.Of(Member)) == 1 }

// HasTail reports that a leg has room for a label behind its data.
func (m *Mirror) HasTail(v *VD) bool { return v.Size >= m.Size+LegTail }

// LegTail is what a leg has behind its data, bytes: its label and its map.
const LegTail = 1 << 20

// LegRole is what a vd is in its column. The vd of a striped array is a Member.
type LegRole uint8

// The roles.
const (
	Member LegRole = iota // has every write that was acknowledged
	Target                // is written and copied to, and not read
	Stale                 // lacks writes, or may; it is not connected
)

func (r LegRole) String() string {
	switch r {
	case Member:
		return "member"
	case Target:
		return "target"
	case Stale:
		return "stale"
	}
	return "role " + strconv.Itoa(int(r))
}

// Column is a place in a group's stripe with the vds that hold its data:
// several in a mirrored array, one in a striped one.
type Column struct {
	GrpIdx, Idx uint32
	Legs        []*VD
}

// Columns sorts the vds of an array, which are in the order of GrpIdx and Idx,
// into columns. Tombstones are left out.
func Columns(vds []VD) []Column {
	var all []Column
	for i := range vds {
		v := &vds[i]
		if v.Deleted {
			continue
		}
		if n := len(all); n == 0 || all[n-1].GrpIdx != v.GrpIdx || all[n-1].Idx != v.Idx {
			all = append(all, Column{GrpIdx: v.GrpIdx, Idx: v.Idx})
		}
		last := &all[len(all)-1]
		last.Legs = append(last.Legs, v)
	}
	return all
}

// Of returns the legs that have a role.
func (c *Column) Of(r LegRole) (legs []*VD) {
	for _, v := range c.Legs {
		if v.Role == r {
			legs = append(legs, v)
		}
	}
	return legs
}

// Copied reports that what a leg lacks is copied to it: to a target, or to a member that broke
// together with its disk's cache and catches up, without which the others are needed.
func (v *VD) Copied() bool { return v.Role == Target || v.Role == Member && v.Lack > 0 }

// Usable reports whether a member is well: the data of the column can be read and
// written.
func (c *Column) Usable() bool {
	return left(c.Of(Member), func(v *VD) bool { return !v.Health.Error }) > 0
}

// Lacks is how many bytes are to be copied to legs of columns.
func Lacks(columns []Column) (bytes uint64) {
	for i := range columns {
		for _, v := range columns[i].Legs {
			if v.Copied() {
				bytes += v.Lack
			}
		}
	}
	return bytes
}

// Progress is how far legs are that are copied to, all together.
type Progress struct {
	Size uint64 // bytes of data that they are to have
	Lack uint64 // of these, bytes that are to be copied still
	Rate uint64 // bytes per second by which Lack falls; 0: not known
}

// ProgressOf is the progress of those of vds that are copied to, whose mirrors are among
// mirrors.
func ProgressOf(vds []VD, mirrors []Mirror) (p Progress) {
	for i := range vds {
		v := &vds[i]
		at := slices.IndexFunc(mirrors, func(m Mirror) bool { return m.ID == v.MirrorID })
		if !v.Copied() || v.Deleted || at < 0 {
			continue
		}
		p.Size += mirrors[at].Size
		p.Lack += min(v.Lack, mirrors[at].Size) // which is counted in whole regions
		p.Rate += v.CopyRate
	}
	return p
}

// Percent is how much of the data is there, 100 only when all is; 0 when there is
// nothing to be copied to.
func (p Progress) Percent() uint32 {
	if p.Size == 0 {
		return 0
	}
	return uint32(float64(p.Size-p.Lack) / float64(p.Size) * 100)
}

// Left is how many seconds it takes until nothing is lacking, at that rate; 0: not
// known, or nothing is.
func (p Progress) Left() uint64 {
	if p.Rate == 0 {
		return 0
	}
	return (p.Lack + p.Rate - 1) / p.Rate
}
