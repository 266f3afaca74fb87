package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/mirror/core"
	"github.com/virtual-disk-array/vda/module/mirror/label"
)

// claimName is how the module signs its claims on legs.
const claimName = "mirror"

// clock is how often mirrors look at the time.
const clock = 100 * time.Millisecond

// LegConfig is a leg as the control plane sees it.
type LegConfig struct {
	VD   label.ID
	Bdev string // name; the bdev may be missing
	Role core.Role
	// Epoch is another once the disk node may have lost what it had acknowledged
	// and not flushed; zero: it is that of the bdev, see bdev.Info.
	Epoch label.ID
	// Bare says that the leg may have no label, see core.LegSpec.
	Bare bool
}

// Config says what a mirror is.
type Config struct {
	Name       string
	UUID       uuid.UUID // zero: a random one
	DA, Mirror label.ID
	DataSize   uint64 // bytes, a multiple of 4096; legs have label.TailSize more
	Term, Gen  uint64
	Legs       []LegConfig
	Fresh      bool        // see core.Config
	Recovered  uint64      // likewise; math.MaxUint64: the control plane does not say
	CopyRate   uint64      // bytes per second that are copied at most; 0: no bound
	Break      core.Breach // a rule that is left out, for tests that this is found out
}

func (c *Config) validate() error {
	switch {
	case c.Name == "":
		return fmt.Errorf("mirror: name is empty: %w", syscall.EINVAL)
	case c.DataSize == 0 || c.DataSize%label.SlotSize != 0:
		return fmt.Errorf("mirror %q: size %d must be a multiple of %d above 0: %w", c.Name, c.DataSize, label.SlotSize, syscall.EINVAL)
	case c.DA == label.ID{} || c.Mirror == label.ID{}:
		return fmt.Errorf("mirror %q: the ids of the array and of the mirror must be set: %w", c.Name, syscall.EINVAL)
	case len(c.Legs) == 0 || len(c.Legs) > label.MaxLegs:
		return fmt.Errorf("mirror %q: %d legs; a mirror has 1 to %d: %w", c.Name, len(c.Legs), label.MaxLegs, syscall.EINVAL)
	}
	if !slices.ContainsFunc(c.Legs, func(l LegConfig) bool { return l.Role == core.Member }) {
		return fmt.Errorf("mirror %q: none of its legs is a member: %w", c.Name, syscall.EINVAL)
	}
	if c.UUID == uuid.Nil {
		c.UUID = uuid.New()
	}
	return checkLegs(c.Name, c.Legs)
}

func checkLegs(name string, legs []LegConfig) error {
	seen := map[any]bool{}
	for _, l := range legs {
		switch {
		case l.VD == label.ID{}:
			return fmt.Errorf("mirror %q: the vd of the leg on bdev %q is all zeros: %w", name, l.Bdev, syscall.EINVAL)
		case l.Bdev == "":
			return fmt.Errorf("mirror %q: the name of the bdev of vd %v is empty: %w", name, l.VD, syscall.EINVAL)
		case seen[l.VD]:
			return fmt.Errorf("mirror %q: vd %v is in two legs: %w", name, l.VD, syscall.EINVAL)
		case seen[l.Bdev]:
			return fmt.Errorf("mirror %q: bdev %q is in two legs: %w", name, l.Bdev, syscall.EINVAL)
		}
		seen[l.VD], seen[l.Bdev] = true, true
	}
	return nil
}

// Module holds the mirrors of one registry. All methods are safe for concurrent
// use.
type Module struct {
	reg *bdev.Registry
	log *slog.Logger

	mu      sync.Mutex // never held while the registry is asked
	mirrors []*Mirror
	counted core.Counters // by mirrors that are gone
	first   int           // the mirror that is told the time first
	budget  budget
	news    news
	ticking chan struct{} // not nil while there are mirrors; closed to stop
}

// New returns a module without mirrors.
func New(reg *bdev.Registry, log *slog.Logger) *Module {
	m := &Module{reg: reg, log: log}
	m.news.begin()
	return m
}

// Create assembles a mirror from the legs that are there and registers it. It
// may not be online when Create returns: its I/O waits until it is. EINVAL for a
// bad config, EEXIST when the name is taken, ESTALE when a leg's label is ahead
// of what the config says, EIO when no member can be read; nothing is left behind
// then.
func (m *Module) Create(ctx context.Context, c Config) (*Mirror, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if _, err := m.Find(c.Name); err == nil {
		return nil, taken(c.Name)
	}
	x := &Mirror{mod: m, conf: c, begun: time.Now(), changed: make(chan struct{})}
	x.closed.L = &x.mu
	if err := x.assemble(ctx); err != nil {
		x.release()
		return nil, err
	}
	m.mu.Lock()
	if m.find(c.Name) != nil {
		m.mu.Unlock()
		x.release()
		return nil, taken(c.Name)
	}
	m.mirrors = append(m.mirrors, x)
	m.tick()
	m.mu.Unlock()
	x.mu.Lock()
	x.noteNews()
	x.mu.Unlock()
	if err := m.reg.Register(x); err != nil {
		x.release()
		m.forget(x)
		return nil, err
	}
	x.carry(nil)
	x.attachTargets(ctx)
	return x, nil
}

func taken(name string) error {
	return fmt.Errorf("there is a mirror %q already: %w", name, syscall.EEXIST)
}

// Find returns the mirror of that name. ENODEV when there is none.
func (m *Module) Find(name string) (*Mirror, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if x := m.find(name); x != nil {
		return x, nil
	}
	return nil, fmt.Errorf("mirror %q not found: %w", name, syscall.ENODEV)
}

func (m *Module) find(name string) *Mirror {
	for _, x := range m.mirrors {
		if x.conf.Name == name {
			return x
		}
	}
	return nil
}

// List returns the mirrors.
func (m *Module) List() []*Mirror {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mirrors)
}

// Delete takes a mirror apart; its data stay on its legs, whose labels say that
// they are equal if that is so. It returns when all handles of the mirror are
// closed. ENODEV when there is not one of that name.
func (m *Module) Delete(name string) error {
	if _, err := m.Find(name); err != nil {
		return err
	}
	if err := m.reg.Unregister(name); err != nil && !errors.Is(err, syscall.ENODEV) {
		return err
	}
	<-m.reg.Gone(name)
	return nil
}

func (m *Module) forget(x *Mirror) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(m.mirrors, x) {
		m.counted.Add(x.counters())
	}
	m.mirrors = slices.DeleteFunc(m.mirrors, func(y *Mirror) bool { return y == x })
	m.news.note(true)
	if len(m.mirrors) == 0 && m.ticking != nil {
		close(m.ticking)
		m.ticking = nil
	}
}

// tick tells mirrors the time as long as there are any. m.mu is held.
func (m *Module) tick() {
	if m.ticking != nil {
		return
	}
	stop := make(chan struct{})
	m.ticking = stop
	go func() {
		t := time.NewTicker(clock)
		defer t.Stop()
		for {
			select {
			case <-stop:
				return
			case <-t.C:
			}
			for _, x := range m.turn() {
				x.tick()
			}
		}
	}()
}
