package host

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/virtual-disk-array/vda/nvme"
)

// TestDisable: a disabled controller has no session and makes none, whatever
// it was doing, until it is enabled; Enable tells how the first attempt ended.
func TestDisable(t *testing.T) {
	t.Parallel()
	p := newPeer(t, nil)
	no := nvme.Success
	var mu sync.Mutex
	refuse := func(s nvme.Status) {
		mu.Lock()
		no = s
		mu.Unlock()
	}
	status := func(uint16) nvme.Status {
		mu.Lock()
		defer mu.Unlock()
		return no
	}
	p.refuse.Store(&status)
	c := dialPeer(t, p, func(c *Config) {
		c.Resilience = Resilience{LossTimeout: 300 * time.Millisecond, Delay: 5 * time.Millisecond}
	})
	disabled := func() {
		t.Helper()
		if err := c.Disable(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c.State() != Disabled || c.session.Load() != nil || c.MayRecover() {
			t.Fatalf("state %v, session %v, I/O waits %v", c.State(), c.session.Load() != nil, c.MayRecover())
		}
	}
	if err := c.Enable(t.Context()); !errors.Is(err, ErrNotDisabled) {
		t.Errorf("enable while enabled: %v", err)
	}
	disabled()
	if err := c.Disable(t.Context()); !errors.Is(err, ErrDisabled) {
		t.Errorf("disable twice: %v", err)
	}
	c.Reset(errors.New("test"))
	before := p.connects.Load()
	time.Sleep(400 * time.Millisecond) // longer than the loss time-out
	if n := p.connects.Load(); n != before || c.State() != Disabled {
		t.Fatalf("%d connections while disabled, state %v", n-before, c.State())
	}
	if err := c.Enable(t.Context()); err != nil || c.State() != Enabled || c.Namespace(1) == nil {
		t.Fatalf("enable: %v, state %v", err, c.State())
	}
	// While it tries in vain.
	refuse(nvme.ConnectControllerBusy)
	p.cut()
	eventually(t, "lost", func() bool { return c.State() != Enabled })
	disabled()
	if err := c.Enable(t.Context()); !errors.Is(err, ErrNoSession) {
		t.Fatalf("enable while it is refused: %v", err)
	}
	refuse(nvme.Success)
	eventually(t, "back", func() bool { return c.State() == Enabled })
	// Closed while it is disabled.
	disabled()
	c.Close()
	if err := c.Disable(t.Context()); !errors.Is(err, ErrDisabled) && !errors.Is(err, ErrClosed) {
		t.Errorf("disable after close: %v", err)
	}
	if err := c.Enable(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("enable after close: %v", err)
	}
}

// TestDisableRace turns a controller off and on while its connections are cut:
// no state is lost, and it is what it was told last.
func TestDisableRace(t *testing.T) {
	t.Parallel()
	p := newPeer(t, nil)
	c := dialPeer(t, p, func(c *Config) { c.Resilience = Resilience{LossTimeout: -1, Delay: time.Millisecond} })
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				p.cut()
			}
		}
	})
	for range 100 {
		if err := c.Disable(t.Context()); err != nil || c.State() != Disabled || c.session.Load() != nil {
			t.Fatalf("disable: %v, state %v", err, c.State())
		}
		if err := c.Enable(t.Context()); err != nil && !errors.Is(err, ErrNoSession) {
			t.Fatalf("enable: %v", err)
		}
	}
	close(stop)
	wg.Wait()
	eventually(t, "back", func() bool { return c.State() == Enabled })
}
