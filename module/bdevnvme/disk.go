package bdevnvme

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// maxRetries is how often a request is sent again when its path is well but
// answers with a path or transport status: then the trouble is behind it.
const maxRetries = 3

// maxLosses is how many connections a request may see go, maxDenials how many
// ANA statuses it may meet. Time-outs bound the waiting in between; these end
// what goes round without waiting.
const (
	maxLosses  = 10
	maxDenials = 200
)

// deniedFor is how long a path is left alone after it has answered with an
// ANA status that the ANA log did not show.
const deniedFor = time.Second

// ioPath is a namespace as one path shows it.
type ioPath struct {
	disk   *disk // set before the path is used
	path   *path
	ns     *host.Namespace
	denied atomic.Int64 // Unix ns of an ANA status; 0: none
	closed atomic.Int64 // Unix ns since when ANA forbids I/O; 0: it allows it
	busy   atomic.Int64 // requests under way, where the policy counts them
}

// usable reports whether I/O may be sent.
func (io *ioPath) usable() bool {
	return io.ns.Usable() && io.denied.Load() == 0 && !io.path.deleting.Load() && io.lives()
}

// lives reports that the namespace has lost nothing that holders of the disk have not
// been told. With several paths nobody knows.
func (io *ioPath) lives() bool {
	e := io.disk.now.Load().Epoch
	return e == uuid.Nil || io.ns.Identity().Epoch == e
}

// mayOpen reports whether it is worth waiting for the path, at the time given.
func (io *ioPath) mayOpen(now time.Time) bool {
	c := io.path.ctl
	if io.path.deleting.Load() || io.ns.Gone() {
		return false
	}
	if c.State() != host.Enabled {
		io.closed.Store(0)
		return c.MayRecover() && !io.path.atOnce.Load()
	}
	if t := io.denied.Load(); t != 0 && now.UnixNano()-t > int64(deniedFor) {
		io.denied.Store(0)
	}
	if io.ns.ANA().Accessible() && io.denied.Load() == 0 {
		io.closed.Store(0)
		return true
	}
	since := io.closed.Load()
	if since == 0 {
		io.closed.Store(now.UnixNano())
		return true
	}
	limit := time.Duration(c.Data().ANATT) * time.Second
	if limit == 0 {
		limit = 10 * time.Second
	}
	return now.UnixNano()-since < int64(limit) && io.ns.ANA() != host.ANAPersistentLoss
}

// disk is the bdev of a namespace.
type disk struct {
	ctrl *controller
	name string
	nsid uint32
	uuid uuid.UUID

	now  atomic.Pointer[bdev.Info]
	list atomic.Pointer[[]*ioPath]

	policy atomic.Pointer[Policy] // nil: the first path that is best
	turn   atomic.Uint32          // requests sent in turn

	mu      sync.Mutex
	waiting []*bdev.Request // for a path
	spare   []*bdev.Request
	closed  bool
}

func newDisk(ctrl *controller, nsid uint32, l []*ioPath) *disk {
	d := &disk{ctrl: ctrl, name: bdevName(ctrl.name, nsid), nsid: nsid}
	d.uuid = diskUUID(l[0])
	d.setPolicy(ctrl.policy)
	d.setIOPaths(l)
	return d
}

// diskUUID names the bdev after the namespace: the NGUID, else the UUID, else
// one made of serial number and namespace id, always the same.
func diskUUID(io *ioPath) uuid.UUID {
	i := io.ns.Identity()
	switch {
	case i.NGUID != uuid.Nil:
		return i.NGUID
	case i.UUID != uuid.Nil:
		return i.UUID
	}
	return uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "%s %d", io.path.ctl.Data().Serial, io.ns.ID()))
}

func (d *disk) ioPaths() []*ioPath { return *d.list.Load() }

// same reports whether ns is still the namespace that the disk was made for.
func (d *disk) same(ns *host.Namespace) bool {
	return diskUUID(&ioPath{path: d.ioPaths()[0].path, ns: ns}) == d.uuid && ns.Identity().BlockSize == d.now.Load().BlockSize
}

// died reports that the namespace of the only path may have lost what it had
// acknowledged.
func (d *disk) died(l []*ioPath) bool {
	was := d.now.Load().Epoch
	return was != uuid.Nil && len(l) == 1 && l[0].ns.Identity().Epoch != was
}

// setIOPaths gives the disk its paths; those it had keep their state. It reports
// whether the description changed.
func (d *disk) setIOPaths(l []*ioPath) bool {
	if old := d.list.Load(); old != nil {
		for i, io := range l {
			for _, o := range *old {
				if o.path == io.path && o.ns == io.ns {
					o.denied.Store(0) // states were read again
					l[i] = o
				}
			}
		}
	}
	for _, io := range l {
		if io.disk == nil { // new; those in use are not written to
			io.disk = d
		}
	}
	d.list.Store(&l)
	i := l[0].ns.Identity()
	info := &bdev.Info{Name: d.name, Aliases: nil, Product: "NVMe disk", UUID: d.uuid, BlockSize: i.BlockSize, Blocks: i.Blocks,
		Align: 1, UnmapZeroes: i.Zeroes, OptimalIO: i.OptimalIO, UnmapUnit: i.UnmapUnit,
		Ops: bdev.Ops(bdev.OpRead, bdev.OpWrite, bdev.OpFlush, bdev.OpNVMeIO)}
	if len(l) == 1 {
		info.Epoch = i.Epoch
	}
	data := l[0].path.ctl.Data()
	info.WriteCache = data.VWC&nvme.VWCPresent != 0
	for _, o := range []struct {
		has bool
		op  bdev.Op
	}{
		{data.ONCS&nvme.ONCSDSM != 0, bdev.OpUnmap},
		{data.ONCS&nvme.ONCSWriteZeroes != 0, bdev.OpWriteZeroes},
		{data.ONCS&nvme.ONCSCompare != 0, bdev.OpCompare},
		{data.FUSES&nvme.FUSESCompareWrite != 0, bdev.OpCompareAndWrite},
	} {
		if o.has {
			info.Ops |= bdev.Ops(o.op)
		}
	}
	if i.ReadOnly {
		info.Ops &^= bdev.Ops(bdev.OpWrite, bdev.OpUnmap, bdev.OpWriteZeroes, bdev.OpCompareAndWrite)
	}
	old := d.now.Swap(info)
	return old != nil && (old.Blocks != info.Blocks || old.WriteCache != info.WriteCache || old.Ops != info.Ops)
}

// Info returns the description.
func (d *disk) Info() bdev.Info { return *d.now.Load() }

// Close ends the disk after its last handle.
func (d *disk) Close() error {
	d.close()
	return nil
}

// Submit sends r over the best path.
func (d *disk) Submit(r *bdev.Request, b *bdev.Batch) {
	r.Dev = nil
	if io := d.pick(); io != nil {
		d.send(io, r, b)
		return
	}
	if !r.Retain() {
		r.Complete(nvme.CommandInterrupted, b)
		return
	}
	d.park(r, b)
}

// pick returns the best usable path: optimized before non-optimized, in the
// order of attachment, unless a policy says otherwise; nil without one.
func (d *disk) pick() *ioPath {
	if p := d.policy.Load(); p != nil {
		return d.pickActive(p)
	}
	return d.first()
}

// first is pick without a policy.
func (d *disk) first() *ioPath {
	var second *ioPath
	for _, io := range *d.list.Load() {
		if !io.usable() {
			continue
		}
		if io.ns.ANA() == host.ANAOptimized {
			return io
		}
		if second == nil {
			second = io
		}
	}
	return second
}

// CompleteIO takes the end of a request on the way.
func (io *ioPath) CompleteIO(r *bdev.Request, s nvme.Status, b *bdev.Batch) {
	if s == nvme.Success {
		r.Complete(s, b)
		return
	}
	io.failed(r, s, b)
}

// failed decides what becomes of a request that the path did not carry out: it
// takes another path at once, waits for one, or fails.
func (io *ioPath) failed(r *bdev.Request, s nvme.Status, b *bdev.Batch) {
	d := io.disk
	tries, _ := r.Dev.(int)
	limit := maxRetries
	switch code := s &^ nvme.DNR; {
	case r.Op == bdev.OpNVMeIO && (code == nvme.HostPathError || code == nvme.AbortSQDeletion || code == nvme.AbortRequested):
		// It may have been executed, and may mean something else the second time.
		r.Complete(front(s), b)
		return
	case code == nvme.HostPathError: // the connection went
		limit = maxLosses
	case code == nvme.ANAInaccessible || code == nvme.ANATransition || code == nvme.ANAPersistentLoss:
		if io.denied.Swap(time.Now().UnixNano()) == 0 {
			io.path.ctl.PollANA()
		}
		limit = maxDenials
	case code == nvme.InvalidNamespace:
		// Taken away over there, which is not an error of the data: a host in
		// front that heard of it would give its file system up.
		io.path.ctl.PollNamespaces()
	case s.IsPath(), code == nvme.AbortSQDeletion, code == nvme.AbortRequested,
		code == nvme.TransientTransport, code == nvme.CommandInterrupted, code == nvme.NamespaceNotReady:
	default:
		r.Complete(s, b)
		return
	}
	if tries >= limit || r.Abandoned() {
		r.Complete(front(s), b)
		return
	}
	r.Dev = tries + 1
	if other := d.pick(); other != nil && other != io {
		d.send(other, r, b)
		return
	}
	d.park(r, b)
}

// front is the status that a host in front of this bdev gets. What speaks of
// our path to the namespace is our own path error to it.
func front(s nvme.Status) nvme.Status {
	switch code := s &^ nvme.DNR; {
	case s.IsPath(), code == nvme.InvalidNamespace, code == nvme.AbortSQDeletion, code == nvme.AbortRequested:
		return nvme.InternalPathError
	}
	return s
}

// park has r wait for a path.
func (d *disk) park(r *bdev.Request, b *bdev.Batch) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		r.Complete(nvme.InternalPathError, b)
		return
	}
	d.waiting = append(d.waiting, r)
	d.mu.Unlock()
	d.ctrl.wake()
}

// retry sends the waiting requests again, or fails them when no path may open
// any more. It reports whether some still wait.
func (d *disk) retry(b *bdev.Batch) bool {
	d.mu.Lock()
	if len(d.waiting) == 0 {
		d.mu.Unlock()
		return false
	}
	l := d.waiting
	d.waiting, d.spare = d.spare[:0], nil
	d.mu.Unlock()
	now := time.Now()
	hope := false
	for _, io := range d.ioPaths() {
		hope = io.mayOpen(now) || hope
	}
	for i, r := range l {
		l[i] = nil
		if r.Abandoned() {
			r.Complete(nvme.InternalPathError, b)
		} else if io := d.pick(); io != nil {
			d.send(io, r, b)
		} else if hope {
			d.park(r, b)
		} else {
			r.Complete(nvme.InternalPathError, b)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.spare == nil {
		d.spare = l[:0]
	}
	return len(d.waiting) > 0
}

// close fails what waits, now and from now on.
func (d *disk) close() {
	d.mu.Lock()
	d.closed = true
	l := d.waiting
	d.waiting = nil
	d.mu.Unlock()
	var b bdev.Batch
	for _, r := range l {
		r.Complete(nvme.InternalPathError, &b)
	}
	b.Flush()
}
