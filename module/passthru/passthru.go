// Package passthru is what devices have in common that stand on exactly one
// other and show its blocks unchanged, such as delay and errorinj: they claim
// the base, follow its size, go when it goes, and hand requests down.
package passthru

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// Config of such a device.
type Config struct {
	Name    string    // of the device
	UUID    uuid.UUID // zero: a random one
	Base    string    // name of the bdev below
	Product string    // product_name
}

// Device is the part that a module embeds in its own device; the module adds
// Submit.
type Device struct {
	reg  *bdev.Registry
	h    *bdev.Handle
	info atomic.Pointer[bdev.Info]

	mu         sync.Mutex
	registered bool
	removed    bool // the base is going
}

// Open opens and claims the base. EINVAL for a missing name, ENODEV for an
// unknown base, EPERM for a claimed one. Register or Close follows.
func Open(reg *bdev.Registry, c Config) (*Device, error) {
	if c.Name == "" || c.Base == "" {
		return nil, fmt.Errorf("%s bdev: name %q and base %q must not be empty: %w", c.Product, c.Name, c.Base, syscall.EINVAL)
	}
	if c.UUID == uuid.Nil {
		c.UUID = uuid.New()
	}
	d := &Device{reg: reg}
	// An event before the first info is stored would find none.
	d.mu.Lock()
	defer d.mu.Unlock()
	h, err := reg.Open(c.Base, d.event)
	if err != nil {
		return nil, err
	}
	if err := h.Claim(c.Product); err != nil {
		h.Close()
		return nil, err
	}
	d.h = h
	i := *h.Info()
	i.Name, i.Aliases, i.UUID, i.Product = c.Name, nil, c.UUID, c.Product
	d.info.Store(&i)
	return d, nil
}

// Register registers whole, the module's device around d; on an error it
// closes it.
func (d *Device) Register(whole bdev.Device) error {
	if err := d.reg.Register(whole); err != nil {
		_ = whole.Close() // the error that counts is the registry's
		return err
	}
	d.mu.Lock()
	d.registered = true
	removed := d.removed
	d.mu.Unlock()
	if removed {
		d.retire()
	}
	return nil
}

// event is told what happens to the base.
func (d *Device) event(k bdev.EventKind) {
	d.mu.Lock()
	if k == bdev.Resized {
		i := *d.info.Load()
		i.Blocks = d.h.Info().Blocks
		d.info.Store(&i)
		d.mu.Unlock()
		d.reg.Resized(i.Name)
		return
	}
	d.removed = true
	registered := d.registered
	d.mu.Unlock()
	if registered {
		d.retire()
	}
}

// retire unregisters the device without waiting. ENODEV means that somebody
// else does.
func (d *Device) retire() {
	go func() { _ = d.reg.Unregister(d.Info().Name) }()
}

// Info describes the device: the base under another name.
func (d *Device) Info() bdev.Info { return *d.info.Load() }

// Base returns the name of the base.
func (d *Device) Base() string { return d.h.Info().Name }

// Close lets go of the base.
func (d *Device) Close() error {
	d.h.Close()
	return nil
}

// call is one request handed down. Calls are reused.
type call struct {
	req    bdev.Request
	parent *bdev.Request
	then   func(parent *bdev.Request, s nvme.Status, b *bdev.Batch)
}

var calls sync.Pool

// Forward submits r's like to the base and calls then with the result; then
// completes r, now or later. It must not be a new closure for every request.
func (d *Device) Forward(r *bdev.Request, b *bdev.Batch, then func(parent *bdev.Request, s nvme.Status, b *bdev.Batch)) {
	c, ok := calls.Get().(*call)
	if !ok {
		c = &call{}
		c.req.Owner, c.req.Done = c, callDone
	}
	c.parent, c.then = r, then
	q := &c.req
	q.Op, q.FUA, q.Offset, q.Blocks, q.Iov, q.Transient = r.Op, r.FUA, r.Offset, r.Blocks, r.Iov, r.Transient
	q.Host, q.NVMe = r.Host, r.NVMe
	d.h.Submit(q, b)
}

func callDone(q *bdev.Request, b *bdev.Batch) {
	c := q.Owner.(*call)
	parent, then, s := c.parent, c.then, q.Status
	c.parent, c.then, q.Iov, q.NVMe = nil, nil, nil, nil
	calls.Put(c)
	then(parent, s, b)
}

// Complete is a then that passes the status on.
func Complete(parent *bdev.Request, s nvme.Status, b *bdev.Batch) { parent.Complete(s, b) }
