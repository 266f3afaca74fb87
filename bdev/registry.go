package bdev

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/google/uuid"
)

// Errors of the registry; each is the errno that SPDK answers.
var (
	ErrExists      = syscall.EEXIST
	ErrNoDevice    = syscall.ENODEV
	ErrClaimed     = syscall.EPERM
	ErrNoHistogram = syscall.EFAULT
)

// EventKind says what happened to an open device.
type EventKind uint8

// The events. A holder that is told Removed must close its handle as soon as
// its I/O has settled; Unregister waits for it.
const (
	Removed EventKind = iota + 1
	Resized
)

// Registry names devices. All methods are safe for concurrent use. It calls
// devices, holders and Examine without holding its lock.
type Registry struct {
	// Buffers is the pool of data buffers that the devices and their users
	// share; NewRegistry's is of 1 GiB. Replace it before the first Register.
	Buffers *Pool

	mu    sync.Mutex
	names map[string]*entry // name, aliases, UUID string
	order []*entry

	// Examine, when set, is called for every new device on a goroutine of
	// the caller of Register (auto examine). Set it before the first Register.
	Examine func(name string)
}

// entry is a registered device. Unless noted, fields are guarded by
// the registry's mu.
type entry struct {
	reg      *Registry
	dev      Device
	name     string
	keys     []string // under which it is in names
	aliases  []string // without the UUID
	handles  map[*Handle]struct{}
	claim    string
	sharers  int // handles that hold the claim, when it is a shared one
	removing bool
	gone     chan struct{} // closed when the device is closed
	closeErr error         // of the device; valid once gone is closed

	qos  atomic.Pointer[qos]
	hist atomic.Pointer[Histogram]
	past counters // of handles that are closed
	excl exclusive

	exclusive bool // new handles start with stateExclusive
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{Buffers: NewPool(1 << 30), names: map[string]*entry{}}
}

// Register adds d under its name, aliases and UUID. EEXIST when one is taken,
// EINVAL without a name.
func (reg *Registry) Register(d Device) error {
	i := d.Info()
	if i.Name == "" {
		return fmt.Errorf("bdev name is empty: %w", syscall.EINVAL)
	}
	e := &entry{reg: reg, dev: d, name: i.Name, aliases: slices.Clone(i.Aliases), handles: map[*Handle]struct{}{}, gone: make(chan struct{})}
	e.keys = append(e.keys, i.Name)
	if i.UUID != uuid.Nil {
		e.keys = append(e.keys, i.UUID.String())
	}
	e.keys = append(e.keys, i.Aliases...)
	reg.mu.Lock()
	for _, k := range e.keys {
		if _, taken := reg.names[k]; taken {
			reg.mu.Unlock()
			return fmt.Errorf("bdev %q: %w", k, ErrExists)
		}
	}
	for _, k := range e.keys {
		reg.names[k] = e
	}
	reg.order = append(reg.order, e)
	examine := reg.Examine
	reg.mu.Unlock()
	if examine != nil {
		examine(i.Name)
	}
	return nil
}

// Unregister removes the device: open handles are told Removed, and the call
// returns when all are closed, their requests are done and the device is
// closed. ENODEV if unknown or being removed already.
func (reg *Registry) Unregister(name string) error {
	reg.mu.Lock()
	e := reg.names[name]
	if e == nil || e.removing {
		reg.mu.Unlock()
		return fmt.Errorf("bdev %q: %w", name, ErrNoDevice)
	}
	e.removing = true
	hs := slices.Collect(maps.Keys(e.handles))
	last := len(hs) == 0
	reg.mu.Unlock()
	if last {
		reg.close(e)
		return e.closeErr
	}
	for _, h := range hs {
		h.state.Or(stateRemoved)
	}
	if q := e.qos.Load(); q != nil {
		q.release()
	}
	if r, ok := e.dev.(Retirer); ok {
		r.Retire()
	}
	for _, h := range hs {
		if h.onEvent != nil {
			h.onEvent(Removed)
		}
	}
	<-e.gone
	return e.closeErr
}

// Gone returns a channel that is closed when no device has that name any
// more, for a caller that lost the race to unregister it.
func (reg *Registry) Gone(name string) <-chan struct{} {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if e := reg.names[name]; e != nil {
		return e.gone
	}
	c := make(chan struct{})
	close(c)
	return c
}

// close closes a device that nobody holds and forgets it.
func (reg *Registry) close(e *entry) {
	e.closeErr = e.dev.Close()
	reg.mu.Lock()
	for _, k := range e.keys {
		delete(reg.names, k)
	}
	reg.order = slices.DeleteFunc(reg.order, func(x *entry) bool { return x == e })
	reg.mu.Unlock()
	close(e.gone)
}

// Close unregisters everything, the newest first, so that what stands on
// others goes before them, and gives the memory of the buffers back.
func (reg *Registry) Close() {
	for {
		reg.mu.Lock()
		n := len(reg.order)
		if n == 0 {
			reg.mu.Unlock()
			reg.Buffers.Trim()
			return
		}
		e := reg.order[n-1]
		reg.mu.Unlock()
		if err := reg.Unregister(e.name); errors.Is(err, ErrNoDevice) {
			<-e.gone // somebody else is removing it
		}
	}
}

// holders are the open handles of the device called name.
func (reg *Registry) holders(name string) []*Handle {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	e := reg.names[name]
	if e == nil {
		return nil
	}
	return slices.Collect(maps.Keys(e.handles))
}

// Resized tells the holders of name that its Info has changed.
func (reg *Registry) Resized(name string) {
	for _, h := range reg.holders(name) {
		h.refresh()
		if h.onEvent != nil {
			h.onEvent(Resized)
		}
	}
}

// CutOff tells those holders of name who asked for it (Handle.OnCutOff) that the
// device does not reach what it leads to.
func (reg *Registry) CutOff(name string) {
	for _, h := range reg.holders(name) {
		if f := h.onCutOff.Load(); f != nil {
			(*f)()
		}
	}
}

// AddAlias gives a device another name. ENODEV if unknown, EEXIST when the
// alias is taken.
func (reg *Registry) AddAlias(name, alias string) error {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	e := reg.names[name]
	if e == nil || e.removing {
		return fmt.Errorf("bdev %q: %w", name, ErrNoDevice)
	}
	if reg.names[alias] != nil || alias == "" {
		return fmt.Errorf("bdev %q: %w", alias, ErrExists)
	}
	reg.names[alias] = e
	e.keys = append(e.keys, alias)
	e.aliases = append(e.aliases, alias)
	return nil
}

// RemoveAlias takes an alias away. ENODEV if the device is unknown, ENOENT if
// it has no such alias; its name and its UUID stay.
func (reg *Registry) RemoveAlias(name, alias string) error {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	e := reg.names[name]
	if e == nil {
		return fmt.Errorf("bdev %q: %w", name, ErrNoDevice)
	}
	i := slices.Index(e.aliases, alias)
	if i < 0 {
		return fmt.Errorf("bdev %q has no alias %q: %w", name, alias, syscall.ENOENT)
	}
	e.aliases = slices.Delete(e.aliases, i, i+1)
	e.keys = slices.DeleteFunc(e.keys, func(k string) bool { return k == alias })
	delete(reg.names, alias)
	return nil
}

// Open returns a handle on the device called name (or alias, or UUID).
// ENODEV if unknown or being removed. onEvent may be nil; it is called without
// locks, must not block, and may be called once more just after Close.
func (reg *Registry) Open(name string, onEvent func(EventKind)) (*Handle, error) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	e := reg.names[name]
	if e == nil || e.removing {
		return nil, fmt.Errorf("bdev %q: %w", name, ErrNoDevice)
	}
	h := &Handle{reg: reg, ent: e, dev: e.dev, onEvent: onEvent, shards: make([]shard, shardCount)}
	h.mapper, _ = e.dev.(Mapper)
	h.refresh()
	if e.exclusive {
		h.state.Or(stateExclusive)
	}
	e.handles[h] = struct{}{}
	return h, nil
}

// Get returns the device called name without opening it.
func (reg *Registry) Get(name string) (Device, bool) {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	e := reg.names[name]
	if e == nil {
		return nil, false
	}
	return e.dev, true
}

// Info describes a device as its users see it: with the aliases of now, and
// the operations that handles add to the device's own.
func (reg *Registry) Info(name string) (Info, bool) {
	reg.mu.Lock()
	e := reg.names[name]
	if e == nil {
		reg.mu.Unlock()
		return Info{}, false
	}
	aliases := slices.Clone(e.aliases)
	reg.mu.Unlock()
	i := e.dev.Info()
	i.Aliases = aliases
	i.offer()
	return i, true
}

// List returns all devices in the order of registration.
func (reg *Registry) List() []Device {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	out := make([]Device, len(reg.order))
	for i, e := range reg.order {
		out[i] = e.dev
	}
	return out
}

// ClaimedBy returns the module that holds the exclusive write claim, or "".
func (reg *Registry) ClaimedBy(name string) string {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	if e := reg.names[name]; e != nil {
		return e.claim
	}
	return ""
}

// Names returns the sorted names of all devices.
func (reg *Registry) Names() []string {
	reg.mu.Lock()
	defer reg.mu.Unlock()
	out := make([]string, len(reg.order))
	for i, e := range reg.order {
		out[i] = e.name
	}
	sort.Strings(out)
	return out
}

// IsErrno reports whether err carries errno e.
func IsErrno(err error, e syscall.Errno) bool { return errors.Is(err, e) }
