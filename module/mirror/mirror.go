package mirror

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
	"github.com/virtual-disk-array/vda/nvme"
)

// Mirror is one mirror, a bdev.Device.
type Mirror struct {
	mod    *Module
	conf   Config // mu guards what changes
	begun  time.Time
	info   atomic.Pointer[bdev.Info]
	direct atomic.Pointer[direct] // not nil while I/O goes past the core
	unmaps atomic.Bool            // all legs read zeros where they were unmapped

	mu       sync.Mutex // not held while requests are submitted or completed
	core     *core.Core
	legs     []*leg // by their place in the core
	past     []*leg // of cores that have yielded, which still have orders under way
	carrying bool   // a goroutine carries actions out
	actions  []core.Action
	orders   []order
	stopped  bool
	retired  bool          // it is being taken apart
	indirect int           // calls during which I/O may not go past the core
	shown    uint64        // changes of the core that were told
	newsAt   uint64        // the module's number of the last of them
	base     uint64        // that earlier cores had
	counted  core.Counters // by earlier cores
	changed  chan struct{} // closed at the next one
	setting  sync.Mutex    // one Set at a time
	closing  int           // handles of legs that are being closed
	closed   sync.Cond     // of mu: closing is less
	turn     uint32        // of ages
	turned   time.Duration // when it began
}

// order is an action with what it takes to carry it out.
type order struct {
	core.Action
	m    *Mirror
	of   *core.Core
	leg  *leg         // nil of Complete and Compare
	h    *bdev.Handle // of the leg; nil when it is gone
	turn uint32       // since when it is under way; see ages
}

// Info describes the device.
func (m *Mirror) Info() bdev.Info { return *m.info.Load() }

// DriverSpecific is the mirror's object in bdev_get_bdevs.
func (m *Mirror) DriverSpecific() any { return map[string]Status{"mirror": m.Status()} }

// now is the time as the core counts it.
func (m *Mirror) now() time.Duration { return time.Since(m.begun) }

// enter has f change the core, and carries out what comes of it. f runs under
// m.mu.
func (m *Mirror) enter(b *bdev.Batch, f func(c *core.Core)) {
	m.mu.Lock()
	f(m.core)
	m.carryLocked(b)
}

func (m *Mirror) carry(b *bdev.Batch) {
	m.mu.Lock()
	m.carryLocked(b)
}

// carryLocked carries out the core's actions in their order, by one goroutine at
// a time: what comes of them on other goroutines meanwhile is carried out by it.
// It unlocks m.mu.
func (m *Mirror) carryLocked(b *bdev.Batch) {
	if m.carrying {
		m.mu.Unlock()
		return
	}
	if b == nil {
		own := bdev.Batch{}
		m.carryLocked(&own)
		own.Flush()
		return
	}
	m.carrying = true
	for {
		m.actions = m.core.Take(m.actions)
		if len(m.actions) == 0 {
			break
		}
		m.orders = m.orders[:0]
		for i := range m.actions {
			a := &m.actions[i]
			o := order{Action: *a, m: m, of: m.core}
			switch a.Kind {
			case core.Complete, core.Compare:
			case core.Stopped:
				m.stopped = true
				continue
			case core.Detach:
				m.detach(m.legs[a.Leg])
				continue
			default:
				o.leg = m.legs[a.Leg]
				o.turn = o.leg.ages.begin(m.turn)
				o.leg.under++
				o.h = o.leg.h
			}
			m.orders = append(m.orders, o)
		}
		orders := m.orders
		m.mu.Unlock()
		for i := range orders {
			orders[i].carryOut(b)
		}
		m.mu.Lock()
	}
	m.carrying = false
	m.openDirect()
	m.show()
	m.mu.Unlock()
}

// done reports how an order ended.
func (o *order) done(s nvme.Status, b *bdev.Batch) {
	result := core.OK
	switch {
	case s == nvme.Success:
	case s.IsPath():
		result = core.Path
	default:
		result = core.Media
	}
	m := o.m
	m.mu.Lock()
	now := m.now()
	o.leg.under--
	o.leg.ages.end(o.turn)
	if p := o.op(); p != nil && s != nvme.Success { // several legs may fail at once
		p.status = s
	}
	o.of.Clock(now)
	o.of.Done(o.Action, result)
	m.carryLocked(b)
}

// tick tells the core the time, and asks members that have been silent whether
// they are there.
func (m *Mirror) tick() {
	b := bdev.Batch{}
	m.enter(&b, func(c *core.Core) {
		c.Tick(m.now())
		m.stalled(c)
	})
	m.probe(&b)
	b.Flush()
}

// Retire ends what waits, as the mirror is being taken apart.
func (m *Mirror) Retire() {
	m.mu.Lock()
	m.retired = true
	m.closeDirect()
	m.core.Stop()
	m.carryLocked(nil)
}

// stopLimit is how long a mirror that is taken apart waits for its labels, and for
// its legs to come to rest.
const stopLimit = 5 * time.Second

// Close is called by the registry when the last user of the mirror is gone.
func (m *Mirror) Close() error {
	m.Retire()
	for end := time.Now().Add(stopLimit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		m.mu.Lock()
		done := m.stopped && m.atRest()
		m.mu.Unlock()
		if done {
			break
		}
	}
	m.release()
	m.mod.forget(m)
	return nil
}

// legOf returns the leg of a vd, nil when it is not one. m.mu is held.
func (m *Mirror) legOf(vd label.ID) (core.Leg, *leg) {
	if i, known := m.core.Find(vd); known && int(i) < len(m.legs) && m.legs[i].conf.VD == vd {
		return i, m.legs[i]
	}
	return 0, nil
}
