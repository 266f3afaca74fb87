package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/virtual-disk-array/vda/agent/plane"
	"github.com/virtual-disk-array/vda/reason"
	"github.com/virtual-disk-array/vda/spdk"
)

// probeTimeout bounds the question of a heartbeat: a data plane that takes
// longer is hung.
const probeTimeout = time.Second

// Plane is the data plane an agent drives. Its API methods may be called from
// anywhere; a call that has been sent is waited for even when its context
// ends, up to Config.CallTimeout, so that a pass never leaves a call behind
// that could overtake the next pass. What differs between data planes is
// the Driver's.
type Plane struct {
	spdk.API
	cfg    Config
	agent  string
	log    *slog.Logger
	client Client // passes
	probes asker  // heartbeats, which must not queue behind passes
	lister lister
	asking asking // of inventories by name

	together func(context.Context, ...spdk.Request) []error // see steady

	// State says which node this is; nil in tests that have no owner.
	State *State
	// Holds reports that the node has objects for which something is left to
	// do. Default: what State keeps.
	Holds   func() bool
	lock    *os.File      // of the socket; nil while not locked
	marking chan struct{} // of one: who makes the owner's mark or takes it off holds it

	// OnStart is called from Watch after the data plane was found started
	// and made ready.
	OnStart func()
	// OpenRaw connects to namespace 1 of a subsystem. Default: NVMe/TCP.
	OpenRaw func(ctx context.Context, at spdk.TransportID, subNQN, hostNQN string) (RawDisk, error)
	// Reach tries whether a data plane can be connected to. Default: NVMe/TCP.
	Reach func(ctx context.Context, at spdk.TransportID) error

	mu      sync.Mutex
	signed  holder // what the lock file says
	status  PlaneStatus
	driver  plane.Driver         // of the run driven
	driven  string               // start id
	bounded string               // start id of the run that was told how much it may copy
	ana     map[string]string    // subsystem NQN → state last set in this run
	anaAt   map[string]time.Time // when it was set
	raw     map[string]bool      // NQNs of RawDisks in use
	back    map[string]bool      // NQNs of what listens for other controllers alone
	hops    hops
	proven  map[string]spdk.Keys    // by connection: what it was told to prove itself by in this run
	pairs   map[hostOf][2]spdk.Keys // keys that a host of users' was given in this run, the newest first

	beyond  sync.WaitGroup // work that outlives the pass that began it
	changed chan struct{}  // the data plane was lost, found or restarted
}

// Client is a connection to a data plane; spdk.Client is one.
type Client interface {
	spdk.Caller
	// StartID identifies the run of the data plane, and asks nothing of it.
	StartID(ctx context.Context) (string, error)
	Close() error
}

// asker gives a Client the methods by name.
type asker struct {
	Client
	spdk.API
}

// PlaneStatus is what is known of the data plane.
type PlaneStatus struct {
	StartID string // "" before it was first reached
	Version string
	Ready   bool
	Why     string // when not Ready
	Silent  bool   // not Ready because it did not answer in time
}

// NewPlane makes the clients of an agent's ("dn" or "cn") data plane.
func NewPlane(cfg Config, agent string) (*Plane, error) {
	p := &Plane{cfg: cfg, agent: agent, log: cfg.Log, OpenRaw: openNVMe, Reach: reachTarget,
		ana: map[string]string{}, anaAt: map[string]time.Time{}, raw: map[string]bool{}, hops: hops{}, proven: map[string]spdk.Keys{},
		changed: make(chan struct{}, 1), marking: make(chan struct{}, 1)}
	connect := cfg.Connect
	if connect == nil {
		connect = func() (Client, error) {
			return spdk.New(spdk.Config{Socket: cfg.Socket, CallTimeout: cfg.CallTimeout, Log: cfg.Log})
		}
	}
	var err error
	if p.client, err = connect(); err != nil {
		return nil, err
	}
	probes, err := connect()
	if err != nil {
		return nil, err
	}
	p.probes = asker{probes, spdk.API{Caller: probes}}
	calls := &steady{c: p.client, timeout: cfg.CallTimeout, log: cfg.Log,
		closes: func(method string) bool { return p.Driver().Closes(method) },
		lists:  func(method string) bool { return p.Driver().Lists(method) }}
	p.API, p.together = spdk.API{Caller: calls}, calls.together
	p.driver = p.drive(plane.Kind{}, false)
	p.lister.list, p.asking.turns = p.list, make(chan struct{}, maxNamed)
	p.status.Why = "the data plane has not been reached yet"
	return p, nil
}

// Close ends the connections, after what passes have left behind.
func (p *Plane) Close() error {
	p.beyond.Wait()
	err := errors.Join(p.client.Close(), p.probes.Close())
	if p.lock != nil {
		err = errors.Join(err, p.lock.Close())
	}
	return err
}

// WatchMirrors waits for a change of mirrors, as spdk.API.VdaMirrorWatch does, and no
// longer than ctx: nothing is left behind that a pass would have to wait for.
func (p *Plane) WatchMirrors(ctx context.Context, changes uint64, timeout time.Duration) (*spdk.MirrorNews, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout+p.cfg.CallTimeout)
	defer cancel()
	return p.probes.VdaMirrorWatch(ctx, changes, timeout)
}

// Status returns what is known of the data plane.
func (p *Plane) Status() PlaneStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// Ready returns an error that says why passes are of no use now, or nil.
func (p *Plane) Ready() error {
	if s := p.Status(); !s.Ready {
		return errors.New(s.Why)
	}
	return nil
}

// Driver returns what this kind of data plane does in its own way. It is chosen
// once in a run of the data plane.
func (p *Plane) Driver() plane.Driver {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.driver
}

// drive makes the driver for a run of the data plane; served says that an agent
// was at work in it before.
func (p *Plane) drive(kind plane.Kind, served bool) plane.Driver {
	return kind.Driver(plane.Config{API: p.API, Served: served, ANASet: p.anaSet, Go: p.outlive, Log: p.log})
}

// outlive runs f on a goroutine that Close waits for and gives its error; a
// panic is one.
func (p *Plane) outlive(f func() error) <-chan error {
	done := make(chan error, 1)
	p.beyond.Go(func() { done <- Guard(f) })
	return done
}

// BdevLvolCreate takes the size in MiB, whatever the data plane takes.
func (p *Plane) BdevLvolCreate(ctx context.Context, c spdk.LvolCreate) (string, error) {
	return p.Driver().CreateLvol(ctx, c)
}

// LvstoreOn returns the lvstore that is open on a bdev, nil when there is none.
func (p *Plane) LvstoreOn(ctx context.Context, base string) (*spdk.Lvstore, error) {
	l, err := p.BdevLvolGetLvstores(ctx)
	for i := range l {
		if l[i].BaseBdev == base {
			return &l[i], nil
		}
	}
	return nil, err
}

// BdevNvmeDetachController returns when the connection and its bdevs have gone.
func (p *Plane) BdevNvmeDetachController(ctx context.Context, name string) error {
	err := p.Driver().Detach(ctx, name)
	if err == nil {
		p.forgetConn(ctx, name)
	}
	return err
}

// DropProxy is Driver's.
func (p *Plane) DropProxy(ctx context.Context, name string) (done bool, err error) {
	if done, err = p.Driver().DropProxy(ctx, name); done && err == nil {
		p.forgetConn(ctx, name)
	}
	return done, err
}

// Connect makes the data plane ready at the start of the agent, waiting up to
// Config.SocketWait for its socket. A data plane that only has to be started
// up is not an error.
func (p *Plane) Connect(ctx context.Context) error {
	deadline := time.Now().Add(p.cfg.SocketWait)
	for {
		err := p.checkSocket()
		if err == nil && p.lock == nil && p.cfg.Connect == nil {
			if err := p.lockSocket(); err != nil {
				return err
			}
		}
		if err == nil {
			if err = p.look(ctx); err == nil {
				return nil
			}
			if errors.Is(err, plane.ErrNotStarted) {
				p.log.Warn("data plane is not ready", "why", err)
				return nil
			}
			if p.Status().StartID != "" {
				return err // it is there, and of no use
			}
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (p *Plane) checkSocket() error {
	if p.cfg.Connect != nil {
		return nil
	}
	return checkSocket(p.cfg.Socket)
}

// Watch looks at the data plane's start id, from time to time and when the
// connection to it is lost, until ctx ends. One that hangs is asked all the
// time, so that its agent is at work as soon as it goes on.
func (p *Plane) Watch(ctx context.Context) {
	for {
		was := p.Status()
		pause := p.cfg.WatchInterval
		if was.Silent {
			pause = silentPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		case <-p.lost():
		}
		err := p.look(ctx)
		is := p.Status()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && (was.Ready || was.Why != is.Why):
			p.log.Warn("data plane is not ready", "why", err)
		case err == nil && (!was.Ready || was.StartID != is.StartID):
			p.log.Info("data plane is ready", "version", is.Version, "start_id", is.StartID)
			p.OnStart()
		}
	}
}

// silentPause is between two questions to a data plane that hangs; each waits up
// to probeTimeout for an answer.
const silentPause = 50 * time.Millisecond

// look makes a data plane that has started since the last look ready.
func (p *Plane) look(ctx context.Context) error {
	id, err := p.startID(ctx)
	if err != nil {
		was := p.Status()
		p.set(PlaneStatus{StartID: was.StartID, Version: was.Version, Why: reason.Full(err), Silent: errors.Is(err, context.DeadlineExceeded)})
		return err
	}
	if was := p.Status(); was.Ready && was.StartID == id {
		return nil
	}
	s := PlaneStatus{StartID: id}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s.Version, err = p.prepare(ctx, id)
	if err != nil {
		s.Why = reason.Full(err)
		p.set(s)
		return err
	}
	s.Ready = true
	p.set(s)
	return nil
}

func (p *Plane) set(s PlaneStatus) {
	p.mu.Lock()
	was := p.status
	p.status = s
	p.mu.Unlock()
	if was.Ready != s.Ready || was.StartID != s.StartID {
		select {
		case p.changed <- struct{}{}:
		default:
		}
	}
}

// lost returns a channel that is closed when the connection to the data plane
// ends; nil where that cannot be told.
func (p *Plane) lost() <-chan struct{} {
	if c, ok := p.probes.Client.(interface{ Lost() <-chan struct{} }); ok {
		return c.Lost()
	}
	return nil
}

// startID identifies the run of the data plane: its process and the socket it
// listens on.
func (p *Plane) startID(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	id, err := p.probes.StartID(ctx)
	if err != nil {
		return "", err
	}
	if p.cfg.Connect != nil {
		return id, nil
	}
	fi, err := os.Stat(p.cfg.Socket)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s-%x", id, fi.ModTime().UnixNano()), nil
}

// shortenKeepAlive sets the keep-alive time-out of the connections of a
// controller node's data plane that is new, for SPDK takes it before the first
// connection only. The data planes' own is 10 s.
func (p *Plane) shortenKeepAlive(ctx context.Context) {
	if p.agent != "cn" {
		return
	}
	params := map[string]any{"keep_alive_timeout_ms": cmp.Or(p.cfg.KeepAlive, p.Driver().KeepAlive()).Milliseconds()}
	if p.Driver().Authenticates() { // keys of hops cannot be guessed, so that no exponentiations are needed to hide what proves them
		params["dhchap_dhgroups"] = []string{"null"}
	}
	if err := p.probes.Call(ctx, "bdev_nvme_set_options", params, nil); err != nil {
		p.log.Warn("the data plane keeps its own keep-alive time-out for connections to disk nodes", "err", err)
	}
	for _, w := range p.Driver().Warnings() {
		p.log.Warn(w)
	}
}

// prepare checks what the data plane can do and gives it a TCP transport.
func (p *Plane) prepare(ctx context.Context, id string) (string, error) {
	v, err := p.probes.GetVersion(ctx)
	if err != nil {
		return "", err
	}
	kind, err := plane.Learn(ctx, p.probes.API, v, p.agent)
	if err != nil {
		return v.Version, err
	}
	if autoExamines(ctx, p.probes.API) {
		p.log.Warn("the data plane examines bdevs by itself; arrays of a single vd will not work: start it with --wait-for-rpc and call " +
			"bdev_set_options -d first")
	}
	transports, err := p.probes.NvmfGetTransports(ctx)
	if err != nil {
		return v.Version, err
	}
	have := false
	for _, t := range transports {
		have = have || strings.EqualFold(t.TrType, "tcp")
	}
	p.mu.Lock()
	another := p.driven != id // else it was silent for a while
	if another {
		p.driver, p.driven = p.drive(kind, have), id
		p.ana, p.anaAt = map[string]string{}, map[string]time.Time{}
	}
	p.mu.Unlock()
	if another {
		p.newHops(!have)
	}
	if !have {
		if err := p.probes.NvmfCreateTransport(ctx, p.Driver().Transport(p.cfg.Transport)); err != nil {
			return v.Version, fmt.Errorf("transport-conf: %w", err)
		}
		p.shortenKeepAlive(ctx)
	}
	if err := p.ownNow(ctx); err != nil {
		return v.Version, err
	}
	return v.Version, p.boundCopies(ctx, id)
}

// boundCopies tells a data plane that has started, or that this agent has not met, and that is its
// own, how much it may copy to mirrors' legs. One that does not take it is told again with the next look.
func (p *Plane) boundCopies(ctx context.Context, id string) error {
	p.mu.Lock()
	told := p.bounded == id
	p.mu.Unlock()
	if told || !p.Driver().Mirrors() {
		return nil
	}
	if err := p.probes.VdaMirrorSetOptions(ctx, spdk.MirrorOptions{CopyMB: p.cfg.RebuildMB}); err != nil {
		return fmt.Errorf("rebuild-mbps %d: %w", p.cfg.RebuildMB, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bounded = id
	return nil
}

// autoExamines reports that the data plane looks for lvstores on every new
// bdev by itself. On a disk node it would then find an array's lvstore on a vd
// that is the array's only one, and keep the vd from being exported. Unknown
// counts as no: old SPDKs do not say.
func autoExamines(ctx context.Context, api spdk.API) bool {
	var conf []struct {
		Method string `json:"method"`
		Params struct {
			AutoExamine bool `json:"bdev_auto_examine"`
		} `json:"params"`
	}
	params := struct {
		Name string `json:"name"`
	}{"bdev"}
	if err := api.Call(ctx, "framework_get_config", params, &conf); err != nil {
		return false
	}
	for _, c := range conf {
		if c.Method == "bdev_set_options" {
			return c.Params.AutoExamine
		}
	}
	return false
}

// Probe asks the data plane whether it is alive.
func (p *Plane) Probe(ctx context.Context) PlaneStatus {
	limit := probeTimeout
	if d, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(d)*8/10) // leave time to say so
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s := p.Status()
	id, err := p.startID(ctx)
	if err == nil {
		_, err = p.probes.GetVersion(ctx)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		s.Ready, s.Silent, s.Why = false, true, fmt.Sprintf("the data plane does not answer within %v", limit.Round(time.Millisecond))
	case err != nil:
		s.Ready, s.Silent, s.Why = false, false, reason.Full(err)
	case id != s.StartID:
		s.StartID, s.Ready, s.Silent, s.Why = id, false, false, "the data plane has restarted and is being set up"
	}
	return s
}
