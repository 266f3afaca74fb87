package planetest

import (
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/disk"
)

// Medium is what is on a disk.
type Medium struct {
	Zero     bool   // reads as zeros
	Magic    string // what it starts with otherwise
	Cleared  int    // how many lvols on it have been given back
	Full     bool   // there is no space for what lvols on it are zeroed with
	Missing  bool   // nothing is at its path
	Volatile bool   // it has a write cache that a power cut loses
	File     bool   // it is a regular file
	NoCache  bool   // of an NVMe device: it has no volatile write cache, on or off
	Serial   int    // tells it from another disk at its path
	store    *store
	striped  *Medium // of the raid whose first member this is
	mirrored *Medium // of the mirror that this is a leg of
	under    *Medium // of the disk that this lvol is on

	taken   string             // why its lvstore was given up
	stalled chan struct{}      // not nil: nothing on it is cleared until it is closed
	failed  map[string]uint64  // requests that the disk failed, as bdev_get_iostat calls them
	queued  uint64             // requests that are under way, as bdev_get_iostat says
	room    disk.Room          // for what is written to it
	served  uint64             // requests that have ended
	blocks  map[uint64]uint64  // numbers that were written, by byte offset
	raw     map[uint64][]byte  // blocks that are not numbers
	durable map[uint64]content // what a power cut may bring back, of blocks whose write is in the cache
	busy    time.Time          // until then the disk serves commands that came earlier
}

type store struct {
	name, uuid string
	cluster    uint64 // bytes
	total      uint64 // clusters
	lvols      map[string]*lvol
	places     uint64 // how many blocks have got a place of their own

	given uint64   // how many clusters thin volumes have been given
	spare []uint64 // those that nobody has taken
}

type lvol struct {
	name, uuid string
	clusters   uint64 // its size
	medium     *Medium
	held       uint64            // clusters that are its own
	parent     *lvol             // the snapshot that it is a clone of
	readOnly   bool              // it is a snapshot
	thin       bool              // it has only the clusters that have been written
	given      map[uint64]uint64 // where its clusters are, of a thin one on a live cluster
	outside    *outside          // of a clone of a bdev that is not an lvol here; nil: it stands for itself

	// Of an array's, on a live cluster: see share.go.
	made uint64            // its size when it was made; blocks below it are at their own offsets at first
	at   map[uint64]uint64 // where others are, and those that have moved
	own  map[uint64]bool   // those of at whose place nobody else has
}

func (s *store) free() uint64 {
	n := s.total
	for _, l := range s.lvols {
		n -= l.held
	}
	return n
}

// clones are the lvols that stand on a snapshot.
func (s *store) clones(of *lvol) (all []*lvol) {
	for _, l := range s.lvols {
		if !of.readOnly {
			break
		}
		if l.parent == of {
			all = append(all, l)
		}
	}
	return all
}

// Disk returns the aio disk of a file name.
func (c *Cluster) Disk(file string) *Medium {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.disk(file)
}

func (c *Cluster) disk(file string) *Medium {
	m := c.disks[file]
	if m == nil {
		m = &Medium{Zero: true}
		c.disks[file] = m
	}
	return m
}

// Copy makes one aio disk a copy of another, as dd does.
func (c *Cluster) Copy(from, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk(to).become(c.disk(from))
}

// Image keeps what is on an aio disk now; restore puts that back on it.
func (c *Cluster) Image(file string) (restore func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	image := &Medium{}
	image.become(c.disk(file))
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.disk(file).become(image)
	}
}

// become makes a disk a copy of another. What that has in its write cache is durable
// on the copy.
func (m *Medium) become(from *Medium) {
	src := *from
	if src.store != nil {
		s := *src.store
		s.lvols = map[string]*lvol{}
		for name, l := range src.store.lvols {
			own := *l
			own.at, own.own = maps.Clone(l.at), maps.Clone(l.own)
			own.medium = &Medium{Zero: l.medium.Zero, blocks: maps.Clone(l.medium.blocks), raw: maps.Clone(l.medium.raw), under: m}
			s.lvols[name] = &own
		}
		src.store = &s
	}
	src.blocks, src.raw = maps.Clone(src.blocks), maps.Clone(src.raw)
	*m = src
}

// Swap puts another disk with the same contents at a path.
func (c *Cluster) Swap(file string, by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk(file).Serial += by
}

// Lvols returns the names of the lvols on a medium, nil without an lvstore.
func (c *Cluster) Lvols(m *Medium) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.store == nil {
		return nil
	}
	names := []string{}
	for n := range m.store.lvols {
		names = append(names, n)
	}
	return names
}

// Fill makes a disk one that has no space for what it has promised, or has it
// again.
func (c *Cluster) Fill(file string, full bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk(file).Full = full
}

// Volatile switches the write cache of a disk on or off.
func (c *Cluster) Volatile(file string, on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk(file).Volatile = on
}

// Ail sets how many requests a disk has failed so far, as bdev_get_iostat
// calls them.
func (c *Cluster) Ail(file string, by map[string]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk(file).failed = by
}

// Queue says how many requests are under way on a disk, and how many have ended.
func (c *Cluster) Queue(file string, underWay, ended uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk(file).queued, c.disk(file).served = underWay, ended
}

// Hide has nothing be at a disk's path, or the disk again.
func (c *Cluster) Hide(file string, hidden bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk(file).Missing = hidden
}

// SetRoom says how much space a disk's file has.
func (c *Cluster) SetRoom(file string, r disk.Room) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk(file).room = r
}

// Take has the data plane give up the lvstore on a disk, "" takes that back.
func (c *Cluster) Take(file, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disk(file).taken = why
}

// Stall has a disk not answer those who clear lvols on it, until release.
func (c *Cluster) Stall(file string) (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stalled := make(chan struct{})
	c.disk(file).stalled = stalled
	return sync.OnceFunc(func() { close(stalled) })
}

// Cleared returns how many lvols on a disk have been given back.
func (c *Cluster) Cleared(file string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.disk(file).Cleared
}

func (d *rawDisk) Close() error { return nil }

func newUUID(text string) string {
	if id, err := uuid.Parse(text); err == nil {
		return id.String()
	}
	return uuid.NewString()
}
