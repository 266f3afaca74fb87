package bdev

import (
	"errors"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
)

// Errors of the registry; SPDK's errno for each is in its message by errno().
var (
	ErrExists   = syscall.EEXIST
	ErrNoDevice = syscall.ENODEV
	ErrClaimed  = syscall.EPERM
)

// EventKind says what happened to an open device.
type EventKind uint8

// The events. A holder that is told Removed must close its handle as soon as
// its I/O has settled; Unregister waits for it.
const (
	Removed EventKind = iota + 1
	Resized
)

// Registry names devices. All methods are safe for concurrent use.
type Registry struct {
	mu    sync.Mutex
	names map[string]*entry // name, aliases, UUID string
	order []*entry

	// Examine, when set, is called for every new device on a goroutine of
	// the caller of Register (auto examine).
	Examine func(name string)
}

type entry struct {
	dev      Device
	handles  map[*Handle]struct{}
	claim    string
	removing bool
	gone     chan struct{} // closed when the device is closed
	stats    Stats
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry { return &Registry{names: map[string]*entry{}} }

// Register adds d under its name, aliases and UUID. EEXIST when one is taken.
func (g *Registry) Register(d Device) error {
	i := d.Info()
	e := &entry{dev: d, handles: map[*Handle]struct{}{}, gone: make(chan struct{})}
	keys := append([]string{i.Name, i.UUID.String()}, i.Aliases...)
	g.mu.Lock()
	for _, k := range keys {
		if _, taken := g.names[k]; taken {
			g.mu.Unlock()
			return fmt.Errorf("bdev %q: %w", k, ErrExists)
		}
	}
	for _, k := range keys {
		g.names[k] = e
	}
	g.order = append(g.order, e)
	examine := g.Examine
	g.mu.Unlock()
	if examine != nil {
		examine(i.Name)
	}
	return nil
}

// Unregister removes the device: open handles are told Removed, and the call
// returns when all are closed and the device is closed. ENODEV if unknown.
func (g *Registry) Unregister(name string) error {
	g.mu.Lock()
	e := g.names[name]
	if e == nil || e.removing {
		g.mu.Unlock()
		return fmt.Errorf("bdev %q: %w", name, ErrNoDevice)
	}
	e.removing = true
	var hs []*Handle
	for h := range e.handles {
		hs = append(hs, h)
	}
	last := len(hs) == 0
	if last {
		g.drop(e)
	}
	g.mu.Unlock()
	for _, h := range hs {
		h.removed.Store(true)
		if h.onEvent != nil {
			h.onEvent(Removed)
		}
	}
	if last {
		err := e.dev.Close()
		close(e.gone)
		return err
	}
	<-e.gone
	return nil
}

// drop forgets e's names; g.mu is held.
func (g *Registry) drop(e *entry) {
	for k, v := range g.names {
		if v == e {
			delete(g.names, k)
		}
	}
	for i, v := range g.order {
		if v == e {
			g.order = append(g.order[:i], g.order[i+1:]...)
			break
		}
	}
}

// Resized tells the holders of name that its Info has changed.
func (g *Registry) Resized(name string) {
	g.mu.Lock()
	var hs []*Handle
	if e := g.names[name]; e != nil {
		for h := range e.handles {
			hs = append(hs, h)
		}
	}
	g.mu.Unlock()
	for _, h := range hs {
		h.refresh()
		if h.onEvent != nil {
			h.onEvent(Resized)
		}
	}
}

// Open returns a handle on the device called name (or alias, or UUID).
// onEvent may be nil; it is called without locks and must not block.
func (g *Registry) Open(name string, onEvent func(EventKind)) (*Handle, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.names[name]
	if e == nil || e.removing {
		return nil, fmt.Errorf("bdev %q: %w", name, ErrNoDevice)
	}
	h := &Handle{reg: g, ent: e, dev: e.dev, onEvent: onEvent}
	h.refresh()
	e.handles[h] = struct{}{}
	return h, nil
}

// Get returns the device called name without opening it.
func (g *Registry) Get(name string) (Device, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.names[name]
	if e == nil {
		return nil, false
	}
	return e.dev, true
}

// List returns all devices in the order of registration.
func (g *Registry) List() []Device {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Device, len(g.order))
	for i, e := range g.order {
		out[i] = e.dev
	}
	return out
}

// ClaimedBy returns the module that holds the exclusive write claim, or "".
func (g *Registry) ClaimedBy(name string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.names[name]; e != nil {
		return e.claim
	}
	return ""
}

// Names returns the sorted names of all devices.
func (g *Registry) Names() []string {
	var out []string
	for _, d := range g.List() {
		out = append(out, d.Info().Name)
	}
	sort.Strings(out)
	return out
}

// Handle is one user's opening of a device.
type Handle struct {
	reg     *Registry
	ent     *entry
	dev     Device
	onEvent func(EventKind)
	info    atomic.Pointer[Info]
	removed atomic.Bool
	claimed bool // guarded by reg.mu
	closed  bool // guarded by reg.mu
}

// Info returns the device's description as of the last event.
func (h *Handle) Info() *Info { return h.info.Load() }

func (h *Handle) refresh() {
	i := h.dev.Info()
	h.info.Store(&i)
}

// Claim takes the device's exclusive write claim for module. EPERM when it is
// claimed already.
func (h *Handle) Claim(module string) error {
	h.reg.mu.Lock()
	defer h.reg.mu.Unlock()
	if h.ent.claim != "" {
		return fmt.Errorf("bdev %q is claimed by %s: %w", h.dev.Info().Name, h.ent.claim, ErrClaimed)
	}
	h.ent.claim = module
	h.claimed = true
	return nil
}

// Close ends the use of the device; all the handle's requests must be done.
func (h *Handle) Close() {
	h.reg.mu.Lock()
	if h.closed {
		h.reg.mu.Unlock()
		return
	}
	h.closed = true
	e := h.ent
	delete(e.handles, h)
	if h.claimed {
		e.claim = ""
	}
	last := e.removing && len(e.handles) == 0
	if last {
		h.reg.drop(e)
	}
	h.reg.mu.Unlock()
	if last {
		_ = e.dev.Close()
		close(e.gone)
	}
}

// IsErrno reports whether err carries errno e.
func IsErrno(err error, e syscall.Errno) bool { return errors.Is(err, e) }
