// Package errorinj is a block device that fails on demand (SPDK's
// bdev_error): the next so many requests of a kind fail, hang, or carry
// corrupted data; all others reach the base as they are.
package errorinj

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/passthru"
	"github.com/virtual-disk-array/vda/nvme"
)

// Fault is what happens to a request, by SPDK's names of error_type.
type Fault string

// The faults.
const (
	Failure     Fault = "failure"      // a media error
	Pending     Fault = "pending"      // no completion until Resume or a reset
	CorruptData Fault = "corrupt_data" // success, with one byte changed
	NoMem       Fault = "nomem"        // a status that the host retries
	NVMeFailure Fault = "nvme_failure" // the status of Injection
)

// Injection says which requests fail, and how.
type Injection struct {
	IOType        string // read, write, unmap, flush, all; clear ends all injections
	Fault         Fault
	Num           uint32      // how many requests; 0: one
	QueueDepth    uint64      // only while at least so many requests are in the base
	Status        nvme.Status // of NVMeFailure
	CorruptOffset uint64      // byte in the request's data that CorruptData changes
	CorruptValue  uint8       // what it is xor-ed with; not 0
}

var ioTypes = map[string][]bdev.Op{
	"clear": nil,
	"read":  {bdev.OpRead},
	"write": {bdev.OpWrite},
	"unmap": {bdev.OpUnmap},
	"flush": {bdev.OpFlush},
	"all":   {bdev.OpRead, bdev.OpWrite, bdev.OpUnmap, bdev.OpFlush},
}

func (i *Injection) validate() error {
	if _, ok := ioTypes[i.IOType]; !ok {
		return fmt.Errorf("io_type %q must be clear, read, write, unmap, flush or all: %w", i.IOType, syscall.EINVAL)
	}
	if i.IOType == "clear" {
		return nil
	}
	if !slices.Contains([]Fault{Failure, Pending, CorruptData, NoMem, NVMeFailure}, i.Fault) {
		return fmt.Errorf("error_type %q must be failure, pending, corrupt_data, nomem or nvme_failure: %w", i.Fault, syscall.EINVAL)
	}
	if i.Fault == CorruptData && i.CorruptValue == 0 {
		return fmt.Errorf("corrupt_value 0 would change nothing: %w", syscall.EINVAL)
	}
	if i.Fault == NVMeFailure && i.Status == nvme.Success {
		return fmt.Errorf("nvme_sct and nvme_sc of success: %w", syscall.EINVAL)
	}
	if i.Num == 0 {
		i.Num = 1
	}
	return nil
}

// Device is a device with faults.
type Device struct {
	*passthru.Device
	done, spoil func(*bdev.Request, nvme.Status, *bdev.Batch) // methods, bound once

	mu      sync.Mutex
	armed   map[bdev.Op]*Injection // Num counts down; nil when unarmed
	inside  uint64                 // requests in the base
	pending []*bdev.Request        // hanging
	last    Injection              // the latest CorruptData, for reads on their way
	retired bool                   // nothing may hang any more
}

// Create makes and registers EE_<base>, as SPDK names it. ENODEV for an
// unknown base, EPERM for a claimed one, EEXIST for a name in use.
func Create(reg *bdev.Registry, base string, id uuid.UUID) (*Device, error) {
	p, err := passthru.Open(reg, passthru.Config{Name: "EE_" + base, UUID: id, Base: base, Product: "Error Injection Disk"})
	if err != nil {
		return nil, err
	}
	d := &Device{Device: p, armed: map[bdev.Op]*Injection{}}
	d.done, d.spoil = d.complete, d.corrupt
	if err := p.Register(d); err != nil {
		return nil, err
	}
	return d, nil
}

// Inject arms a fault, in place of an earlier one for the same requests.
// EINVAL names the field.
func (d *Device) Inject(i Injection) error {
	if err := i.validate(); err != nil {
		return fmt.Errorf("error bdev %q: %w", d.Info().Name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if i.IOType == "clear" {
		clear(d.armed)
		return nil
	}
	for _, op := range ioTypes[i.IOType] {
		own := i
		d.armed[op] = &own
	}
	return nil
}

// DriverSpecific is the device's object in bdev_get_bdevs.
func (d *Device) DriverSpecific() any {
	return map[string]any{"error_disk": map[string]string{"base_bdev": d.Base()}}
}

// Resume lets the requests that hang go on to the base.
func (d *Device) Resume() {
	var b bdev.Batch
	for _, r := range d.takePending() {
		d.pass(r, &b, d.done)
	}
	b.Flush()
}

// Retire fails the requests that hang, so that the device can go.
func (d *Device) Retire() {
	d.mu.Lock()
	d.retired = true
	d.mu.Unlock()
	var b bdev.Batch
	for _, r := range d.takePending() {
		r.Complete(nvme.InternalPathError, &b)
	}
	b.Flush()
}

func (d *Device) takePending() []*bdev.Request {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.pending
	d.pending = nil
	return p
}

// fault uses up one of the faults that are armed for op.
func (d *Device) fault(op bdev.Op) (Injection, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.armed[op]
	if i == nil || i.Num == 0 || d.inside < i.QueueDepth {
		return Injection{}, false
	}
	i.Num--
	return *i, true
}

// Submit passes r on, or does to it what is armed.
func (d *Device) Submit(r *bdev.Request, b *bdev.Batch) {
	if r.Op == bdev.OpReset {
		for _, p := range d.takePending() {
			p.Complete(nvme.AbortRequested, b)
		}
	}
	i, hit := d.fault(r.Op)
	if !hit {
		d.pass(r, b, d.done)
		return
	}
	switch i.Fault {
	case Failure:
		s := nvme.WriteFault
		if r.Op == bdev.OpRead {
			s = nvme.UnrecoveredReadError
		}
		r.Complete(s, b)
	case NoMem:
		r.Complete(nvme.CommandInterrupted, b)
	case NVMeFailure:
		r.Complete(i.Status, b)
	case Pending:
		if !r.Retain() {
			r.Complete(nvme.CommandInterrupted, b)
			return
		}
		d.mu.Lock()
		if d.retired {
			d.mu.Unlock()
			r.Complete(nvme.InternalPathError, b)
			return
		}
		d.pending = append(d.pending, r)
		d.mu.Unlock()
	case CorruptData:
		d.corrupted(r, i, b)
	}
}

// pass hands r to the base.
func (d *Device) pass(r *bdev.Request, b *bdev.Batch, then func(*bdev.Request, nvme.Status, *bdev.Batch)) {
	d.mu.Lock()
	d.inside++
	d.mu.Unlock()
	d.Forward(r, b, then)
}

func (d *Device) complete(r *bdev.Request, s nvme.Status, b *bdev.Batch) {
	d.mu.Lock()
	d.inside--
	d.mu.Unlock()
	r.Complete(s, b)
}

// corrupted changes what is written on its way down, and what is read on its
// way up. The submitter's own data stays as it is.
func (d *Device) corrupted(r *bdev.Request, i Injection, b *bdev.Batch) {
	switch r.Op {
	case bdev.OpRead:
		d.mu.Lock()
		d.last = i
		d.mu.Unlock()
		d.pass(r, b, d.spoil)
	case bdev.OpWrite:
		given := r.Transient
		r.Transient = true
		if !r.Retain() {
			r.Transient = given
			r.Complete(nvme.CommandInterrupted, b)
			return
		}
		i.apply(r.Iov)
		d.pass(r, b, d.done)
	default:
		d.pass(r, b, d.done)
	}
}

func (d *Device) corrupt(r *bdev.Request, s nvme.Status, b *bdev.Batch) {
	if s == nvme.Success {
		d.mu.Lock()
		i := d.last
		d.mu.Unlock()
		i.apply(r.Iov)
	}
	d.complete(r, s, b)
}

// apply changes the byte.
func (i *Injection) apply(iov [][]byte) {
	v := bdev.IovAt(iov, int(min(i.CorruptOffset, math.MaxInt)))
	if p := v.Next(1); p != nil {
		p[0] ^= i.CorruptValue
	}
}
