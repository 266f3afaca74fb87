package sim

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda"
	"github.com/virtual-disk-array/vda/agent"
	"github.com/virtual-disk-array/vda/agent/cn"
	"github.com/virtual-disk-array/vda/agent/dn"
	"github.com/virtual-disk-array/vda/agent/planetest"
	"github.com/virtual-disk-array/vda/member"
	"github.com/virtual-disk-array/vda/monitor"
	"github.com/virtual-disk-array/vda/pki"
	"github.com/virtual-disk-array/vda/portal"
	"github.com/virtual-disk-array/vda/rpc"
	"github.com/virtual-disk-array/vda/sim/simnet"
	"github.com/virtual-disk-array/vda/spdk"
	"github.com/virtual-disk-array/vda/syncer"
)

// daemon is a program on a machine, over all its lives.
type daemon struct {
	name, machine string
	net           *simnet.Network
	// begin starts the real code for a life; end returns when nothing of it
	// runs any more. The life is over by then for all the world.
	begin func(p *simnet.Process) (end func(), err error)
	// who it is to the cluster, as vda_db has it, where its identity is, and the token that it is started with; "" for
	// a data plane, and no token for a portal.
	who, dir, token string
	revoking        atomic.Bool // its certificate was revoked in this run
	// hung, when not nil, is told that the program hangs or runs on.
	hung func(bool)

	mu    sync.Mutex
	order uint64 // counts calls of start and kill; the last one holds
	up    bool   // which that was
	life  *simnet.Process
	end   func()
	ended chan struct{} // of the last life
}

// start begins a life, and tries again each second while that fails.
func (d *daemon) start() {
	d.mu.Lock()
	if d.up {
		d.mu.Unlock()
		return
	}
	d.order++
	d.up = true
	order := d.order
	d.mu.Unlock()
	for !d.try(order) {
		time.Sleep(time.Second)
	}
}

// try begins a life, and reports whether there is nothing left to try.
func (d *daemon) try(order uint64) bool {
	d.mu.Lock()
	before := d.ended
	d.mu.Unlock()
	if before != nil {
		<-before
	}
	if !d.holds(order) {
		return true
	}
	p := d.net.Start(d.name, d.machine)
	end, err := d.begin(p)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil && d.order == order {
		d.life, d.end, d.ended = p, end, make(chan struct{})
		return true
	}
	p.Kill()
	if err == nil {
		go end()
	}
	return d.order != order
}

func (d *daemon) holds(order uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.order == order
}

// kill ends the life at once, as kill -9 does.
func (d *daemon) kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.order++
	d.up = false
	if d.life == nil {
		return
	}
	d.life.Kill()
	end, ended := d.end, d.ended
	d.life = nil
	go func() {
		end()
		close(ended)
	}()
}

// wait returns when nothing of a killed daemon runs any more.
func (d *daemon) wait() {
	d.mu.Lock()
	ended := d.ended
	d.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

func (d *daemon) hang(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.life == nil {
		return
	}
	if on {
		d.life.Hang()
	} else {
		d.life.Resume()
	}
	if d.hung != nil {
		d.hung(on)
	}
}

// pool reaches agents over the network of the simulation.
func (s *sim) pool(p *simnet.Process, id *pki.Identity) *syncer.Pool {
	cfg := s.dialing(p)
	cfg.Identity = id
	return syncer.NewPool(cfg)
}

// dialing is how a process reaches others.
func (s *sim) dialing(p *simnet.Process) rpc.DialConfig { return rpc.DialConfig{Connect: connect(p)} }

func connect(p *simnet.Process) func(ctx context.Context, at string) (net.Conn, error) {
	return func(ctx context.Context, at string) (net.Conn, error) { return p.Dial(ctx, at) }
}

func (s *sim) portal(machine string) *daemon {
	d := &daemon{name: "portal", machine: machine, net: s.net, dir: filepath.Join(s.dir, "portal")}
	d.begin = func(p *simnet.Process) (func(), error) {
		db, log, lis := &procStore{s.db, p}, s.log.of(p), p.Listen(portalAddress)
		ctx, cancel := context.WithCancel(context.Background())
		id, ca, err := portal.Main{CADir: s.caDir(), Member: member.Flags{Dir: d.dir}}.Identity(ctx, db, lis.Addr(), log)
		if err != nil {
			cancel()
			return nil, err
		}
		pool := s.pool(p, id)
		sy, err := syncer.New(syncer.Config{Store: db, Dial: pool, Log: log})
		if err != nil {
			cancel()
			return nil, err
		}
		srv, err := portal.New(portal.Config{Store: db, Syncer: sy, Failover: sy, Identity: id, CA: ca, Log: log})
		if err != nil {
			cancel()
			return nil, err
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = syncer.Guard(ctx, db, id, ca, log, func(ctx context.Context) error { return srv.Serve(ctx, lis) })
		}()
		return func() {
			_ = pool.Close()
			cancel()
			<-served
		}, nil
	}
	return d
}

func (s *sim) monitor(i int, machine string) *daemon {
	at, name := machine+":9620", fmt.Sprint("monitor", i)
	d := &daemon{name: name, machine: machine, net: s.net, who: "monitor/" + at, dir: filepath.Join(s.dir, name)}
	d.begin = func(p *simnet.Process) (func(), error) {
		db, log := &procStore{s.db, p}, s.log.of(p)
		ctx, cancel := context.WithCancel(context.Background())
		id, err := s.member(d, p).Open(ctx, pki.Monitor, log)
		if err == nil {
			err = syncer.Secure(ctx, db, id)
		}
		if err != nil {
			cancel()
			return nil, err
		}
		pool := s.pool(p, id)
		cfg := monitor.Config{Store: db, Dial: pool, Identity: id, Name: at, Log: log}
		if s.cfg.story != nil {
			cfg.Timing.ReplaceAfter = s.cfg.story.replaceAfter
		}
		m, err := monitor.New(cfg)
		if err != nil {
			cancel()
			return nil, err
		}
		lis := p.Listen(at)
		var wg sync.WaitGroup
		wg.Go(func() { m.Run(ctx) })
		wg.Go(func() {
			_ = syncer.Guard(ctx, db, id, nil, log, func(ctx context.Context) error { return m.Serve(ctx, lis) })
		})
		return func() {
			_ = pool.Close()
			cancel()
			wg.Wait()
		}, nil
	}
	return d
}

// plane is a data plane as a daemon.
func (s *sim) plane(name, machine string) (*daemon, *planetest.Plane) {
	m := s.planes.Place(machine, s.swaps)
	d := &daemon{name: name + ".data-plane", machine: machine, net: s.net, hung: m.Hang}
	d.begin = func(p *simnet.Process) (func(), error) {
		m.Boot()
		// What the data plane sends goes through the model, not through p.
		go func() {
			<-p.Killed()
			m.Kill()
		}()
		return func() {}, nil
	}
	return d, m
}

// ports of the agents and of the data planes.
const (
	dnPort, dnSvc = "9720", "4420"
	cnPort, cnSvc = "9820", "4430"
)

func (s *sim) dnAgent(name, machine string, m *planetest.Plane) *daemon {
	return s.agent(name, machine+":"+dnPort, dnSvc, m, dn.App)
}

func (s *sim) cnAgent(name, machine string, m *planetest.Plane) *daemon {
	return s.agent(name, machine+":"+cnPort, cnSvc, m, cn.App)
}

func (s *sim) agent(name, at, svc string, m *planetest.Plane, app agent.App) *daemon {
	machine, _, _ := net.SplitHostPort(at)
	state := filepath.Join(s.dir, name)
	d := &daemon{name: name + ".agent", machine: machine, net: s.net, who: app.Kind + "/" + at, dir: filepath.Join(state, "tls")}
	d.begin = func(p *simnet.Process) (func(), error) {
		ready, ended := make(chan string, 1), make(chan error, 1)
		a := agent.Main{App: app, Ready: ready, Lis: p.Listen(at), Config: agent.Config{
			Socket: "the model's", StateDir: state, Log: s.log.of(p), Member: s.member(d, p),
			Address: vda.Listener{TrType: "tcp", TrAddr: machine, AdrFam: "ipv4", TrSvcID: svc},
			Connect: func() (agent.Client, error) { return gated{m.Direct(), p}, nil },
		}, Prepare: func(n *agent.Node) {
			n.Disks, n.Plane.OpenRaw, n.Plane.Reach = s.planes.Machine(), s.planes.OpenRaw, m.Reach
		}}
		if s.cfg.NoRoles {
			a.Authorize = func(context.Context, rpc.Call) error { return nil }
		}
		ctx, cancel := context.WithCancel(context.Background())
		go func() { ended <- a.Run(ctx) }()
		select {
		case <-ready:
			return func() { cancel(); <-ended }, nil
		case err := <-ended:
			cancel()
			return nil, err
		}
	}
	return d
}

// gated is an agent's client of its data plane. The two share a machine, so
// no network fault parts them.
type gated struct {
	agent.Client
	p *simnet.Process
}

func (g gated) Call(ctx context.Context, method string, params, result any) error {
	if err := g.p.Gate(ctx.Done()); err != nil {
		return spdk.ErrClosed
	}
	err := g.Client.Call(ctx, method, params, result)
	if dead := g.p.Gate(nil); dead != nil {
		return spdk.ErrClosed
	}
	return err
}

func (g gated) StartID(ctx context.Context) (string, error) {
	if err := g.p.Gate(ctx.Done()); err != nil {
		return "", spdk.ErrClosed
	}
	return g.Client.StartID(ctx)
}
