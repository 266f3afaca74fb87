package simnet

import (
	"errors"
	"sync"
)

// ErrKilled is what the calls of a dead process return.
var ErrKilled = errors.New("the process was killed")

// Process is the life of one process: everything that real code does to the world
// outside its memory passes a gate, which is shut while the process hangs and
// breaks when it is killed. Between two gates a process that hangs goes on,
// which cannot be seen from outside; its timers run, as they do when a stopped
// process is continued.
type Process struct {
	Name, Machine string

	net *Network

	mu   sync.Mutex
	hung chan struct{} // nil: it runs; closed when it does again
	dead chan struct{} // closed when it is killed
}

// Start starts a process on a machine.
func (n *Network) Start(name, machine string) *Process {
	return &Process{Name: name, Machine: machine, net: n, dead: make(chan struct{})}
}

// Gate waits until the process runs, or until done is closed, which counts as
// passing: then a caller's own time is up.
func (p *Process) Gate(done <-chan struct{}) error {
	for {
		p.mu.Lock()
		hung := p.hung
		p.mu.Unlock()
		select {
		case <-p.dead:
			return ErrKilled
		default:
		}
		if hung == nil {
			return nil
		}
		select {
		case <-hung:
		case <-p.dead:
			return ErrKilled
		case <-done:
			return nil
		}
	}
}

// Hang stops the process.
func (p *Process) Hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hung == nil {
		p.hung = make(chan struct{})
	}
}

// Resume continues it.
func (p *Process) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hung != nil {
		close(p.hung)
		p.hung = nil
	}
}

// Kill breaks all that the process has with the world. Real code that it runs
// still has to be ended.
func (p *Process) Kill() {
	close(p.dead)
	p.net.mu.Lock()
	var ends []*end
	for e := range p.net.conns {
		if e.owner == p {
			ends = append(ends, e)
		}
	}
	var ports []*listener
	for _, l := range p.net.listeners {
		if l.owner == p {
			ports = append(ports, l)
		}
	}
	p.net.mu.Unlock()
	for _, l := range ports {
		_ = l.Close()
	}
	for _, e := range ends {
		e.drop()
	}
}

// Killed is closed when the process has been killed.
func (p *Process) Killed() <-chan struct{} { return p.dead }
