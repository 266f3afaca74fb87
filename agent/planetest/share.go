package planetest

import (
	"fmt"
	"slices"
)

// Lvols of an array, on a live cluster: a snapshot and what stands on it share blocks until one is
// written, which then gets a place of its own. What says where blocks are is on media as soon as
// the data are, and lost never: this is what blobstore's own tests are about.

// place is where a block of an lvol is, on what the lvstore is on; false: nowhere, it reads as zeros.
func (l *lvol) place(off uint64, oldData bool) (at uint64, there bool) {
	if at, there = l.at[off]; there {
		return at, true
	}
	return off, off < l.made || oldData
}

// owns reports that nobody else has the place of a block.
func (l *lvol) owns(off uint64) bool {
	if _, moved := l.at[off]; moved {
		return l.own[off]
	}
	return l.parent == nil && off < l.made
}

// newPlace returns one that nothing has had before.
func (s *store) newPlace() (at uint64, ok bool) {
	begin := uint64(0)
	for _, l := range s.lvols {
		begin = max(begin, l.made)
	}
	end := s.total * s.cluster
	if begin >= end || s.places*blockSize >= end-begin {
		return 0, false
	}
	at = begin + s.places*17*blockSize%(end-begin) // on one disk after the other
	s.places++
	return at, true
}

// shared is a command at an lvol of an array, on base. The lock is held, and given up while it waits.
func (p *Plane) shared(b, base *bdev, s *store, cmd Command) (uint64, Status) {
	_, l := p.lvol(b.name)
	if l == nil {
		return 0, PathError
	}
	if cmd.meta || cmd.Flush || cmd.flush || cmd.data != nil {
		cmd.Off += s.cluster
		return p.io(base, cmd)
	}
	run := p.run
	for p.held[l.uuid] && p.run == run {
		p.c.change.Wait()
	}
	if p.run != run {
		return 0, pending
	}
	p.busy[l.uuid]++
	defer func() {
		if p.run == run {
			p.busy[l.uuid]--
			p.c.changed()
		}
	}()
	off := cmd.Off
	if cmd.Write {
		p.c.written[off] = true
	}
	if l.thin {
		return p.thinly(l, base, s, cmd)
	}
	if l.lacks(off, s) {
		if !cmd.Write {
			return p.readOutside(l, off)
		}
		if status := p.fetch(l, base, s, off/s.cluster); status != OK {
			return 0, status
		}
	}
	at, there := l.place(off, p.c.live.OldData)
	switch {
	case !cmd.Write && !there:
		return 0, OK
	case !cmd.Write, l.owns(off), p.c.live.NoCopy && there:
		cmd.Off = at + s.cluster
		return p.io(base, cmd)
	}

	// One after the other, as they came.
	key, turn := fmt.Sprint(l.uuid, off), new(byte)
	p.queues[key] = append(p.queues[key], turn)
	for p.run == run && p.queues[key][0] != turn {
		p.c.change.Wait()
	}
	if p.run != run {
		return 0, pending
	}
	defer func() {
		if p.run == run {
			p.queues[key] = slices.DeleteFunc(p.queues[key], func(t *byte) bool { return t == turn })
			p.c.changed()
		}
	}()
	if l.owns(off) {
		at, _ = l.place(off, false)
		cmd.Off = at + s.cluster
		return p.io(base, cmd)
	}
	if at, there = s.newPlace(); !there {
		return 0, MediaError
	}
	cmd.Off = at + s.cluster
	value, status := p.io(base, cmd)
	if status == OK && p.run == run {
		if l.at == nil {
			l.at = map[uint64]uint64{}
		}
		if l.own == nil {
			l.own = map[uint64]bool{}
		}
		l.at[off], l.own[off] = at, true
	}
	return value, status
}

// quiet has an lvol's I/O wait and returns when none is under way, false when the plane has died
// meanwhile. The lock is held, and given up meanwhile.
func (p *Plane) quiet(l *lvol) (release func(), ok bool) {
	run := p.run
	if p.c.live == nil {
		return func() {}, true
	}
	for p.held[l.uuid] && p.run == run {
		p.c.change.Wait()
	}
	if p.run != run {
		return nil, false
	}
	p.held[l.uuid] = true
	release = func() {
		if p.run == run {
			delete(p.held, l.uuid)
			p.c.changed()
		}
	}
	for p.busy[l.uuid] > 0 && p.run == run {
		p.c.change.Wait()
	}
	return release, p.run == run
}

// ArrayLvols returns the names of the lvols of arrays that are up on the plane.
func (p *Plane) ArrayLvols() (names []string) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	for _, b := range p.bdevs {
		if b.loaded == nil || b.product != "Raid Volume" {
			continue
		}
		for n := range b.loaded.lvols {
			names = append(names, n)
		}
	}
	return names
}
