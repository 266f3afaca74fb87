package bdevnvme

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

// Multipath says what a second attachment under a name means.
type Multipath string

// The modes; the empty one is MultipathMultipath.
const (
	MultipathDisable   Multipath = "disable"   // it is an error
	MultipathFailover  Multipath = "failover"  // another address of the same controller
	MultipathMultipath Multipath = "multipath" // another path, used at the same time
)

// AttachConfig are the parameters of bdev_nvme_attach_controller.
type AttachConfig struct {
	Name      string // of the controller; the prefix of its bdevs
	TrType    string // "TCP", in any case
	AdrFam    string // "IPv4" or "IPv6", in any case; found from Traddr when empty
	Traddr    string // IP address of the listener
	Trsvcid   string // port of the listener; 4420
	SubNQN    string
	HostNQN   string // this process's own when empty
	HostAddr  string // local address to connect from
	HdrDigest bool
	DatDigest bool
	Multipath Multipath

	Queues         int           // I/O queues; 0 the host's default
	ConnectTimeout time.Duration // of one attempt; 0 the host's default

	Keys Keys // what is authenticated by

	Policy Policy // of its bdevs; the first attachment's counts
	Resilience
	// FailAtOnce has I/O fail with a path status as soon as the connection is
	// lost, rather than wait for another: the user of the bdevs decides what to
	// do, as a mirror does about a leg.
	FailAtOnce bool
}

// Error is a refusal with the errno and the words that SPDK answers.
type Error struct {
	Errno syscall.Errno
	Msg   string
	Cause error // what happened, for the log; may be nil
}

func (e *Error) Error() string { return e.Msg }

// Unwrap gives the errno and the cause to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Errno}
	}
	return []error{e.Errno, e.Cause}
}

func refuse(no syscall.Errno, format string, args ...any) *Error {
	return &Error{Errno: no, Msg: fmt.Sprintf(format, args...)}
}

func (c *AttachConfig) validate() error {
	switch {
	case c.Name == "":
		return refuse(syscall.EINVAL, "name is empty; it must be the prefix of the bdevs")
	case !strings.EqualFold(c.TrType, "tcp"):
		return refuse(syscall.EINVAL, "Failed to parse trtype: %s", c.TrType)
	case c.Multipath == "":
		c.Multipath = MultipathMultipath
	}
	if !slices.Contains([]Multipath{MultipathDisable, MultipathFailover, MultipathMultipath}, c.Multipath) {
		return refuse(syscall.EINVAL, "multipath %q is not disable, failover or multipath", c.Multipath)
	}
	if c.AdrFam != "" && !strings.EqualFold(c.AdrFam, "ipv4") && !strings.EqualFold(c.AdrFam, "ipv6") {
		return refuse(syscall.EINVAL, "Failed to parse adrfam: %s", c.AdrFam)
	}
	family, at, err := vda.ParseTraddr(c.AdrFam, c.Traddr)
	if err != nil {
		return refuse(syscall.EINVAL, "%v", err)
	}
	c.AdrFam, c.Traddr = family, at
	if c.Trsvcid == "" {
		c.Trsvcid = "4420"
	}
	if err := c.Resilience.validate(); err != nil {
		return err
	}
	if err := c.Policy.validate(); err != nil {
		return err
	}
	if c.Keys.Controller != nil && c.Keys.Host == nil {
		return refuse(syscall.EINVAL, "dhchap_ctrlr_key is of no use without a dhchap_key")
	}
	if c.Queues < 0 {
		return refuse(syscall.EINVAL, "num_io_queues out of bounds, min: 1 max: 65536")
	}
	return nil
}

func (c *AttachConfig) address() host.Address {
	return host.Address{Traddr: c.Traddr, Trsvcid: c.Trsvcid}
}

// hostConfig makes the connection's configuration.
//
// Only a detach or the loss time-out ends a controller, as in SPDK: who attached
// it counts on its bdevs, and learns by its state when the target refuses it.
func (m *Module) hostConfig(c *AttachConfig) host.Config {
	o := m.options()
	return host.Config{Traddr: c.Traddr, Trsvcid: c.Trsvcid, SubNQN: c.SubNQN, HostNQN: c.HostNQN, HostTraddr: c.HostAddr,
		Keys: c.Keys.Keys, AuthOffer: o.Auth,
		HeaderDigest: c.HdrDigest, DataDigest: c.DatDigest, Queues: c.Queues, ConnectTimeout: c.ConnectTimeout,
		Resilience: c.host(), Patient: true, KeepAlive: o.KeepAlive, IOTimeout: o.IOTimeout, Spin: o.Spin, QueueDepth: o.QueueDepth, Log: m.log}
}

// Attach connects and returns the names of the bdevs that lead over the new
// path; there are none when their names or UUIDs are taken by other bdevs.
// Errors are of type *Error:
//
//	EALREADY  the name is in use, and this is no new path to it
//	EINVAL    a parameter, or a path to another subsystem than the first
//	EIO       nobody there, or not willing
func (m *Module) Attach(ctx context.Context, c AttachConfig) ([]string, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	ctrl, err := m.reserve(&c)
	if err != nil {
		return nil, err
	}
	names, err := ctrl.attach(ctx, &c)
	if m.isClosed() {
		ctrl.remove(nil)
		names, err = nil, refuse(syscall.ESHUTDOWN, "the nvme module is closed")
	}
	m.release(ctrl)
	return names, err
}

// reserve finds or makes the controller that c names and keeps others from
// changing its paths until release.
func (m *Module) reserve(c *AttachConfig) (*controller, error) {
	for {
		m.mu.Lock()
		if m.closed {
			m.mu.Unlock()
			return nil, refuse(syscall.ESHUTDOWN, "the nvme module is closed")
		}
		ctrl := m.controllers[c.Name]
		if ctrl == nil {
			ctrl = newController(m, c)
			m.controllers[c.Name] = ctrl
			m.order = append(m.order, ctrl)
			ctrl.turn <- struct{}{}
			m.mu.Unlock()
			return ctrl, nil
		}
		m.mu.Unlock()
		// What can be said without waiting for someone else's attempt.
		if c.Multipath == MultipathDisable {
			return nil, refuse(syscall.EALREADY, "A controller named %s already exists and multipath is disabled", c.Name)
		}
		ctrl.turn <- struct{}{}
		m.mu.Lock()
		live := m.controllers[c.Name] == ctrl
		m.mu.Unlock()
		if !live { // the first attempt failed, or it was detached meanwhile
			<-ctrl.turn
			continue
		}
		if err := ctrl.admits(c); err != nil {
			<-ctrl.turn
			return nil, err
		}
		return ctrl, nil
	}
}

// release ends what reserve began; a controller without paths is forgotten.
func (m *Module) release(ctrl *controller) {
	m.mu.Lock()
	if len(ctrl.snapshot()) == 0 {
		m.forget(ctrl)
	}
	m.mu.Unlock()
	<-ctrl.turn
}

// forget drops a controller; m.mu is held.
func (m *Module) forget(ctrl *controller) {
	if m.controllers[ctrl.name] == ctrl {
		delete(m.controllers, ctrl.name)
	}
	m.order = slices.DeleteFunc(m.order, func(x *controller) bool { return x == ctrl })
	ctrl.end()
}

// admits checks whether c may become another path of ctrl.
func (ctrl *controller) admits(c *AttachConfig) error {
	for _, p := range ctrl.snapshot() {
		if p.cfg.HostAddr == c.HostAddr && slices.Contains(p.ctl.Addresses(), c.address()) {
			return refuse(syscall.EALREADY, "A controller named %s already exists with the specified network path", c.Name)
		}
		if p.cfg.SubNQN != c.SubNQN {
			return refuse(syscall.EINVAL, "A controller named %s already exists, but uses a different subnqn (%s)", c.Name, p.cfg.SubNQN)
		}
		if have := p.ctl.Config().HostNQN; c.HostNQN != "" && have != c.HostNQN {
			return refuse(syscall.EINVAL, "A controller named %s already exists, but uses a different hostnqn (%s)", c.Name, have)
		}
		if p.cfg.Multipath != c.Multipath {
			return &Error{Errno: syscall.EINVAL, Msg: "Invalid argument", Cause: fmt.Errorf("the first path of %s has multipath %s",
				c.Name, p.cfg.Multipath)}
		}
	}
	return nil
}

// attach makes one path; the caller has the turn.
func (ctrl *controller) attach(ctx context.Context, c *AttachConfig) ([]string, error) {
	paths := ctrl.snapshot()
	hc := ctrl.m.hostConfig(c)
	if len(paths) > 0 {
		hc.HostNQN = paths[0].ctl.Config().HostNQN
	}
	if len(paths) > 0 && c.Multipath == MultipathFailover {
		return ctrl.addAddress(ctx, c, hc, paths[0])
	}
	hc.OnState = func(*host.Controller) { ctrl.kick() }
	hc.OnANA = func(*host.Controller) { ctrl.kick() }
	hc.OnNamespaces = func(*host.Controller) { ctrl.kick() }
	ctl, err := host.Connect(ctx, hc)
	if err != nil {
		return nil, ioError(err)
	}
	if err := ctrl.joins(ctl, paths); err != nil {
		ctl.Close()
		return nil, err
	}
	p := &path{cfg: *c, ctl: ctl}
	p.atOnce.Store(c.FailAtOnce)
	p.keys.Store(&c.Keys)
	ctrl.mu.Lock()
	ctrl.paths = append(ctrl.paths, p)
	ctrl.mu.Unlock()
	ctrl.reconcile()
	var names []string
	for _, d := range ctrl.diskList() {
		if slices.ContainsFunc(d.ioPaths(), func(io *ioPath) bool { return io.path == p }) {
			names = append(names, d.name)
		}
	}
	ctrl.start()
	return names, nil
}

// joins checks that a new path leads to what the others lead to.
func (ctrl *controller) joins(ctl *host.Controller, paths []*path) error {
	for _, p := range paths {
		a, b := ctl.Data(), p.ctl.Data()
		switch {
		case a.CMIC&cmicMultiController == 0 || b.CMIC&cmicMultiController == 0:
			return &Error{Errno: syscall.EINVAL, Msg: "Invalid argument", Cause: errors.New("the subsystem does not have several controllers")}
		case ctl.CNTLID() == p.ctl.CNTLID():
			return &Error{Errno: syscall.EINVAL, Msg: "Invalid argument", Cause: fmt.Errorf("controller id %d is on two paths", ctl.CNTLID())}
		case a.Serial != b.Serial:
			return &Error{Errno: syscall.EINVAL, Msg: "Invalid argument", Cause: fmt.Errorf("serial numbers %q and %q differ", a.Serial, b.Serial)}
		}
	}
	return nil
}

// addAddress gives the controller another address after trying it.
func (ctrl *controller) addAddress(ctx context.Context, c *AttachConfig, hc host.Config, p *path) ([]string, error) {
	hc.Queues = -1
	probe, err := host.Connect(ctx, hc)
	if err != nil {
		return nil, ioError(err)
	}
	same := probe.Data().Serial == p.ctl.Data().Serial
	probe.Close()
	if !same {
		return nil, refuse(syscall.EINVAL, "Invalid argument")
	}
	p.ctl.AddAddress(c.address())
	var names []string
	for _, d := range ctrl.diskList() {
		names = append(names, d.name)
	}
	return names, nil
}

func ioError(err error) error {
	return &Error{Errno: syscall.EIO, Msg: "Input/output error", Cause: err}
}
