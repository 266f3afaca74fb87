package bdev

import (
	"fmt"
	"sync/atomic"
)

// Handle is one user's opening of a device. All methods are safe for
// concurrent use.
type Handle struct {
	reg      *Registry
	ent      *entry
	dev      Device
	mapper   Mapper // nil when the device is none
	onEvent  func(EventKind)
	onSettle atomic.Pointer[func()]
	onCutOff atomic.Pointer[func()]
	info     atomic.Pointer[Info]
	state    atomic.Uint32 // stateRemoved, stateClosed
	shards   []shard
	left     atomic.Bool // release was begun
	claimed  bool        // guarded by reg.mu
}

// Info returns the device's description as of the last event.
func (h *Handle) Info() *Info { return h.info.Load() }

// Used returns how many of the device's blocks take space, and false where all
// always do or nobody knows.
func (h *Handle) Used() (blocks uint64, ok bool) {
	t, thin := h.dev.(Thin)
	if !thin {
		return 0, false
	}
	return t.Used()
}

// Keeper returns the device's place for records, nil where it has none. After
// Close it may fail.
func (h *Handle) Keeper() Keeper {
	k, _ := h.dev.(Keeper)
	return k
}

func (h *Handle) refresh() {
	i := h.dev.Info()
	i.offer()
	h.info.Store(&i)
}

// Removed reports whether the device is being unregistered: new requests fail
// with a path status.
func (h *Handle) Removed() bool { return h.state.Load()&stateRemoved != 0 }

// OnCutOff has f called whenever the device has lost what it leads to and does not
// get it back at once: what is sent waits, or fails when it has waited for as long
// as the device lets it. f must not wait.
func (h *Handle) OnCutOff(f func()) { h.onCutOff.Store(&f) }

// Claim takes the device's exclusive write claim for module. EPERM when it is
// claimed already, by anyone.
func (h *Handle) Claim(module string) error {
	h.reg.mu.Lock()
	defer h.reg.mu.Unlock()
	if h.ent.claim != "" {
		return fmt.Errorf("bdev %q is claimed by %s: %w", h.ent.name, h.ent.claim, ErrClaimed)
	}
	h.ent.claim = module
	h.claimed = true
	return nil
}

// ClaimShared is Claim for a module that may use one device several times:
// others that claim it shared under the same name may join. SPDK has no such
// claim on its namespaces.
func (h *Handle) ClaimShared(module string) error {
	h.reg.mu.Lock()
	defer h.reg.mu.Unlock()
	if h.ent.claim != "" && (h.ent.sharers == 0 || h.ent.claim != module) {
		return fmt.Errorf("bdev %q is claimed by %s: %w", h.ent.name, h.ent.claim, ErrClaimed)
	}
	h.ent.claim = module
	h.ent.sharers++
	h.claimed = true
	return nil
}

// Release gives the claim back; Close does so too.
func (h *Handle) Release() {
	h.reg.mu.Lock()
	h.unclaim()
	h.reg.mu.Unlock()
}

func (h *Handle) unclaim() {
	if h.claimed {
		h.claimed = false
		h.ent.sharers = max(h.ent.sharers-1, 0)
		if h.ent.sharers == 0 {
			h.ent.claim = ""
		}
	}
}

// Reopen returns another handle on the same device that hears of the same
// events and joins a shared claim.
func (h *Handle) Reopen() (*Handle, error) {
	n, err := h.reg.Open(h.ent.name, h.onEvent)
	if err != nil {
		return nil, err
	}
	h.reg.mu.Lock()
	module, shared := h.ent.claim, h.claimed && h.ent.sharers > 0
	h.reg.mu.Unlock()
	if shared {
		if err := n.ClaimShared(module); err != nil {
			n.Close()
			return nil, err
		}
	}
	return n, nil
}

// Close ends the use of the device. It may be called with requests in flight:
// new ones fail with a path status, those in flight complete as ever, and only
// then are the claim and the device let go. Memory from Map must not be used
// any more.
func (h *Handle) Close() {
	h.state.Or(stateClosed)
	if h.InFlight() == 0 {
		h.release()
	}
}

// release lets go of the device, once nothing is in flight.
func (h *Handle) release() {
	if h.left.Swap(true) {
		return
	}
	reg, e := h.reg, h.ent
	reg.mu.Lock()
	delete(e.handles, h)
	h.unclaim()
	for i := range h.shards {
		e.past.fold(&h.shards[i].stats)
	}
	last := e.removing && len(e.handles) == 0
	reg.mu.Unlock()
	if last {
		reg.close(e)
	}
}
