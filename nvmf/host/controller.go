package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
)

// State is what a controller is doing; the names are SPDK's.
type State uint8

// The states.
const (
	Enabled          State = iota // I/O flows
	Resetting                     // the session was lost, an attempt at a new one runs
	ReconnectDelayed              // waiting for the next attempt
	Failed                        // given up without retries; Reset tries again
	Deleting                      // closed, or the loss time-out has passed, or the target said not to retry
	Disabled                      // by Disable
)

var stateNames = [...]string{"enabled", "resetting", "reconnect_is_delayed", "failed", "deleting", "disabled"}

func (s State) String() string { return stateNames[s] }

// ErrClosed is what a closed controller answers.
var ErrClosed = errors.New("controller is closed")

// Controller is a host's view of one controller of a subsystem, from Connect
// to Close, over any number of sessions. All methods may be called at once by
// many goroutines.
type Controller struct {
	cfg      Config
	session  atomic.Pointer[session] // nil unless Enabled
	state    atomic.Uint32
	fastFail atomic.Bool
	cntlid   atomic.Uint32
	data     atomic.Pointer[nvme.ControllerData]
	keys     atomic.Pointer[dhchap.Keys]
	tid      atomic.Uint32 // of the last authentication
	sequence dhchap.Sequence

	mu         sync.Mutex
	namespaces map[uint32]*Namespace
	changed    chan struct{} // closed and replaced at each change of state
	addrs      []Address     // where to connect; the first is in use
	disabled   chan struct{} // closed by Enable; nil: not disabled
	interrupt  func()        // ends the attempts to make a session
	tried      chan error    // gets the end of the first attempt after Enable; may be nil

	events chan nvme.AsyncEvent // from the sessions to run
	resets chan error
	stop   context.CancelFunc
	ctx    context.Context
	done   chan struct{}
}

// Connect makes a controller and its first session. ctx limits the attempt,
// not the controller.
func Connect(ctx context.Context, cfg Config) (*Controller, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("nvme connect: %w", err)
	}
	c := &Controller{cfg: cfg, addrs: []Address{{cfg.Traddr, cfg.Trsvcid}}, namespaces: map[uint32]*Namespace{},
		changed: make(chan struct{}), interrupt: func() {},
		events: make(chan nvme.AsyncEvent, 16), resets: make(chan error, 1), done: make(chan struct{})}
	c.keys.Store(&cfg.Keys)
	s, err := connect(ctx, c)
	if err == nil {
		err = c.adopt(ctx, s)
	}
	if err != nil {
		return nil, fmt.Errorf("nvme connect %s at %s:%s: %w", cfg.SubNQN, cfg.Traddr, cfg.Trsvcid, err)
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.session.Store(s)
	go c.run(s)
	return c, nil
}

// adopt fills the controller from a new session and starts what a session
// needs in the background. On an error the session is closed.
func (c *Controller) adopt(ctx context.Context, s *session) error {
	c.data.Store(&s.data)
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ConnectTimeout)
	defer cancel()
	err := s.listen(ctx)
	if err == nil && !s.discover {
		if _, err = s.scan(ctx); err == nil {
			_, err = s.refreshANA(ctx)
		}
	}
	if err != nil {
		s.close(err)
		return err
	}
	s.supervise()
	return nil
}

// Config returns the configuration with defaults filled in.
func (c *Controller) Config() Config { return c.cfg }

// Addresses returns where the controller connects to: the address in use or
// last tried, then those to try next.
func (c *Controller) Addresses() []Address {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.addrs)
}

// AddAddress has the controller try another address of the subsystem when
// the ones before fail.
func (c *Controller) AddAddress(a Address) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addrs = append(c.addrs, a)
}

// RemoveAddress drops an address. When it is the one in use the session is
// reset, unless it is the only one: then it stays, and false is returned.
func (c *Controller) RemoveAddress(a Address) bool {
	c.mu.Lock()
	i := slices.Index(c.addrs, a)
	if i < 0 || len(c.addrs) == 1 {
		c.mu.Unlock()
		return false
	}
	c.addrs = slices.Delete(c.addrs, i, i+1)
	c.mu.Unlock()
	if i == 0 {
		c.Reset(fmt.Errorf("address %s:%s was removed", a.Traddr, a.Trsvcid))
	}
	return true
}

// rotate has the next attempt use the next address.
func (c *Controller) rotate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addrs = append(c.addrs[1:], c.addrs[0])
}

// PollANA has the ANA states read again soon, as after a change event.
func (c *Controller) PollANA() {
	select {
	case c.events <- nvme.NoticeANA:
	default:
	}
}

// PollNamespaces has the namespaces looked at again soon, as after a change
// event.
func (c *Controller) PollNamespaces() {
	select {
	case c.events <- nvme.NoticeNamespace:
	default:
	}
}

// State returns what the controller is doing.
func (c *Controller) State() State { return State(c.state.Load()) }

// CNTLID returns the controller id of the current or last session.
func (c *Controller) CNTLID() uint16 { return uint16(c.cntlid.Load()) }

// Data returns the Identify Controller data of the current or last session.
func (c *Controller) Data() *nvme.ControllerData { return c.data.Load() }

// MayRecover reports that there is no session now, but I/O should wait for
// one: a reconnect is going on and the fast-fail time-out has not passed.
func (c *Controller) MayRecover() bool {
	switch c.State() {
	case Resetting, ReconnectDelayed:
		return c.cfg.Resilience.Delay > 0 && !c.fastFail.Load()
	}
	return false
}

// FastFailed reports that the fast-fail time-out of the current outage has
// passed.
func (c *Controller) FastFailed() bool { return c.fastFail.Load() }

// Reset ends the session, if there is one, and makes a new one. It does not
// wait.
func (c *Controller) Reset(cause error) {
	if s := c.session.Load(); s != nil {
		s.fail(cause)
		return
	}
	select {
	case c.resets <- cause:
	default:
	}
}

// Close ends the controller and returns when all its I/O has completed and
// all its connections are closed, within about a second. It must not be
// called from a callback or a completion.
func (c *Controller) Close() {
	c.stop()
	<-c.done
}

// setState changes the state and tells everyone.
func (c *Controller) setState(s State) {
	if State(c.state.Swap(uint32(s))) == s {
		return
	}
	c.announce()
}

func (c *Controller) announce() {
	c.mu.Lock()
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	if c.cfg.OnState != nil {
		c.cfg.OnState(c)
	}
}

// watch returns a channel that is closed at the next change of state.
func (c *Controller) watch() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// run is the controller's goroutine.
func (c *Controller) run(s *session) {
	defer close(c.done)
	for s != nil {
		c.serve(s)
		c.session.Store(nil)
		if c.ctx.Err() != nil {
			c.setState(Deleting)
			s.shutdown()
			s.close(ErrClosed)
			return
		}
		lost := time.Now()
		c.setState(Resetting)
		s.close(nil)
		c.cfg.Log.Warn("nvme session lost", "subnqn", c.cfg.SubNQN, "addr", c.cfg.Traddr, "port", c.cfg.Trsvcid, "err", s.cause())
		s = c.restore(lost)
	}
	c.setState(Deleting)
}

// serve handles events until the session fails or the controller is closed.
func (c *Controller) serve(s *session) {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-s.failed:
			return
		case e := <-c.events:
			if err := c.handle(s, e); err != nil && c.ctx.Err() == nil {
				s.fail(err)
				return
			}
		}
	}
}

// handle acts on an asynchronous event.
func (c *Controller) handle(s *session, e nvme.AsyncEvent) error {
	switch e {
	case nvme.NoticeNamespace:
		if _, err := s.readLog(c.ctx, nvme.LogChangedNS, nvme.IdentifyLen); err != nil {
			return err
		}
		changed, err := s.scan(c.ctx)
		if err != nil {
			return err
		}
		moved, err := s.refreshANA(c.ctx)
		if err != nil {
			return err
		}
		if changed && c.cfg.OnNamespaces != nil {
			c.cfg.OnNamespaces(c)
		}
		if moved && c.cfg.OnANA != nil {
			c.cfg.OnANA(c)
		}
	case nvme.NoticeANA:
		if _, err := s.refreshANA(c.ctx); err != nil {
			return err
		}
		if c.cfg.OnANA != nil {
			c.cfg.OnANA(c)
		}
	case nvme.NoticeDiscovery:
		// Reading any of the page clears the event.
		if _, err := s.readLog(c.ctx, nvme.LogDiscovery, 16); err != nil {
			return err
		}
		if c.cfg.OnNamespaces != nil {
			c.cfg.OnNamespaces(c)
		}
	default:
		// Errors and health: reading the page has the next one reported.
		if _, err := s.readLog(c.ctx, e.LID, 512); err != nil && !errors.As(err, new(nvme.Status)) {
			return err
		}
	}
	return nil
}
