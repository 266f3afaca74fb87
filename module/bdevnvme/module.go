package bdevnvme

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
	"github.com/virtual-disk-array/vda/nvmf/host"
)

const cmicMultiController = nvme.CMICMultiController

// detachGrace is how long Detach lets I/O in flight finish before it ends the
// connections.
const detachGrace = 250 * time.Millisecond

// Options are bdev_nvme_set_options; they hold for later attachments.
type Options struct {
	KeepAlive  time.Duration // KATO; 0 the host's default of 10 s
	IOTimeout  time.Duration // age at which an I/O is aborted; 0 never
	Spin       time.Duration // how long a connection's reader polls before it sleeps, while it pays; default 20 µs, negative: never
	QueueDepth int           // commands in flight on an I/O queue; 0 the host's default

	Auth dhchap.Offer // hashes and groups to authenticate by; by default all

	Policy     Policy // of the bdevs of attachments that name none of their own
	Resilience        // likewise
}

// Resilience are the time-outs of a controller that has lost its connection;
// SPDK's rules say which combinations make sense.
type Resilience struct {
	CtrlrLossTimeoutSec  int32 // -1: never give the controller up; 0: no reconnects
	ReconnectDelaySec    uint32
	FastIOFailTimeoutSec uint32
}

func (r Resilience) host() host.Resilience {
	return host.Resilience{LossTimeout: time.Duration(r.CtrlrLossTimeoutSec) * time.Second,
		Delay: time.Duration(r.ReconnectDelaySec) * time.Second, FastIOFail: time.Duration(r.FastIOFailTimeoutSec) * time.Second}
}

func (r Resilience) validate() error {
	if r.CtrlrLossTimeoutSec < -1 {
		return &Error{Errno: syscall.EINVAL, Msg: "Invalid argument", Cause: fmt.Errorf("ctrlr_loss_timeout_sec %d is below -1",
			r.CtrlrLossTimeoutSec)}
	}
	if err := r.host().Check(); err != nil {
		return &Error{Errno: syscall.EINVAL, Msg: "Invalid argument", Cause: err}
	}
	return nil
}

// Module is all attached controllers of a process. Its methods are safe for
// concurrent use.
type Module struct {
	reg *bdev.Registry
	log *slog.Logger

	mu          sync.Mutex
	opts        Options
	controllers map[string]*controller
	order       []*controller // as attached
	closed      bool
}

// New makes a module that registers its bdevs in reg. log may be nil.
func New(reg *bdev.Registry, log *slog.Logger) *Module {
	if log == nil {
		log = slog.Default()
	}
	m := &Module{reg: reg, log: log, controllers: map[string]*controller{}}
	m.opts.Spin, m.opts.Auth = 20*time.Microsecond, dhchap.Defaults()
	return m
}

// SetOptions replaces the options.
func (m *Module) SetOptions(o Options) error {
	if o.QueueDepth < 0 || o.QueueDepth > 1024 {
		return refuse(syscall.EINVAL, "io_queue_requests %d is not from 0 to 1024", o.QueueDepth)
	}
	if err := o.Resilience.validate(); err != nil {
		return err
	}
	if err := o.Policy.validate(); err != nil {
		return err
	}
	if o.Auth.Hashes == nil || o.Auth.Groups == nil {
		o.Auth = dhchap.Defaults()
	}
	if o.Spin == 0 {
		o.Spin = 20 * time.Microsecond
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opts = o
	return nil
}

// Options returns the options of later attachments.
func (m *Module) Options() Options { return m.options() }

func (m *Module) options() Options {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.opts
}

func (m *Module) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

func (m *Module) find(name string) *controller {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.controllers[name]
}

// Path selects paths of a controller by what is not empty.
type Path struct {
	Traddr, Trsvcid, SubNQN, HostAddr string
}

// Detach removes a controller, or with at the paths that match it; with the
// last path go the bdevs. It returns when the bdevs are unregistered, which
// waits for their holders to close them, and all connections are closed.
// Requests that wait for a path fail at once; requests in flight get a quarter
// of a second before their connection is ended, which hosts see as a path
// error: a new primary detaches from an old one that hangs, and hosts wait. ENODEV when there is nothing to
// detach.
func (m *Module) Detach(name string, at *Path) error {
	ctrl := m.find(name)
	if ctrl == nil || len(ctrl.snapshot()) == 0 { // or its first attempt is going on
		return refuse(syscall.ENODEV, "No such device")
	}
	ctrl.turn <- struct{}{}
	m.mu.Lock()
	live := m.controllers[name] == ctrl
	m.mu.Unlock()
	if !live {
		<-ctrl.turn
		return refuse(syscall.ENODEV, "No such device")
	}
	matched := ctrl.remove(at)
	m.release(ctrl)
	if !matched {
		return refuse(syscall.ENODEV, "No such device")
	}
	return nil
}

// Close detaches everything.
func (m *Module) Close() {
	m.mu.Lock()
	m.closed = true
	var names []string
	for _, ctrl := range m.order {
		names = append(names, ctrl.name)
	}
	m.mu.Unlock()
	var wg sync.WaitGroup
	for _, n := range names {
		wg.Go(func() { _ = m.Detach(n, nil) }) // gone already is as good
	}
	wg.Wait()
}

// TransportID is SPDK's trid object.
type TransportID struct {
	TrType  string `json:"trtype"`
	AdrFam  string `json:"adrfam"`
	Traddr  string `json:"traddr"`
	Trsvcid string `json:"trsvcid"`
	SubNQN  string `json:"subnqn"`
}

// HostInfo is the host object of ControllerInfo.
type HostInfo struct {
	NQN   string `json:"nqn"`
	Addr  string `json:"addr"`
	SvcID string `json:"svcid"`
	NoSHN bool   `json:"no_shn_notification"`
}

// PathInfo is one path of a controller.
type PathInfo struct {
	State      string        `json:"state"`
	TrID       TransportID   `json:"trid"`
	Alternates []TransportID `json:"alternate_trids,omitempty"`
	CNTLID     uint16        `json:"cntlid"`
	Host       HostInfo      `json:"host"`
	Key        string        `json:"dhchap_key,omitempty"`
	CtrlrKey   string        `json:"dhchap_ctrlr_key,omitempty"`
	FailAtOnce bool          `json:"vda_fail_at_once,omitempty"`
}

// ControllerInfo is one element of bdev_nvme_get_controllers.
type ControllerInfo struct {
	Name   string     `json:"name"`
	Ctrlrs []PathInfo `json:"ctrlrs"`
}

// List describes all controllers in the order they were attached.
func (m *Module) List() []ControllerInfo {
	m.mu.Lock()
	order := append([]*controller(nil), m.order...)
	m.mu.Unlock()
	out := []ControllerInfo{}
	for _, ctrl := range order {
		if info := ctrl.info(); len(info.Ctrlrs) > 0 { // else the first attempt is still going on
			out = append(out, info)
		}
	}
	return out
}

func (ctrl *controller) info() ControllerInfo {
	info := ControllerInfo{Name: ctrl.name}
	for _, p := range ctrl.snapshot() {
		info.Ctrlrs = append(info.Ctrlrs, p.info())
	}
	return info
}

// Attachments returns what makes the controllers there are, path by path, in
// the order they were attached.
func (m *Module) Attachments() []AttachConfig {
	m.mu.Lock()
	order := append([]*controller(nil), m.order...)
	m.mu.Unlock()
	var out []AttachConfig
	for _, ctrl := range order {
		for _, p := range ctrl.snapshot() {
			c := p.cfg
			c.FailAtOnce = p.atOnce.Load()
			c.HostNQN, c.Keys = p.ctl.Config().HostNQN, *p.keys.Load()
			for _, a := range p.ctl.Addresses() { // one; with failover others to try
				c.Traddr, c.Trsvcid = a.Traddr, a.Trsvcid
				out = append(out, c)
			}
		}
	}
	return out
}

// Get describes one controller; ENODEV when there is none.
func (m *Module) Get(name string) (ControllerInfo, error) {
	if ctrl := m.find(name); ctrl != nil {
		if info := ctrl.info(); len(info.Ctrlrs) > 0 {
			return info, nil
		}
	}
	return ControllerInfo{}, refuse(syscall.ENODEV, "No such device")
}

// SetFailAtOnce sets AttachConfig.FailAtOnce of all paths of a controller, for what waits
// now, too. ENODEV when there is none.
func (m *Module) SetFailAtOnce(name string, on bool) error {
	m.mu.Lock()
	at := slices.IndexFunc(m.order, func(c *controller) bool { return c.name == name })
	if at < 0 {
		m.mu.Unlock()
		return refuse(syscall.ENODEV, "No such device")
	}
	ctrl := m.order[at]
	m.mu.Unlock()
	for _, p := range ctrl.snapshot() {
		p.atOnce.Store(on)
	}
	ctrl.wake()
	return nil
}

func (p *path) trid(a host.Address) TransportID {
	return TransportID{TrType: "TCP", AdrFam: p.cfg.AdrFam, Traddr: a.Traddr, Trsvcid: a.Trsvcid, SubNQN: p.cfg.SubNQN}
}

func (p *path) info() PathInfo {
	addrs := p.ctl.Addresses()
	i := PathInfo{State: p.ctl.State().String(), TrID: p.trid(addrs[0]), CNTLID: p.ctl.CNTLID(),
		Host: HostInfo{NQN: p.ctl.Config().HostNQN, Addr: p.cfg.HostAddr}}
	if p.deleting.Load() {
		i.State = host.Deleting.String()
	}
	keys := p.keys.Load()
	i.Key, i.CtrlrKey = keys.Name, keys.ControllerName
	i.FailAtOnce = p.atOnce.Load()
	for _, a := range addrs[1:] {
		i.Alternates = append(i.Alternates, p.trid(a))
	}
	return i
}

// Reset ends and remakes the connections of a controller, or of its path with
// the controller id, 0 for all; bdev_nvme_reset_controller. EALREADY when it is
// disabled.
func (m *Module) Reset(name string, cntlid uint16) error {
	paths, err := m.paths(name, cntlid)
	for _, p := range paths {
		if p.ctl.State() == host.Disabled {
			return &Error{Errno: syscall.EALREADY, Msg: "Operation already in progress", Cause: fmt.Errorf("%s: %w", name, host.ErrDisabled)}
		}
		p.ctl.Reset(fmt.Errorf("reset of %s was asked for", name))
	}
	return err
}

// paths finds those of a controller, or the one with the controller id unless
// that is 0; ENODEV without any.
func (m *Module) paths(name string, cntlid uint16) ([]*path, error) {
	var out []*path
	if ctrl := m.find(name); ctrl != nil {
		for _, p := range ctrl.snapshot() {
			if cntlid == 0 || p.ctl.CNTLID() == cntlid {
				out = append(out, p)
			}
		}
	}
	if len(out) == 0 {
		return nil, refuse(syscall.ENODEV, "No such device")
	}
	return out, nil
}
