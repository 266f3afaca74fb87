package bdev

import (
	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/nvme"
)

// Info describes a device. It changes only by Registry.Resized.
type Info struct {
	Name    string
	Aliases []string
	Product string // SPDK's product_name, such as "Malloc disk"
	UUID    uuid.UUID

	BlockSize uint32 // bytes
	Blocks    uint64
	Align     int // bytes; data whose pieces start and end on multiples of it is not copied; 0 or 1: any

	WriteCache  bool // acknowledged writes may be lost before a flush
	UnmapZeroes bool // unmapped blocks read as zeros
	Ops         OpSet
	OptimalIO   uint32 // blocks; 0 unknown (stripe size of a raid0)
	UnmapUnit   uint32 // blocks; what is unmapped gives space back in whole, aligned units of so many; 0 unknown
	MaxIO       uint32 // blocks of the largest request with data; 0: any. Handle.Submit cuts larger ones up

	// Epoch is another once the device may have lost what it had acknowledged and not
	// flushed; zero: nobody knows. A handle has that of its opening: when a remote
	// device has another, holders hear so by OnCutOff before I/O goes there.
	Epoch uuid.UUID

	native OpSet // the device's own, where Ops has what handles add
}

// Device is a block device as its module writes it. Users go through a
// Handle.
type Device interface {
	// Info returns the current description.
	Info() Info
	// Submit starts one I/O; the handle has checked operation, range and
	// length of the data. It never blocks on I/O.
	Submit(r *Request, b *Batch)
	// Close is called once, by the registry, after the last handle is
	// closed. It frees what the device holds; data stays.
	Close() error
}

// Mapper is a Device whose blocks are memory of this process. Map appends to
// dst the memory of the given blocks and reports whether it could. The memory
// stays valid while the caller's handle is open, or until the handle's OnSettle
// is called. A Read or Write request whose Iov is that very memory copies
// nothing.
type Mapper interface {
	Map(dst [][]byte, offset, blocks uint64) ([][]byte, bool)
}

// Thin is a Device whose blocks may take no space until they are written.
// Used returns how many take some, and false while there are no such blocks
// (a thick volume).
type Thin interface {
	Used() (blocks uint64, ok bool)
}

// Keeper is a Device that keeps small records beside its data, on the same media: they
// are wherever the data are opened next.
// They are no part of the data: a snapshot has none of them.
type Keeper interface {
	// Keep replaces the record of a name, which is on the media when it returns. It
	// waits for I/O. After an error either may be there. Nil removes.
	Keep(name string, record []byte) nvme.Status
	// Kept returns a record, nil when there is none. It does not read media.
	Kept(name string) []byte
}

// KeepMax is the length in bytes of the longest record that any Keeper takes.
const KeepMax = 3500

// Retirer is a Device that may hold requests for long, waiting for something.
// Retire is called once when the device begins to be unregistered, after its
// handles refuse new requests: it completes what waits, with a path status,
// and from then on nothing waits.
type Retirer interface {
	Retire()
}

// Describer adds bdev_get_bdevs' driver_specific object.
type Describer interface {
	DriverSpecific() any
}
