package mirror

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/nvme"
)

// Mirror is one mirror, a bdev.Device.
type Mirror struct {
	mod   *Module
	conf  Config
	begun time.Time
	info  atomic.Pointer[bdev.Info]

	mu       sync.Mutex // not held while requests are submitted or completed
	core     *core.Core
	legs     []leg // by their place in the core
	carrying bool  // a goroutine carries actions out
	actions  []core.Action
	orders   []order
	stopped  bool
	shown    uint64        // changes of the core that were told
	changed  chan struct{} // closed at the next one
	setting  sync.Mutex    // one Set at a time
}

// order is an action with what it takes to carry it out.
type order struct {
	core.Action
	m     *Mirror
	h     *bdev.Handle // of the leg; nil when it is gone
	shift uint
}

// Info describes the device.
func (m *Mirror) Info() bdev.Info { return *m.info.Load() }

// DriverSpecific is the mirror's object in bdev_get_bdevs.
func (m *Mirror) DriverSpecific() any { return map[string]Status{"mirror": m.Status()} }

// enter has f change the core, and carries out what comes of it. f runs under
// m.mu.
func (m *Mirror) enter(b *bdev.Batch, f func(c *core.Core)) {
	m.mu.Lock()
	f(m.core)
	m.mu.Unlock()
	m.carry(b)
}

// carry carries out the core's actions in their order, by one goroutine at a
// time: what comes of them on other goroutines meanwhile is carried out by it.
func (m *Mirror) carry(b *bdev.Batch) {
	own := bdev.Batch{}
	if b == nil {
		b = &own
		defer own.Flush()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.carrying {
		return
	}
	m.carrying = true
	for {
		m.actions = m.core.Take(m.actions)
		if len(m.actions) == 0 {
			break
		}
		m.orders = m.orders[:0]
		for _, a := range m.actions {
			o := order{Action: a, m: m}
			switch a.Kind {
			case core.Complete:
			case core.Stopped:
				m.stopped = true
				continue
			case core.Detach:
				m.legs[a.Leg].detach()
				continue
			default:
				l := &m.legs[a.Leg]
				l.under++
				o.h, o.shift = l.h, l.shift
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
	m.show()
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
	l := &m.legs[o.Leg]
	l.under--
	if result == core.OK {
		l.heard = time.Now()
	}
	m.core.Done(o.Action, result)
	m.mu.Unlock()
	m.carry(b)
}

// tick tells the core the time, and asks members that have been silent whether
// they are there.
func (m *Mirror) tick() {
	b := bdev.Batch{}
	m.enter(&b, func(c *core.Core) { c.Tick(time.Since(m.begun)) })
	m.probe(&b)
	b.Flush()
}

// Retire ends what waits, as the mirror is being taken apart.
func (m *Mirror) Retire() { m.enter(nil, func(c *core.Core) { c.Stop() }) }

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
