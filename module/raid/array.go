package raid

import (
	"fmt"
	"math/bits"
	"sync/atomic"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
)

// Config of an array.
type Config struct {
	Name        string
	UUID        uuid.UUID // zero: a random one
	Level       Level     // Raid0 or Concat
	StripSizeKB uint32    // KiB; a power of two
	Bases       []string  // names of the base bdevs, in order; each once
}

func (c *Config) validate() error {
	switch {
	case c.Name == "":
		return fmt.Errorf("raid: name is empty: %w", syscall.EINVAL)
	case c.Level != Raid0 && c.Level != Concat:
		return fmt.Errorf("raid %q: raid_level %q must be raid0 or concat: %w", c.Name, c.Level, syscall.EINVAL)
	case bits.OnesCount32(c.StripSizeKB) != 1:
		return fmt.Errorf("raid %q: strip_size_kb %d must be a power of two: %w", c.Name, c.StripSizeKB, syscall.EINVAL)
	case len(c.Bases) == 0 || len(c.Bases) > 255:
		return fmt.Errorf("raid %q: base_bdevs has %d names, must have 1 to 255: %w", c.Name, len(c.Bases), syscall.EINVAL)
	}
	seen := map[string]bool{}
	for _, b := range c.Bases {
		if b == "" || seen[b] {
			return fmt.Errorf("raid %q: base_bdevs names %q twice or not at all: %w", c.Name, b, syscall.EINVAL)
		}
		seen[b] = true
	}
	if c.UUID == uuid.Nil {
		c.UUID = uuid.New()
	}
	return nil
}

// Array is one raid0 or concat; a bdev.Device while it is online.
type Array struct {
	mod  *Module
	conf Config

	// Guarded by mod.mu.
	state string
	bases []base

	live   atomic.Pointer[live] // nil until online
	failed atomic.Bool          // a base is gone
	info   atomic.Pointer[bdev.Info]
}

type base struct {
	name   string
	handle *bdev.Handle // nil while missing
	uuid   uuid.UUID
	blocks uint64 // that it contributes; 0 until online
}

// live is what the data path needs; never changed, only replaced.
type live struct {
	handles    []*bdev.Handle
	geo        *geometry
	blockShift uint
}

// The states, by SPDK's names.
const (
	Configuring = "configuring"
	Online      = "online"
	Offline     = "offline"
)

// BaseStatus is an element of base_bdevs_list.
type BaseStatus struct {
	Name         string    `json:"name"`
	UUID         uuid.UUID `json:"uuid"`
	IsConfigured bool      `json:"is_configured"`
	DataOffset   uint64    `json:"data_offset"` // blocks
	DataSize     uint64    `json:"data_size"`   // blocks
}

// Status is what bdev_raid_get_bdevs shows of an array.
type Status struct {
	Name            string       `json:"name"`
	UUID            uuid.UUID    `json:"uuid"`
	StripSizeKB     uint32       `json:"strip_size_kb"`
	State           string       `json:"state"`
	Level           Level        `json:"raid_level"`
	Superblock      bool         `json:"superblock"`
	NumBases        int          `json:"num_base_bdevs"`
	BasesDiscovered int          `json:"num_base_bdevs_discovered"`
	BasesOperating  int          `json:"num_base_bdevs_operational"`
	Bases           []BaseStatus `json:"base_bdevs_list"`
}

// Status describes the array now.
func (a *Array) Status() Status {
	a.mod.mu.Lock()
	defer a.mod.mu.Unlock()
	return a.status()
}

func (a *Array) status() Status {
	s := Status{Name: a.conf.Name, UUID: a.conf.UUID, StripSizeKB: a.conf.StripSizeKB, State: a.state, Level: a.conf.Level,
		NumBases: len(a.bases), BasesOperating: len(a.bases)}
	for i := range a.bases {
		b := &a.bases[i]
		if b.handle != nil {
			s.BasesDiscovered++
		}
		s.Bases = append(s.Bases, BaseStatus{Name: b.name, UUID: b.uuid, IsConfigured: b.handle != nil, DataSize: b.blocks})
	}
	return s
}

// Info describes the device; only of use while the array is online.
func (a *Array) Info() bdev.Info { return *a.info.Load() }

// DriverSpecific is the array's object in bdev_get_bdevs.
func (a *Array) DriverSpecific() any { return map[string]Status{"raid": a.Status()} }

// build computes layout and description from the open bases. EINVAL when they
// do not fit together. mod.mu is held.
func (a *Array) build() (*live, *bdev.Info, error) {
	var infos []*bdev.Info
	var sizes []uint64
	l := &live{}
	for i := range a.bases {
		h := a.bases[i].handle
		info := h.Info()
		if i > 0 && info.BlockSize != infos[0].BlockSize {
			return nil, nil, fmt.Errorf("raid %q: base %q has block size %d, %q has %d: %w", a.conf.Name, info.Name, info.BlockSize, infos[0].Name,
				infos[0].BlockSize, syscall.EINVAL)
		}
		infos = append(infos, info)
		sizes = append(sizes, info.Blocks)
		l.handles = append(l.handles, h)
	}
	bs := uint64(infos[0].BlockSize)
	strip := uint64(a.conf.StripSizeKB) << 10 / bs
	if strip == 0 || bits.OnesCount64(strip) != 1 || bits.OnesCount64(bs) != 1 {
		return nil, nil, fmt.Errorf("raid %q: strip_size_kb %d must be a power of two of blocks of %d bytes: %w", a.conf.Name,
			a.conf.StripSizeKB, bs, syscall.EINVAL)
	}
	l.blockShift = uint(bits.TrailingZeros64(bs))
	l.geo = newGeometry(a.conf.Level, uint(bits.TrailingZeros64(strip)), sizes)
	for i, n := range l.geo.sizes {
		if n == 0 {
			return nil, nil, fmt.Errorf("raid %q: base %q has %d blocks, fewer than a strip of %d: %w", a.conf.Name, infos[i].Name,
				sizes[i], strip, syscall.EINVAL)
		}
		a.bases[i].blocks = n
	}
	info := &bdev.Info{Name: a.conf.Name, Product: "Raid Volume", UUID: a.conf.UUID}
	l.geo.info(info, infos)
	return l, info, nil
}
