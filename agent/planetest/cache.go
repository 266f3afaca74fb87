package planetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// content is what a block holds: a number, or bytes that are not one.
type content struct {
	number uint64
	raw    []byte
}

// contentOf reads a block as a number, or keeps its bytes.
func contentOf(b []byte) content {
	if len(bytes.Trim(b[8:], "\x00")) == 0 {
		return content{number: binary.LittleEndian.Uint64(b)}
	}
	return content{raw: bytes.Clone(b)}
}

func (m *Medium) at(off uint64) content {
	if raw := m.raw[off]; raw != nil {
		return content{raw: raw}
	}
	return content{number: m.blocks[off]}
}

func (m *Medium) set(off uint64, c content) {
	if m.blocks == nil {
		m.blocks, m.raw = map[uint64]uint64{}, map[uint64][]byte{}
	}
	delete(m.blocks, off)
	delete(m.raw, off)
	switch {
	case c.raw != nil:
		m.raw[off] = c.raw
	case c.number != 0:
		m.blocks[off] = c.number
	}
}

// put writes a block. cached: what was there before is what a power cut may bring
// back, until a flush.
func (m *Medium) put(off uint64, c content, cached bool) {
	if !cached {
		delete(m.durable, off)
	} else if _, is := m.durable[off]; !is {
		if m.durable == nil {
			m.durable = map[uint64]content{}
		}
		m.durable[off] = m.at(off)
	}
	m.set(off, c)
}

// carry is a command of several blocks, or a flush.
func (m *Medium) carry(cmd Command) {
	switch {
	case cmd.flush:
		clear(m.durable)
		return
	case cmd.Write:
		for i := 0; i < len(cmd.data); i += blockSize {
			m.put(cmd.Off+uint64(i), contentOf(cmd.data[i:i+blockSize]), cmd.cached)
		}
		return
	}
	clear(cmd.data)
	for i := 0; i < len(cmd.data); i += blockSize {
		c := m.at(cmd.Off + uint64(i))
		binary.LittleEndian.PutUint64(cmd.data[i:], c.number)
		copy(cmd.data[i:], c.raw)
	}
}

// LosePower has the disk of a file name lose some of what its write cache holds:
// each block for which lose is true.
func (c *Cluster) LosePower(file string, lose func() bool) (lost int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.disk(file).store
	if s == nil {
		return 0
	}
	for _, name := range slices.Sorted(maps.Keys(s.lvols)) {
		m := s.lvols[name].medium
		for _, off := range slices.Sorted(maps.Keys(m.durable)) {
			if lose() {
				m.set(off, m.durable[off])
				lost++
			}
		}
		clear(m.durable)
	}
	return lost
}

// Forget has the disk of a file name lose a vd.
func (c *Cluster) Forget(file, vd string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.disk(file).store.lvols, vda.VDPrefix+vd)
}

// leg returns the medium of a vd, nil when there is none.
func (c *Cluster) leg(vd string) *Medium {
	for _, d := range c.disks {
		if d.store != nil && d.store.lvols[vda.VDPrefix+vd] != nil {
			return d.store.lvols[vda.VDPrefix+vd].medium
		}
	}
	return nil
}

// Holds returns the number in a block of a vd.
func (c *Cluster) Holds(vd string, off uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.leg(vd); m != nil {
		return m.blocks[off]
	}
	return 0
}

// Has reports that a number stands somewhere in the data of a vd.
func (c *Cluster) Has(vd string, number uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.leg(vd)
	if m == nil {
		return false
	}
	for _, n := range m.blocks {
		if n == number {
			return true
		}
	}
	return false
}

// Differ compares the data of two legs of a mirror, and says where they differ
// though neither's map says that they may; "" when they do not. marked is how many
// regions may differ.
func (c *Cluster) Differ(mirror string, size uint64, x, y string) (why string, marked int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, b := c.leg(x), c.leg(y)
	if a == nil || b == nil {
		return fmt.Sprintf("vd %s or vd %s is not on a disk", x, y), 0
	}
	region := label.RegionSize(size)
	bits := label.NewMap(int(label.Regions(size, region)))
	for _, m := range []*Medium{a, b} {
		for i := range label.Pages(bits.Len()) {
			page := make([]byte, label.SlotSize)
			m.carry(Command{Off: size + uint64(label.PageOffset(i)), data: page})
			bits.DecodePage(page, label.ID(uuid.MustParse(mirror)), i)
		}
	}
	for off := uint64(0); off < size; off += blockSize {
		p, q := a.at(off), b.at(off)
		if (p.number != q.number || !bytes.Equal(p.raw, q.raw)) && !bits.Has(int(off/region)) {
			return fmt.Sprintf("offset %d of mirror %s: vd %s has %d, vd %s has %d, and their maps say that they are equal", off, mirror, x,
				p.number, y, q.number), bits.Count()
		}
	}
	return "", bits.Count()
}
