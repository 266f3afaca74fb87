package core

import (
	"fmt"

	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// scrub reads all members of a mirror and compares them, step by step. It waits
// while there is something else to do that makes legs equal: a repair, or a target.
type scrub struct {
	running bool
	flying  *IO      // the step that is under way
	off     uint64   // where the next one begins
	fine    uint64   // up to here steps are of one block
	repair  label.ID // the vd that is right where legs differ; zero: the majority
	status  ScrubStatus
}

// ScrubStatus is how far a scrub is, or the last one has come.
type ScrubStatus struct {
	Running    bool
	Done       uint64 // bytes that were compared
	Mismatches uint64 // blocks of 4096 bytes in which members differed
	Repaired   uint64 // of these, blocks that were written again on the legs that were wrong
	// Offsets are those of the first blocks in which members differed, in bytes.
	Offsets []uint64
	Begun   bool // there is or was one
	Ended   bool // it has come to the end
}

// maxOffsets is how many offsets of mismatches are kept.
const maxOffsets = 64

// block is what mismatches are counted in.
const block = label.SlotSize

// Scrub begins to compare all members from the start. Where one of three differs
// from two that are equal, it is repaired. from is the vd that others are repaired
// from wherever they differ; zero: two legs that differ are counted and left as
// they are, as nobody knows which is right.
func (c *Core) Scrub(from label.ID) error {
	switch l, known := c.Find(from); {
	case c.scrub.running:
		return fmt.Errorf("a scrub is running, %d of %d bytes are done; stop it first", c.scrub.status.Done, c.cfg.DataSize)
	case from != label.ID{} && (!known || c.legs[l].role != Member):
		return fmt.Errorf("vd %v is not a member; legs can be repaired from a member alone", from)
	}
	c.scrub = scrub{running: true, flying: c.scrub.flying, repair: from, status: ScrubStatus{Running: true, Begun: true}}
	c.changes++
	c.pump()
	return nil
}

// StopScrub ends a scrub; what it has found is kept. The step that is under way
// ends by itself.
func (c *Core) StopScrub() {
	if c.scrub.running {
		c.scrub.running, c.scrub.status.Running = false, false
		c.changes++
	}
}

// startScrub starts the next step.
func (c *Core) startScrub() {
	s := &c.scrub
	for s.running && s.flying == nil && !c.held() && !c.stopping && c.repair.Count() == 0 && c.catch == 0 && c.written() == c.members() {
		if s.off >= c.cfg.DataSize {
			s.status.Ended = true
			c.StopScrub()
			return
		}
		if !c.mayCopy() {
			return
		}
		size := c.cfg.CopyStep
		if s.off < s.fine {
			size = block
		}
		io := &IO{Op: scrubOp, Off: s.off, Len: min(size, c.cfg.DataSize-s.off)}
		s.flying = io
		c.copies++
		c.spend(io.Len)
		c.enqueue(io)
		c.startWaiting()
	}
}

// compareAll has all members read.
func (c *Core) compareAll(io *IO) {
	io.need = c.members()
	io.failed = 0
	c.each(io, io.need, ReadLeg)
	io.stage = reading
}

// scrubRead goes on after a member was read.
func (c *Core) scrubRead(io *IO, l Leg, r Result) {
	switch r {
	case Path:
		c.lose(l, NotRead)
	case Media:
		io.failed |= set(l)
	}
	switch {
	case io.pend != 0:
	case c.held() || io.short || io.need != c.members():
		c.end(io, Path)
	case io.failed == 0:
		c.out = append(c.out, Action{Kind: Compare, IO: io, Legs: io.need})
	case io.Len > block:
		c.scrub.fine = io.Off + io.Len
		c.end(io, Path)
	default: // what cannot be read is wrong
		c.differ(io, io.need&^io.failed)
	}
}

// Compared says how an action Compare ended: which legs hold what the most of them
// hold, and zero when no more than half do. All of Legs: they are equal.
func (c *Core) Compared(io *IO, most LegSet) {
	if c.yielded {
		return
	}
	s := &c.scrub
	switch {
	case io.need != c.members() || io.short || c.held() || io != s.flying:
		c.end(io, Path)
	case most == io.need:
		c.end(io, OK)
	case io.Len > block:
		s.fine = io.Off + io.Len
		c.end(io, Path)
	default:
		c.differ(io, most)
	}
	c.pump()
}

// differ counts a block in which members differ, and repairs it if it is known
// who is right.
func (c *Core) differ(io *IO, most LegSet) {
	s := &c.scrub.status
	if s.Mismatches++; len(s.Offsets) < maxOffsets {
		s.Offsets = append(s.Offsets, io.Off)
	}
	c.counters.Mismatches++
	c.changes++
	if from, known := c.Find(c.scrub.repair); known && io.need.Has(from) && !io.failed.Has(from) {
		most = set(from)
	}
	if most == 0 || c.stopping {
		c.end(io, OK)
		return
	}
	for i := range c.legs {
		if most.Has(Leg(i)) {
			io.from = Leg(i)
		}
	}
	io.rewrite, io.failed = io.need&^most, 0
	if io.rewrite.Has(c.source) { // else a repair after a crash would have the wrong one win
		c.source = io.from
		c.relabel = true
	}
	io.stage = labelling
	c.labelledScrub(io)
}

// labelledScrub goes on once labels name a source that is right.
func (c *Core) labelledScrub(io *IO) {
	if io.stage == labelling && !c.relabel && c.labels.pend == 0 && !c.held() {
		c.mark(io)
	}
}

// scrubbed goes on after a step.
func (c *Core) scrubbed(io *IO, r Result) {
	c.copies--
	s := &c.scrub
	if s.flying != io {
		return
	}
	s.flying = nil
	if r != OK || !s.running || s.off != io.Off { // it is done again, or never
		return
	}
	if io.rewrite != 0 {
		s.status.Repaired++
	}
	s.off += io.Len
	s.status.Done = s.off
}
