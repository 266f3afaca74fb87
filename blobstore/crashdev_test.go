package blobstore

import (
	"math/rand/v2"
	"sync"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/blobstore/format"
	"github.com/virtual-disk-array/vda/nvme"
)

// crashDevice is a disk with a volatile write cache whose power can be cut: it
// keeps what was flushed, and of the rest an arbitrary choice of pages.
type crashDevice struct {
	mu      sync.Mutex
	info    bdev.Info
	view    []byte // what a read returns
	durable []byte
	pending map[uint64][][]byte // page to the contents written since the flush

	writes int // that changed something, so far
	cutAt  int // the power fails at this write; 0: never
	dead   bool

	failAt  int  // this write fails, and nothing else; 0: none
	more    int  // as do so many after it, which do not reach the medium
	applies bool // though it reaches the medium
	failed  bool
}

func newCrashDevice(bytes int) *crashDevice {
	d := &crashDevice{view: make([]byte, bytes), durable: make([]byte, bytes), pending: map[uint64][][]byte{}}
	d.info = bdev.Info{Name: "crash", Product: "crash", BlockSize: format.PageSize, Blocks: uint64(bytes / format.PageSize),
		WriteCache: true, UnmapZeroes: true,
		Ops: bdev.Ops(bdev.OpRead, bdev.OpWrite, bdev.OpFlush, bdev.OpUnmap, bdev.OpWriteZeroes)}
	return d
}

func (d *crashDevice) Info() bdev.Info { return d.info }
func (d *crashDevice) Close() error    { return nil }

func (d *crashDevice) Submit(r *bdev.Request, b *bdev.Batch) {
	d.mu.Lock()
	s := d.do(r)
	d.mu.Unlock()
	r.Complete(s, b)
}

func (d *crashDevice) do(r *bdev.Request) (s nvme.Status) {
	if r.Op != bdev.OpRead {
		d.writes++
		d.dead = d.dead || (d.cutAt != 0 && d.writes >= d.cutAt)
	}
	if r.Op != bdev.OpRead && d.failAt != 0 && d.failAt <= d.writes && d.writes <= d.failAt+d.more {
		d.failed = true
		if !d.applies || d.writes > d.failAt || r.Op == bdev.OpFlush {
			return nvme.ANAInaccessible
		}
		defer func() { s = nvme.ANAInaccessible }()
	}
	at := r.Offset * format.PageSize
	switch {
	case r.Op == bdev.OpRead && !d.dead:
		for _, p := range r.Iov {
			at += uint64(copy(p, d.view[at:]))
		}
	case r.Op == bdev.OpWrite:
		var data []byte
		for _, p := range r.Iov {
			data = append(data, p...)
		}
		d.put(at, data)
	case r.Op == bdev.OpUnmap || r.Op == bdev.OpWriteZeroes:
		d.put(at, make([]byte, r.Blocks*format.PageSize))
	case r.Op == bdev.OpFlush && !d.dead:
		for page, versions := range d.pending {
			copy(d.durable[page*format.PageSize:], versions[len(versions)-1])
		}
		clear(d.pending)
	}
	if d.dead {
		return nvme.InternalPathError
	}
	return nvme.Success
}

// put writes; the write that meets the cut may reach the medium, later ones
// may not.
func (d *crashDevice) put(at uint64, data []byte) {
	if d.dead && d.writes > d.cutAt {
		return
	}
	copy(d.view[at:], data)
	for i := 0; i < len(data); i += format.PageSize {
		page := at/format.PageSize + uint64(i/format.PageSize)
		d.pending[page] = append(d.pending[page], data[i:i+format.PageSize:i+format.PageSize])
	}
}

// restart returns the disk as it is after the power cut.
func (d *crashDevice) restart(rng *rand.Rand) *crashDevice {
	n := newCrashDevice(len(d.view))
	copy(n.view, d.durable)
	for page := range d.info.Blocks {
		if versions := d.pending[page]; len(versions) > 0 {
			if k := rng.IntN(len(versions) + 1); k > 0 {
				copy(n.view[page*format.PageSize:], versions[k-1])
			}
		}
	}
	copy(n.durable, n.view)
	return n
}
