package sim

import (
	"errors"
	"sync"
)

// errKilled is what the calls of a dead process return.
var errKilled = errors.New("the process was killed")

// proc is the life of one process: everything that real code does to the world
// outside its memory passes a gate, which is shut while the process hangs and
// breaks when it is killed. Between two gates a process that hangs goes on,
// which can't be seen from outside; its timers run, as they do when a stopped
// process is continued.
type proc struct {
	name    string
	machine string
	net     *network

	mu   sync.Mutex
	hung chan struct{} // nil: it runs; closed when it does again
	dead chan struct{} // closed when it is killed
}

func newProc(n *network, name, machine string) *proc {
	return &proc{name: name, machine: machine, net: n, dead: make(chan struct{})}
}

// gate waits until the process runs, or until done is closed, which counts as
// passing: then a caller's own time is up.
func (p *proc) gate(done <-chan struct{}) error {
	for {
		p.mu.Lock()
		hung := p.hung
		p.mu.Unlock()
		select {
		case <-p.dead:
			return errKilled
		default:
		}
		if hung == nil {
			return nil
		}
		select {
		case <-hung:
		case <-p.dead:
			return errKilled
		case <-done:
			return nil
		}
	}
}

// hang stops the process; resume continues it.
func (p *proc) hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hung == nil {
		p.hung = make(chan struct{})
	}
}

func (p *proc) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hung != nil {
		close(p.hung)
		p.hung = nil
	}
}

// kill breaks all that the process has with the world. Real code that it runs
// still has to be ended.
func (p *proc) kill() {
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
