package planetest

import (
	"maps"
	"slices"
	"syscall"

	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/spdk/jsonrpc"
)

// load opens the lvstore on a bdev, if there is one and none of its name is
// open.
func (p *Plane) load(b *bdev) {
	if s := b.medium.store; s == nil || b.loaded != nil || b.claimed || s.total > b.blocks*4096/s.cluster-1 { // larger than its device
		return
	}
	if other, _ := p.storeNamed(b.medium.store.name); other != nil {
		return
	}
	b.loaded, b.claimed = b.medium.store, true
	p.stores[b.loaded.name] = b
	for _, l := range b.loaded.lvols {
		if l.outside == nil || p.bdev(l.outside.uuid) != nil {
			p.show(b.loaded, l)
		}
	}
}

func (p *Plane) show(s *store, l *lvol) {
	p.put(&bdev{name: l.uuid, uuid: l.uuid, product: "Logical Volume", of: s, lvol: l,
		aliases: []string{s.name + "/" + l.name}, blocks: l.clusters * s.cluster / 4096, medium: l.medium, readOnly: l.readOnly})
}

func (p *Plane) unload(b *bdev) {
	for _, l := range b.loaded.lvols {
		if up := p.bdevs[l.uuid]; up != nil {
			p.remove(up)
		}
	}
	delete(p.stores, b.loaded.name)
	b.loaded, b.claimed = nil, false
}

func (p *Plane) getLvstores(a *params) (any, error) {
	list := []spdk.Lvstore{}
	for _, b := range p.bdevs {
		if s := b.loaded; s != nil && (a.LvsName == "" || a.LvsName == s.name) {
			list = append(list, spdk.Lvstore{UUID: s.uuid, Name: s.name, BaseBdev: b.name,
				TotalDataClusters: s.total, FreeClusters: s.free(), BlockSize: 4096, ClusterSize: s.cluster, Failed: b.medium.taken})
		}
	}
	return list, nil
}

func (p *Plane) createLvstore(a *params) (any, error) {
	b := p.bdev(a.BdevName)
	switch {
	case b == nil:
		return nil, errNoDev
	case b.claimed:
		return nil, errPerm
	}
	if err := p.touch(b, true); err != nil {
		return nil, err
	}
	s := &store{name: a.LvsName, uuid: newUUID(""), cluster: a.ClusterSz, total: b.blocks*4096/a.ClusterSz - 1, lvols: map[string]*lvol{}}
	b.medium.store, b.medium.Zero = s, false
	p.load(b)
	return s.uuid, nil
}

func (p *Plane) growLvstore(a *params) (any, error) {
	b, s := p.storeNamed(a.LvsName)
	if s == nil {
		return nil, errNoDev
	}
	if err := p.touch(b, true); err != nil {
		return nil, err
	}
	if p.c.live == nil || !p.c.live.NoRoom {
		s.total = max(s.total, b.blocks*4096/s.cluster-1)
	}
	return true, nil
}

func (p *Plane) deleteLvstore(a *params) (any, error) {
	b, s := p.storeNamed(a.LvsName)
	if s == nil {
		return nil, errNoDev
	}
	if err := p.touch(b, true); err != nil {
		return nil, err
	}
	p.unload(b)
	b.medium.store = nil
	return true, nil
}

func (p *Plane) createLvol(a *params) (any, error) {
	b, s := p.storeNamed(a.LvsName)
	switch {
	case s == nil:
		return nil, errNoDev
	case s.lvols[a.LvolName] != nil || p.pending[a.LvolName] > 0:
		return nil, errExists
	}
	if err := p.touch(b, true); err != nil {
		return nil, err
	}
	l := &lvol{name: a.LvolName, uuid: newUUID(""), clusters: (a.SizeInMiB<<20 + s.cluster - 1) / s.cluster, medium: &Medium{under: b.medium}}
	l.made = l.clusters * s.cluster
	l.held = l.clusters
	if l.thin = a.Thin; l.thin {
		l.held = 0
	}
	if l.held > s.free() {
		return nil, jsonrpc.Errno(syscall.ENOSPC, "")
	}
	s.lvols[l.name] = l
	p.show(s, l)
	return l.uuid, nil
}

func (p *Plane) deleteLvol(a *params) (any, error) {
	s, l := p.lvol(a.Name)
	if l == nil {
		return nil, errNoDev
	}
	clones := s.clones(l)
	if len(clones) > 1 {
		return nil, errPerm
	}
	p.remove(p.bdevs[l.uuid])
	delete(s.lvols, l.name)
	for _, c := range clones { // which has its clusters from now on
		c.held, c.parent = min(c.held+l.held, c.clusters), l.parent
	}
	return true, nil
}

// resizeLvol shows those who are connected the new size at once.
func (p *Plane) resizeLvol(a *params) (any, error) {
	s, l := p.lvol(a.Name)
	if l == nil {
		return nil, errNoDev
	}
	clusters := (a.SizeInMiB<<20 + s.cluster - 1) / s.cluster
	if clusters > l.clusters+s.free() {
		return nil, jsonrpc.Errno(syscall.ENOSPC, "")
	}
	if l.held == l.clusters && l.parent == nil { // it is thick
		l.held = clusters
	}
	l.clusters = clusters
	for _, q := range p.c.planes {
		for _, b := range q.bdevs {
			if b.medium == l.medium && (b.product == "NVMe disk" || b.uuid == l.uuid) {
				b.blocks = clusters * s.cluster / 4096
				if q.real != nil && b.product == "NVMe disk" {
					reg, name := q.real.reg, b.name
					go reg.Resized(name)
				}
			}
		}
	}
	return true, nil
}

// growLvol is resizeLvol that makes nothing smaller.
func (p *Plane) growLvol(a *params) (any, error) {
	if s, l := p.lvol(a.Name); l != nil && a.SizeInMiB<<20 <= l.clusters*s.cluster {
		return true, nil
	}
	return p.resizeLvol(a)
}

func (p *Plane) snapshotLvol(a *params) (any, error) {
	id, release, err := p.takeSnapshot(a)
	if err != nil {
		return nil, err
	}
	release()
	return id, nil
}

// takeSnapshot makes a snapshot of an lvol with what it holds at this moment, from which on its
// I/O waits for release.
func (p *Plane) takeSnapshot(a *params) (id string, release func(), err error) {
	s, l := p.lvol(a.LvolName)
	switch {
	case l == nil:
		return "", nil, errNoDev
	case l.readOnly, l.outside != nil, l.thin && p.c.live != nil:
		return "", nil, jsonrpc.Errno(syscall.EINVAL, "")
	case s.lvols[a.SnapshotName] != nil || p.pending[a.SnapshotName] > 0:
		return "", nil, errExists
	}
	goOn, ok := p.quiet(l)
	if !ok {
		return "", nil, errIO
	}
	defer func() {
		if err != nil {
			goOn()
		}
	}()
	if b, _ := p.storeNamed(s.name); b != nil {
		if err := p.touch(b, true); err != nil {
			return "", nil, err
		}
	}
	if s.lvols[a.SnapshotName] != nil || s.lvols[l.name] != l { // meanwhile
		return "", nil, errExists
	}
	m := l.medium
	snap := &lvol{name: a.SnapshotName, uuid: newUUID(""), clusters: l.clusters, held: l.held, parent: l.parent, readOnly: true,
		made: l.made, at: maps.Clone(l.at), own: maps.Clone(l.own),
		medium: &Medium{Zero: m.Zero, Magic: m.Magic, blocks: maps.Clone(m.blocks), raw: maps.Clone(m.raw), under: m.under}}
	l.held, l.parent, l.own = 0, snap, nil
	s.lvols[snap.name] = snap
	p.show(s, snap)
	return snap.uuid, goOn, nil
}

// cloneLvol makes a writable lvol with what a snapshot holds.
func (p *Plane) cloneLvol(a *params) (any, error) {
	s, l := p.lvol(a.SnapshotName)
	switch {
	case l == nil:
		return nil, errNoDev
	case !l.readOnly:
		return nil, jsonrpc.Errno(syscall.EINVAL, "")
	case s.lvols[a.CloneName] != nil:
		return nil, errExists
	}
	if b, _ := p.storeNamed(s.name); b != nil {
		if err := p.touch(b, true); err != nil {
			return nil, err
		}
	}
	m := l.medium
	c := &lvol{name: a.CloneName, uuid: newUUID(""), clusters: l.clusters, parent: l, made: l.made, at: maps.Clone(l.at),
		medium: &Medium{Zero: m.Zero, Magic: m.Magic, blocks: maps.Clone(m.blocks), raw: maps.Clone(m.raw), under: m.under}}
	s.lvols[c.name] = c
	p.show(s, c)
	return c.uuid, nil
}

// describeLvol is driver_specific.lvol of an lvol's bdev, nil for other bdevs.
func (p *Plane) describeLvol(b *bdev) *spdk.BdevLvol {
	s, l := b.of, b.lvol
	if l == nil {
		return nil
	}
	out := &spdk.BdevLvol{LvolStoreUUID: s.uuid, ThinProvision: l.parent != nil, NumAllocatedClusters: l.held, Snapshot: l.readOnly,
		Clone: l.parent != nil}
	if l.parent != nil {
		out.BaseSnapshot = l.parent.name
	}
	for _, c := range s.clones(l) {
		out.Clones = append(out.Clones, c.name)
	}
	return out
}

func (p *Plane) renameLvol(a *params) (any, error) {
	s, l := p.lvol(a.OldName)
	switch {
	case l == nil:
		return nil, errNoDev
	case s.lvols[a.NewName] != nil:
		return nil, errExists
	}
	delete(s.lvols, l.name)
	l.name = a.NewName
	s.lvols[l.name] = l
	b := p.bdevs[l.uuid]
	p.take(b)
	b.aliases = []string{s.name + "/" + l.name}
	p.put(b)
	return true, nil
}

// Renaming has an lvol have another name as well, or not any more, as while vda_tgt
// writes the metadata of a new name.
func (p *Plane) Renaming(alias, other string, on bool) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	b := p.bdev(alias)
	if b == nil {
		return
	}
	p.take(b)
	b.aliases = slices.DeleteFunc(b.aliases, func(a string) bool { return a == other })
	if on {
		b.aliases = append(b.aliases, other)
	}
	p.put(b)
}
