package host

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors of Disable and Enable.
var (
	ErrDisabled    = errors.New("controller is disabled")
	ErrNotDisabled = errors.New("controller is not disabled")
	ErrNoSession   = errors.New("the first attempt to connect failed")
)

// Disable ends the session, with what is queued on it, and lets no other be
// made until Enable: namespaces stay and I/O fails. It returns when that is so,
// and ErrDisabled when it has been before, ErrClosed when the controller is
// given up.
func (c *Controller) Disable(ctx context.Context) error {
	c.mu.Lock()
	if c.disabled != nil {
		c.mu.Unlock()
		return ErrDisabled
	}
	c.disabled = make(chan struct{})
	interrupt := c.interrupt
	c.mu.Unlock()
	interrupt() // an attempt that is under way; it looks after it has stored a session
	if s := c.session.Load(); s != nil {
		s.fail(ErrDisabled)
	}
	for {
		changed := c.watch()
		switch s := c.State(); {
		case s == Deleting:
			return ErrClosed
		case s == Disabled || !c.isDisabled(): // or enabled again meanwhile
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Enable has a disabled controller connected again and returns after the first
// attempt, with ErrNoSession when that failed: it goes on as after any loss of
// the session. ErrNotDisabled when it is not disabled.
func (c *Controller) Enable(ctx context.Context) error {
	c.mu.Lock()
	if c.disabled == nil {
		c.mu.Unlock()
		return ErrNotDisabled
	}
	tried := make(chan error, 1)
	c.tried = tried
	close(c.disabled)
	c.disabled = nil
	c.mu.Unlock()
	select {
	case err := <-tried:
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNoSession, err)
		}
		return nil
	case <-c.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Controller) isDisabled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.disabled != nil
}

// restore makes a new session after one was lost at the time given, unless the
// controller is disabled: then it waits until it is enabled. nil as of recover.
func (c *Controller) restore(lost time.Time) *session {
	for {
		rested, closed := c.rest()
		if closed {
			return nil
		}
		if rested {
			lost = time.Now()
			c.fastFail.Store(false)
		}
		life, end := context.WithCancel(c.ctx)
		c.mu.Lock()
		c.interrupt = end
		if c.disabled != nil {
			end()
		}
		c.mu.Unlock()
		s := c.recover(life, lost)
		interrupted := life.Err() != nil && c.ctx.Err() == nil
		end()
		if s != nil || !interrupted {
			return s
		}
		c.attempted(ErrDisabled)
	}
}

// rest sits out being disabled. It reports whether there was anything to sit
// out, and whether the controller was closed meanwhile.
func (c *Controller) rest() (rested, closed bool) {
	for {
		c.mu.Lock()
		enabled := c.disabled
		c.mu.Unlock()
		if enabled == nil {
			return rested, c.ctx.Err() != nil
		}
		rested = true
		c.setState(Disabled)
		select {
		case <-enabled:
		case <-c.resets: // nothing to reset
		case <-c.ctx.Done():
			return true, true
		}
	}
}

// attempted tells Enable how the first attempt has ended.
func (c *Controller) attempted(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tried != nil {
		c.tried <- err
		c.tried = nil
	}
}
