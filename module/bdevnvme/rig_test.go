package bdevnvme

import (
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/module/malloc"
	"github.com/virtual-disk-array/vda/nvmf/nvmftgt"
)

const nqn = "nqn.2016-06.io.spdk:rig"

var quiet = slog.New(slog.DiscardHandler)

// rig is a target with memory devices, and a registry with a module that
// attaches to it. Both are real; between them is loopback.
type rig struct {
	testing.TB
	back, front *bdev.Registry
	tgt         *nvmftgt.Target
	sub         *nvmftgt.Subsystem
	addrs       []nvmftgt.Addr
	m           *Module
}

// newRig makes a target with n listeners and one namespace of 8 MiB.
func newRig(t testing.TB, listeners int) *rig {
	r := &rig{TB: t, back: bdev.NewRegistry(), front: bdev.NewRegistry()}
	r.tgt = nvmftgt.New(nvmftgt.Config{Registry: r.back, Log: quiet, Spin: -1})
	r.m = New(r.front, quiet)
	t.Cleanup(func() {
		r.m.Close()
		r.front.Close()
		r.tgt.Close()
		r.back.Close()
		if n := r.back.Buffers.InUse(); n != 0 {
			t.Errorf("%d buffers of the target are out after it was closed", n)
		}
	})
	r.ok(r.tgt.CreateTransport(nvmftgt.TransportOpts{Trtype: "TCP"}))
	var err error
	r.sub, err = r.tgt.CreateSubsystem(nvmftgt.SubsystemConfig{NQN: nqn, AllowAnyHost: true, ANAReporting: true})
	r.ok(err)
	r.disk("back0", 2048)
	r.export("back0", 1)
	for range listeners {
		r.listen("0")
	}
	return r
}

func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) listen(port string) {
	r.Helper()
	r.ok(r.sub.AddListener(nvmftgt.Addr{Trtype: "TCP", Adrfam: "IPv4", Traddr: "127.0.0.1", Trsvcid: port}))
	for _, l := range r.sub.Listeners() {
		known := false
		for _, a := range r.addrs {
			known = known || a == l.Addr
		}
		if !known {
			r.addrs = append(r.addrs, l.Addr)
		}
	}
}

func (r *rig) disk(name string, blocks uint64) {
	r.Helper()
	d, err := malloc.New(malloc.Config{Name: name, BlockSize: 4096, Blocks: blocks})
	r.ok(err)
	r.ok(r.back.Register(d))
}

func (r *rig) export(name string, nsid uint32) {
	r.Helper()
	_, err := r.sub.AddNamespace(nvmftgt.NamespaceConfig{NSID: nsid, Bdev: name, UUID: uuid.New(), ANAGroup: 1})
	r.ok(err)
}

func (r *rig) config(a nvmftgt.Addr) AttachConfig {
	return AttachConfig{Name: "Nv0", TrType: "tcp", AdrFam: "ipv4", Traddr: a.Traddr, Trsvcid: a.Trsvcid, SubNQN: nqn,
		Resilience: Resilience{CtrlrLossTimeoutSec: 10, ReconnectDelaySec: 1}, ConnectTimeout: 2 * time.Second}
}

// attach attaches listener i.
func (r *rig) attach(i int, set func(*AttachConfig)) []string {
	r.Helper()
	c := r.config(r.addrs[i])
	if set != nil {
		set(&c)
	}
	names, err := r.m.Attach(r.Context(), c)
	r.ok(err)
	return names
}

// open opens a bdev, and closes it when the bdev goes.
func (r *rig) open(name string) *bdev.Handle {
	r.Helper()
	opened := make(chan *bdev.Handle, 1)
	h, err := r.front.Open(name, func(k bdev.EventKind) {
		if k == bdev.Removed {
			go func() { (<-opened).Close() }()
		}
	})
	r.ok(err)
	opened <- h
	return h
}

// eventually waits until f is true.
func (r *rig) eventually(what string, f func() bool) {
	r.Helper()
	for end := time.Now().Add(2 * time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("%s: not within two minutes", what)
		}
	}
}

// ends fails the test when f hangs.
func (r *rig) ends(what string, f func()) {
	r.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		r.Fatalf("%s took longer than two minutes", what)
	}
}

// proxy is a TCP proxy that can hold traffic or cut it.
type proxy struct {
	ln net.Listener
	to string

	mu     sync.Mutex
	cond   *sync.Cond
	held   bool
	closed bool
	conns  map[net.Conn]struct{}
	wg     sync.WaitGroup
}

func newProxy(t testing.TB, to nvmftgt.Addr) *proxy {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, to: net.JoinHostPort(to.Traddr, to.Trsvcid), conns: map[net.Conn]struct{}{}}
	p.cond = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) addr() nvmftgt.Addr {
	a := p.ln.Addr().(*net.TCPAddr)
	return nvmftgt.Addr{Trtype: "TCP", Adrfam: "IPv4", Traddr: a.IP.String(), Trsvcid: strconv.Itoa(a.Port)}
}

func (p *proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		d, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = c.Close()
			continue
		}
		p.mu.Lock()
		if p.closed {
			_ = c.Close()
			_ = d.Close()
		}
		p.conns[c], p.conns[d] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.wg.Go(func() { p.pump(c, d) })
		p.wg.Go(func() { p.pump(d, c) })
	}
}

func (p *proxy) pump(from, to net.Conn) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		for p.held && !p.closed {
			p.cond.Wait()
		}
		_, open := p.conns[from]
		p.mu.Unlock()
		if err != nil || !open { // what was on the way when it was cut is lost
			break
		}
		if _, err := to.Write(b[:n]); err != nil {
			break
		}
	}
	_ = from.Close()
	_ = to.Close()
}

// hold stops all traffic, as if the cable were cut, until release.
func (p *proxy) hold(h bool) {
	p.mu.Lock()
	p.held = h
	p.mu.Unlock()
	p.cond.Broadcast()
}

// cut closes all connections; new ones work.
func (p *proxy) cut() {
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
	p.mu.Unlock()
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cond.Broadcast()
	_ = p.ln.Close()
	p.cut()
	p.wg.Wait()
}
