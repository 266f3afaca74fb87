package planetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"

	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/disk"
)

// DiskBytes is the size of each aio disk of the model, unless Live says otherwise.
const DiskBytes = 64 << 20

// read gives what a medium holds; of an lvstore only what names it. The lock
// is held.
func (m *Medium) read(p []byte, off uint64) {
	clear(p)
	head := ""
	switch {
	case m.store != nil:
		m.store.image(p, off)
		return
	case m.Magic != "":
		head = m.Magic
	case !m.Zero && m.striped == nil:
		head = strings.Repeat("old data of another tenant ", 10)
	}
	if off < uint64(len(head)) {
		copy(p, head[off:])
	}
}

// image writes the super block and the super blob of the store, as they lie on
// a disk.
func (s *store) image(p []byte, off uint64) {
	le := binary.LittleEndian
	seal := func(page []byte) {
		le.PutUint32(page[4092:], crc32.Checksum(page[:4092], crc32.MakeTable(crc32.Castagnoli)))
	}
	const mdStart = 16
	super := make([]byte, 4096)
	copy(super, format.Signature)
	for at, v := range map[int]uint32{
		8: format.Version, 12: 4096, 16: 0, 28: uint32(s.cluster),
		32: 1, 36: 1, 40: 2, 44: 1, 48: mdStart, 52: 64, 72: 3, 76: 1, 88: 4096, 92: 4096,
	} {
		le.PutUint32(super[at:], v)
	}
	le.PutUint64(super[20:], 1<<32)
	copy(super[56:], format.LvstoreType)
	le.PutUint64(super[80:], (s.total+1)*s.cluster)
	seal(super)
	page := make([]byte, 4096)
	le.PutUint64(page, 1<<32)
	le.PutUint32(page[4088:], 1<<32-1)
	// An extended attribute: type 2, length, length of the name and value.
	d := page[16:]
	d[0] = 2
	le.PutUint32(d[1:], uint32(4+len("name")+len(s.name)+1))
	le.PutUint16(d[5:], uint16(len("name")))
	le.PutUint16(d[7:], uint16(len(s.name)+1))
	copy(d[9:], "name"+s.name)
	seal(page)
	for at, what := range map[uint64][]byte{0: super, mdStart * 4096: page} {
		if at+4096 > off && at < off+uint64(len(p)) {
			copy(p[max(at, off)-off:], what[max(at, off)-at:])
		}
	}
}

func (d *rawDisk) ReadAt(_ context.Context, p []byte, off uint64) error {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	d.b.medium.read(p, off)
	return nil
}

func (d *rawDisk) ZeroAt(_ context.Context, off, _ uint64) error {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	if off == 0 {
		*d.b.medium = Medium{Zero: true}
	}
	return nil
}

func (d *rawDisk) Flush(context.Context) error { return nil }

var _ agent.RawDisk = (*rawDisk)(nil)

// Machine finds the cluster's disks by path, for agent.Node. Every name is
// that of a disk, which is blank at first and is never in use.
func (c *Cluster) Machine() disk.Machine { return machine{c} }

type machine struct{ c *Cluster }

func (m machine) Identify(path string) (disk.ID, error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	d := m.c.disk(path)
	if d.Missing {
		return disk.ID{}, fmt.Errorf("%s %w", path, disk.ErrNotFound)
	}
	return disk.ID{WriteCache: d.Volatile, File: d.File, Now: path, Lasting: fmt.Sprintf("serial %s.%d", path, d.Serial),
		Traits: map[string]string{"serial": fmt.Sprintf("%s.%d", path, d.Serial)}}, nil
}

func (m machine) Open(path string) (disk.Device, error) {
	id, err := m.Identify(path)
	return &modelDisk{m.c, path, id}, err
}

func (m machine) Make(path string, _ uint64) error {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	m.c.disks[path] = &Medium{Zero: true}
	return nil
}

func (m machine) List() ([]disk.Candidate, error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	var all []disk.Candidate
	for _, path := range slices.Sorted(maps.Keys(m.c.disks)) {
		all = append(all, disk.Candidate{Path: path, Device: path, Kind: disk.KindDisk, Size: DiskBytes})
	}
	return all, nil
}

func (m machine) Room(path string) (disk.Room, error) {
	_, err := m.Identify(path)
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	return m.c.disk(path).room, err
}

// modelDisk implements disk.Device.
type modelDisk struct {
	c    *Cluster
	path string
	id   disk.ID
}

func (d *modelDisk) Path() string { return d.path }
func (d *modelDisk) ID() disk.ID  { return d.id }
func (d *modelDisk) Close() error { return nil }

func (d *modelDisk) Size() uint64 { return d.c.diskBytes() }

func (c *Cluster) diskBytes() uint64 {
	if c.live != nil && c.live.DiskBytes > 0 {
		return c.live.DiskBytes
	}
	return DiskBytes
}

func (d *modelDisk) ReadAt(_ context.Context, p []byte, off uint64) error {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	d.c.disk(d.path).read(p, off)
	return nil
}

func (d *modelDisk) Wipe(context.Context) error {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	m := d.c.disk(d.path)
	*m = Medium{Zero: true, Serial: m.Serial}
	return nil
}
