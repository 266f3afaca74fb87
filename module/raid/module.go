package raid

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"github.com/virtual-disk-array/vda/bdev"
)

// claimName is how the module signs its claims on bases.
const claimName = "raid"

// Module holds the arrays of one registry. All methods are safe for
// concurrent use.
type Module struct {
	reg *bdev.Registry

	// mu is never held while the registry is asked to register or unregister, or a
	// handle is closed, because those call back.
	mu     sync.Mutex
	arrays []*Array
	// closing are handles of bases that have been let go under mu; unlock closes them.
	closing []*bdev.Handle
}

// New returns a module without arrays. The owner of reg calls Examine for new
// devices.
func New(reg *bdev.Registry) *Module { return &Module{reg: reg} }

// Create makes an array. It is online when Create returns if all bases are
// there; otherwise it stays configuring and Examine adds the rest. EINVAL for
// a bad config or bases that do not fit together, EEXIST when the name is
// taken, EPERM when a base is claimed; nothing is left behind then.
func (m *Module) Create(c Config) (*Array, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if _, taken := m.reg.Get(c.Name); taken {
		return nil, fmt.Errorf("raid %q: %w", c.Name, syscall.EEXIST)
	}
	a := &Array{mod: m, conf: c, state: Configuring}
	for _, b := range c.Bases {
		a.bases = append(a.bases, base{name: b})
	}
	m.mu.Lock()
	if m.find(c.Name) != nil {
		m.unlock()
		return nil, fmt.Errorf("raid %q: %w", c.Name, syscall.EEXIST)
	}
	m.arrays = append(m.arrays, a)
	for i := range a.bases {
		if err := a.openBase(i); err != nil && !errors.Is(err, syscall.ENODEV) {
			m.discard(a)
			m.unlock()
			return nil, err
		}
	}
	m.unlock()
	if err := m.start(a); err != nil {
		m.mu.Lock()
		m.discard(a)
		m.unlock()
		return nil, err
	}
	return a, nil
}

// Delete removes an array; its data stays on the bases. It returns when all
// its handles are closed. ENODEV when there is not one of that name.
func (m *Module) Delete(name string) error {
	m.mu.Lock()
	a := m.find(name)
	if a == nil {
		m.unlock()
		return fmt.Errorf("raid bdev %s not found: %w", name, syscall.ENODEV)
	}
	registered := a.live.Load() != nil
	if !registered {
		m.discard(a)
	}
	m.unlock()
	if !registered {
		return nil
	}
	if err := m.reg.Unregister(name); err != nil && !errors.Is(err, syscall.ENODEV) {
		return err
	}
	<-m.reg.Gone(name)
	m.mu.Lock()
	m.discard(a)
	m.unlock()
	return nil
}

// Arrays returns the status of the arrays in a state, or of all for "all".
func (m *Module) Arrays(state string) []Status {
	m.mu.Lock()
	defer m.unlock()
	out := []Status{}
	for _, a := range m.arrays {
		if state == "all" || a.state == state {
			out = append(out, a.status())
		}
	}
	return out
}

// Examine gives a new device to the configuring array that waits for it.
func (m *Module) Examine(name string) {
	d, ok := m.reg.Get(name)
	if !ok {
		return
	}
	info := d.Info()
	var ready []*Array
	m.mu.Lock()
	for _, a := range m.arrays {
		if a.state != Configuring || a.live.Load() != nil {
			continue
		}
		for i := range a.bases {
			b := &a.bases[i]
			if b.handle == nil && (b.name == info.Name || b.name == info.UUID.String() || slices.Contains(info.Aliases, b.name)) &&
				a.openBase(i) == nil {
				ready = append(ready, a)
			}
		}
	}
	m.unlock()
	for _, a := range ready {
		// Bases that do not fit leave the array configuring: its status
		// shows that, and the user deletes it.
		_ = m.start(a)
	}
}

// unlock gives mu back, and then closes the handles that have been let go meanwhile: the
// last one of an array that is being removed closes it, which takes mu.
func (m *Module) unlock() {
	closing := m.closing
	m.closing = nil
	m.mu.Unlock()
	for _, h := range closing {
		h.Close()
	}
}

// find returns the array called name, or nil; m.mu is held.
func (m *Module) find(name string) *Array {
	for _, a := range m.arrays {
		if a.conf.Name == name {
			return a
		}
	}
	return nil
}

// discard forgets a and lets go of its bases; m.mu is held.
func (m *Module) discard(a *Array) {
	for i, x := range m.arrays {
		if x == a {
			m.arrays = append(m.arrays[:i], m.arrays[i+1:]...)
			break
		}
	}
	a.release()
}

// release lets go of the bases; mod.mu is held.
func (a *Array) release() {
	m := a.mod
	for i := range a.bases {
		if h := a.bases[i].handle; h != nil {
			a.bases[i].handle = nil
			m.closing = append(m.closing, h)
		}
	}
}

// openBase opens and claims base i; mod.mu is held.
func (a *Array) openBase(i int) error {
	b := &a.bases[i]
	h, err := a.mod.reg.Open(b.name, func(k bdev.EventKind) { a.baseEvent(i, k) })
	if err != nil {
		return err
	}
	if err := h.Claim(claimName); err != nil {
		a.mod.closing = append(a.mod.closing, h)
		return err
	}
	h.OnSettle(func() { a.mod.reg.Settle(a.conf.Name) })
	b.handle, b.uuid = h, h.Info().UUID
	return nil
}

// start brings a online when no base is missing.
func (m *Module) start(a *Array) error {
	m.mu.Lock()
	for i := range a.bases {
		if a.bases[i].handle == nil {
			m.unlock()
			return nil
		}
	}
	if a.state != Configuring || a.live.Load() != nil {
		m.unlock()
		return nil
	}
	l, info, err := a.build()
	if err != nil {
		m.unlock()
		return err
	}
	a.info.Store(info)
	a.live.Store(l)
	a.state = Online
	m.unlock()
	err = m.reg.Register(a)
	m.mu.Lock()
	lost := a.failed.Load()
	if err != nil {
		a.live.Store(nil)
		a.state = Configuring
	}
	m.unlock()
	if err == nil && lost {
		m.retire(a)
	}
	return err
}

// baseEvent is told what happens to base i; no lock is held.
func (a *Array) baseEvent(i int, k bdev.EventKind) {
	m := a.mod
	m.mu.Lock()
	if k == bdev.Resized {
		grown := a.regrow()
		m.unlock()
		if grown {
			m.reg.Resized(a.conf.Name)
		}
		return
	}
	if a.live.Load() == nil {
		if h := a.bases[i].handle; h != nil {
			a.bases[i].handle = nil
			m.closing = append(m.closing, h)
		}
		m.unlock()
		return
	}
	first := !a.failed.Swap(true)
	a.state = Offline
	m.unlock()
	if first {
		m.retire(a)
	}
}

// retire unregisters a failed array without waiting for its users. ENODEV
// means that start has not registered it yet, and will call retire itself, or
// that somebody else is at it.
func (m *Module) retire(a *Array) {
	go func() { _ = m.reg.Unregister(a.conf.Name) }()
}

// regrow adopts larger bases and reports whether the array grew; mod.mu is
// held.
func (a *Array) regrow() bool {
	old := a.live.Load()
	if old == nil || a.failed.Load() {
		return false
	}
	l, info, err := a.build()
	if err != nil || l.geo.total <= old.geo.total {
		return false
	}
	if a.conf.Level == Concat {
		// Growing any base but the last would move what follows it.
		for i := range l.geo.sizes[:len(l.geo.sizes)-1] {
			if l.geo.sizes[i] != old.geo.sizes[i] {
				return false
			}
		}
	}
	a.info.Store(info)
	a.live.Store(l)
	return true
}

// Close is called by the registry when the last user of the array is gone.
func (a *Array) Close() error {
	a.mod.mu.Lock()
	a.state = Offline
	a.failed.Store(true)
	a.release()
	a.mod.unlock()
	return nil
}
