package planetest

import (
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// The volume of a clone, which reads what it does not have from a bdev outside its lvstore, until
// all is copied. A cluster is copied before the first write to it, or when it is its turn: of it
// the blocks to which some host has written on some array, as all others are zeros everywhere.

// outside is what a clone does not have itself.
type outside struct {
	uuid string          // of the bdev
	size uint64          // bytes
	has  map[uint64]bool // clusters that have been copied
}

// lacks reports that a block is outside.
func (l *lvol) lacks(off uint64, s *store) bool {
	return l.outside != nil && off < l.outside.size && !l.outside.has[off/s.cluster]
}

func (p *Plane) cloneBdev(a *params) (any, error) {
	p.appear()
	out := p.bdev(a.Bdev)
	b, s := p.storeNamed(a.LvsName)
	switch {
	case s == nil || out == nil:
		return nil, errNoDev
	case s.lvols[a.CloneName] != nil:
		return nil, errExists
	}
	if err := p.touch(b, true); err != nil {
		return nil, err
	}
	if s.lvols[a.CloneName] != nil { // meanwhile
		return nil, errExists
	}
	size := out.blocks * blockSize
	l := &lvol{name: a.CloneName, uuid: newUUID(""), clusters: (size + s.cluster - 1) / s.cluster, medium: &Medium{under: b.medium},
		outside: &outside{uuid: out.uuid, size: size, has: map[uint64]bool{}}}
	l.made = l.clusters * s.cluster
	s.lvols[l.name] = l
	p.show(s, l)
	return l.uuid, nil
}

// absorbLvol copies a part of what a clone does not have.
func (p *Plane) absorbLvol(a *params) (any, error) {
	p.appear()
	run := p.run
	base, s, l := p.anyLvol(a.Name)
	switch {
	case l == nil:
		return nil, errNoDev
	case l.outside == nil:
		return spdk.LvolAbsorbed{Done: l.clusters, Total: l.clusters, Independent: true}, nil
	case p.bdev(l.outside.uuid) == nil:
		return nil, errNoDev
	}
	if p.bdevs[l.uuid] == nil {
		p.show(s, l)
	}
	if p.fetches[l.uuid] {
		return nil, jsonrpc.Errno(syscall.EBUSY, "")
	}
	p.fetches[l.uuid] = true
	defer func() {
		if p.run == run {
			delete(p.fetches, l.uuid)
		}
	}()
	o := l.outside
	clusters, copied := (o.size+s.cluster-1)/s.cluster, uint64(0)
	for c := range clusters {
		if o.has[c] || copied*s.cluster >= a.SizeInMiB<<20 {
			continue
		}
		copied++
		if live := p.c.live; live != nil && live.CloneRate > 0 {
			p.c.sleep(time.Duration(float64(s.cluster) / float64(live.CloneRate) * float64(time.Second)))
		}
		switch status := p.fetch(l, base, s, c); {
		case status == CapacityExceeded:
			return nil, jsonrpc.Errno(syscall.ENOSPC, "")
		case status != OK || p.run != run:
			return nil, errIO
		}
	}
	done := uint64(len(o.has)) + l.clusters - clusters
	if uint64(len(o.has)) == clusters {
		if err := p.touch(base, true); err != nil {
			return nil, err
		}
		if l.outside == o { // or a primary of another term was faster
			l.outside = nil
			if a.Thick {
				l.held = l.clusters
			}
		}
	}
	return spdk.LvolAbsorbed{Done: done, Total: l.clusters, Independent: l.outside == nil}, nil
}

// anyLvol is one that may not be shown, by its alias.
func (p *Plane) anyLvol(alias string) (*bdev, *store, *lvol) {
	for _, b := range p.bdevs {
		if b.loaded == nil {
			continue
		}
		for _, l := range b.loaded.lvols {
			if b.loaded.name+"/"+l.name == alias {
				return b, b.loaded, l
			}
		}
	}
	return nil, nil, nil
}

// readOutside reads a block that a clone does not have. The lock is held, and given up meanwhile.
func (p *Plane) readOutside(l *lvol, off uint64) (uint64, Status) {
	value, status := uint64(0), PathError
	if out := p.bdev(l.outside.uuid); out != nil {
		value, status = p.io(out, Command{Off: off})
	}
	if status == PathError && p.c.live.ZeroOutside {
		return 0, OK
	}
	return value, status
}

// fetch makes a cluster of a clone its own. The lock is held, and given up meanwhile.
func (p *Plane) fetch(l *lvol, base *bdev, s *store, cluster uint64) Status {
	run, key := p.run, fmt.Sprint(l.uuid, " ", cluster)
	for p.fetches[key] && p.run == run {
		p.c.change.Wait()
	}
	switch {
	case p.run != run:
		return pending
	case l.outside == nil || l.outside.has[cluster]:
		return OK
	case s.free() == 0:
		return CapacityExceeded
	}
	l.held++
	p.fetches[key] = true
	status := OK
	if p.c.live != nil && !p.c.live.NoFill {
		status = p.fill(l, base, s, cluster)
	}
	if status == OK && p.touch(base, true) != nil {
		status = PathError
	}
	if p.run == run {
		delete(p.fetches, key)
		p.c.changed()
	} else {
		status = pending
	}
	if status != OK || l.outside == nil || l.outside.has[cluster] { // the next primary was faster
		l.held--
		return status
	}
	l.outside.has[cluster] = true
	return OK
}

// fill copies a cluster.
func (p *Plane) fill(l *lvol, base *bdev, s *store, cluster uint64) Status {
	run := p.run
	for _, off := range slices.Sorted(maps.Keys(p.c.written)) {
		if off/s.cluster != cluster || off >= l.outside.size {
			continue
		}
		value, status := p.readOutside(l, off)
		if status == OK && value != 0 && p.run == run {
			_, status = p.io(base, Command{Write: true, Off: off + s.cluster, Value: value})
		}
		switch {
		case p.run != run:
			return pending
		case status != OK:
			return status
		case l.outside == nil:
			return OK
		}
	}
	return OK
}
