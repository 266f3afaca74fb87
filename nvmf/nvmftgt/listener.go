package nvmftgt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/virtual-disk-array/vda/nvmf/tcp"
)

// ListenerInfo describes a listener.
type ListenerInfo struct {
	Addr      Addr
	ANAStates []ANAState // of groups 1, 2, …; nil when the subsystem does not report ANA
}

// listener is a subsystem's use of a portal.
type listener struct {
	sub      *Subsystem
	portal   *portal
	id       uint16 // port id in the discovery log
	ana      anaTable
	anaCount atomic.Uint64 // changes of this listener's ANA log
}

// portal is a listening socket; subsystems share it.
type portal struct {
	tgt   *Target
	addr  Addr
	ln    net.Listener
	users int // guarded by Target.mu
	id    uint16
	done  chan struct{}
}

// AddListener makes the subsystem reachable at a, all groups optimized. EEXIST
// when it is already, EINVAL for a bad address or without a transport,
// otherwise the socket's error.
func (s *Subsystem) AddListener(a Addr) error { return s.AddListenerState(a, ANAOptimized) }

// AddListenerState is AddListener with another state of all groups from the
// first connection on.
func (s *Subsystem) AddListenerState(a Addr, state ANAState) error {
	if state < ANAOptimized || state > ANAInaccessible || state != ANAOptimized && !s.cfg.ANAReporting {
		return fmt.Errorf("ana_state %d: must be optimized, or non_optimized or inaccessible of a subsystem with ana_reporting: %w",
			state, syscall.EINVAL)
	}
	a, err := a.Normalize()
	if err != nil {
		return err
	}
	s.mu.Lock()
	for _, l := range s.listeners {
		if l.portal.addr == a {
			s.mu.Unlock()
			return fmt.Errorf("listener %s of %s: %w", a, s.cfg.NQN, syscall.EEXIST)
		}
	}
	s.mu.Unlock()
	p, err := s.tgt.joinPortal(a)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.deleted {
		s.mu.Unlock()
		s.tgt.leavePortal(p)
		return fmt.Errorf("subsystem %s: %w", s.cfg.NQN, syscall.ENOENT)
	}
	for _, l := range s.listeners {
		if l.portal == p {
			s.mu.Unlock()
			s.tgt.leavePortal(p)
			return fmt.Errorf("listener %s of %s: %w", a, s.cfg.NQN, syscall.EEXIST)
		}
	}
	s.listeners = append(s.listeners, &listener{sub: s, portal: p, id: p.id, ana: newANATable(s.cfg.MaxNamespaces, state)})
	s.mu.Unlock()
	s.tgt.discoveryChanged()
	return nil
}

// RemoveListener closes the subsystem's connections that came over the
// listener and returns when their I/O has settled. ENOENT when there is none.
func (s *Subsystem) RemoveListener(a Addr) error {
	l, err := s.listener(a)
	if err != nil {
		return err
	}
	s.mu.Lock()
	found := false
	for i, v := range s.listeners {
		if v == l {
			s.listeners = append(s.listeners[:i:i], s.listeners[i+1:]...)
			found = true
			break
		}
	}
	s.mu.Unlock()
	if !found {
		return fmt.Errorf("listener %s of %s: %w", a, s.cfg.NQN, syscall.ENOENT)
	}
	s.closeConns(func(c *conn) bool { return c.lis == l })
	s.tgt.leavePortal(l.portal)
	s.tgt.discoveryChanged()
	return nil
}

// listener finds the listener at a.
func (s *Subsystem) listener(a Addr) (*listener, error) {
	a, err := a.Normalize()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		if l.portal.addr == a {
			return l, nil
		}
	}
	return nil, fmt.Errorf("listener %s of %s: %w", a, s.cfg.NQN, syscall.ENOENT)
}

// Listeners returns the listeners in the order of addition.
func (s *Subsystem) Listeners() []ListenerInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []ListenerInfo
	for _, l := range s.listeners {
		li := ListenerInfo{Addr: l.portal.addr}
		if s.cfg.ANAReporting {
			for g := range l.ana[1:] {
				li.ANAStates = append(li.ANAStates, ANAState(l.ana[g+1].Load()))
			}
		}
		out = append(out, li)
	}
	return out
}

// joinPortal returns the portal at a and opens it when nobody uses it yet.
func (t *Target) joinPortal(a Addr) (*portal, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.transport == nil {
		return nil, fmt.Errorf("listener %s: there is no TCP transport: %w", a, syscall.EINVAL)
	}
	if p := t.portals[a.String()]; p != nil {
		p.users++
		return p, nil
	}
	network := "tcp4"
	if a.Adrfam == "IPv6" {
		network = "tcp6" // IPV6_V6ONLY, as in SPDK: :: leaves 0.0.0.0 to another listener
	}
	ln, err := tcp.Listen(context.Background(), network, a.String())
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", a, err)
	}
	a.Trsvcid = strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	t.portalIDs++
	p := &portal{tgt: t, addr: a, ln: ln, users: 1, id: t.portalIDs, done: make(chan struct{})}
	t.portals[a.String()] = p
	go p.accept()
	return p, nil
}

// leavePortal ends one use; the last one closes the socket.
func (t *Target) leavePortal(p *portal) {
	t.mu.Lock()
	p.users--
	last := p.users == 0
	if last && t.portals[p.addr.String()] == p {
		delete(t.portals, p.addr.String())
	}
	t.mu.Unlock()
	if last {
		p.close()
		t.closeConns(func(c *conn) bool { return c.portal == p })
	}
}

func (p *portal) close() {
	_ = p.ln.Close()
	<-p.done
}

// accept hands connections to their readers until the portal is closed.
func (p *portal) accept() {
	defer close(p.done)
	for {
		nc, err := p.ln.Accept()
		switch {
		case err == nil:
			p.tgt.serve(nc.(*net.TCPConn), p)
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of descriptors or memory: the queue waits in the kernel meanwhile
			p.tgt.mu.Lock()
			p.tgt.meet("connections cannot be accepted for want of descriptors or memory", "listener", p.addr.String(), "err", err)
			p.tgt.mu.Unlock()
			time.Sleep(50 * time.Millisecond)
		}
	}
}
