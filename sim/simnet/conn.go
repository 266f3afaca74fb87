package simnet

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A connection is two pipes of chunks, each with the time at which it arrives.
// TCP keeps order, so a chunk that was lost holds up those behind it; what was
// sent into a cut gets through after the cut, unless its sender's process died
// meanwhile.

var errReset = errors.New("connection reset by peer")

// errRefused reads as the system's error, by which gRPC's users tell a refusal
// from silence.
var errRefused = errors.New("connect: connection refused")

type address string

func (address) Network() string  { return "sim" }
func (a address) String() string { return string(a) }

type chunk struct {
	at   time.Time
	data []byte
}

// end is one end of a connection.
type end struct {
	net        *Network
	owner      *Process
	local, far address
	machines   link // from here to there
	peer       *end

	mu     sync.Mutex
	in     []chunk // on the way here, or here
	fin    bool    // nothing comes after in
	reset  bool    // broken, whatever is in in
	closed bool    // by the owner
	read   time.Time
	note   chan struct{} // closed and made again when a field has changed
}

func (n *Network) pair(client, server *Process, at string) (*end, *end) {
	c := &end{net: n, owner: client, local: address(client.Machine), far: address(at), machines: link{client.Machine, server.Machine},
		note: make(chan struct{})}
	s := &end{net: n, owner: server, local: address(at), far: address(client.Machine), machines: link{server.Machine, client.Machine},
		note: make(chan struct{})}
	c.peer, s.peer = s, c
	n.mu.Lock()
	n.conns[c], n.conns[s] = true, true
	n.mu.Unlock()
	return c, s
}

func (e *end) signal() {
	close(e.note)
	e.note = make(chan struct{})
}

// Write implements net.Conn. The buffers of the system have no bound here.
func (e *end) Write(p []byte) (int, error) {
	if err := e.owner.Gate(nil); err != nil {
		return 0, errReset
	}
	e.mu.Lock()
	closed, reset := e.closed, e.reset
	e.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	if reset {
		// A reset is known only once it has got here, to Read as to Write.
		if e.net.Open(e.machines.to, e.machines.from) {
			return 0, errReset
		}
		return len(p), nil
	}
	delay, _ := e.net.Path(e.machines.from, e.machines.to)
	q := e.peer
	q.mu.Lock()
	defer q.mu.Unlock()
	at := time.Now().Add(delay)
	if k := len(q.in); k > 0 && at.Before(q.in[k-1].at) {
		at = q.in[k-1].at
	}
	q.in = append(q.in, chunk{at, append([]byte(nil), p...)})
	q.signal()
	return len(p), nil
}

// Read implements net.Conn.
func (e *end) Read(p []byte) (int, error) {
	for {
		e.net.mu.Lock()
		open := e.net.openLocked(e.machines.to, e.machines.from)
		healed := e.net.freed[link{e.machines.to, e.machines.from}].Add(rto)
		changed := e.net.changed
		e.net.mu.Unlock()
		e.mu.Lock()
		note, deadline := e.note, e.read
		now := time.Now()
		var next time.Time
		switch {
		case e.closed:
			e.mu.Unlock()
			return 0, net.ErrClosed
		case !deadline.IsZero() && !now.Before(deadline):
			e.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case e.reset && open:
			e.mu.Unlock()
			return 0, errReset
		case !open:
		case len(e.in) > 0 && now.Before(healed) && e.in[0].at.Before(healed.Add(-rto)):
			next = healed // sent into a cut: it is sent again
		case len(e.in) > 0 && !now.Before(e.in[0].at):
			n := copy(p, e.in[0].data)
			if e.in[0].data = e.in[0].data[n:]; len(e.in[0].data) == 0 {
				e.in = e.in[1:]
			}
			e.mu.Unlock()
			if err := e.owner.Gate(nil); err != nil {
				return 0, errReset
			}
			return n, nil
		case len(e.in) > 0:
			next = e.in[0].at
		case e.fin:
			e.mu.Unlock()
			return 0, io.EOF
		}
		e.mu.Unlock()
		if !deadline.IsZero() && (next.IsZero() || deadline.Before(next)) {
			next = deadline
		}
		await(next, note, changed)
	}
}

// await waits until a time, which may be none, or until a channel is closed.
func await(at time.Time, a, b <-chan struct{}) {
	var timer <-chan time.Time
	if !at.IsZero() {
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
	case <-a:
	case <-b:
	}
}

// Close implements net.Conn.
func (e *end) Close() error {
	e.mu.Lock()
	was := e.closed
	e.closed, e.in = true, nil
	e.signal()
	e.mu.Unlock()
	if was {
		return net.ErrClosed
	}
	e.net.mu.Lock()
	delete(e.net.conns, e)
	e.net.mu.Unlock()
	q := e.peer
	q.mu.Lock()
	q.fin = true
	q.signal()
	q.mu.Unlock()
	return nil
}

// drop breaks the connection as the death of its owner does: what the peer
// has not got yet is lost.
func (e *end) drop() {
	_ = e.Close()
	q := e.peer
	q.mu.Lock()
	q.reset, q.in = true, nil
	q.signal()
	q.mu.Unlock()
}

func (e *end) LocalAddr() net.Addr  { return e.local }
func (e *end) RemoteAddr() net.Addr { return e.far }

func (e *end) SetDeadline(t time.Time) error { return e.SetReadDeadline(t) }

func (e *end) SetReadDeadline(t time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.read = t
	e.signal()
	return nil
}

func (e *end) SetWriteDeadline(time.Time) error { return nil }

// listener is a port of a process.
type listener struct {
	net   *Network
	owner *Process
	at    string
	queue chan *end
	done  chan struct{}
	once  sync.Once
}

// Listen opens a port, at an address and port of the process's machine.
func (p *Process) Listen(at string) net.Listener {
	n := p.net
	l := &listener{net: n, owner: p, at: at, queue: make(chan *end, 256), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[at] = l
	return l
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case e := <-l.queue:
		return e, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		if l.net.listeners[l.at] == l {
			delete(l.net.listeners, l.at)
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return address(l.at) }

// Dial connects to an address and port. A machine that is there and has no such
// port refuses; one that is not reached is silent.
func (p *Process) Dial(ctx context.Context, at string) (net.Conn, error) {
	n := p.net
	machine, _, err := net.SplitHostPort(at)
	if err != nil {
		return nil, err
	}
	if err := p.Gate(ctx.Done()); err != nil {
		return nil, err
	}
	for {
		n.mu.Lock()
		there, ok := n.pathLocked(p.Machine, machine)
		back, ok2 := n.pathLocked(machine, p.Machine)
		changed := n.changed
		n.mu.Unlock()
		if ok && ok2 {
			select {
			case <-time.After(there + back):
			case <-ctx.Done():
				return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address(at), Err: errTimeout}
			}
			n.mu.Lock()
			l := n.listeners[at]
			n.mu.Unlock()
			if l == nil {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address(at), Err: errRefused}
			}
			c, s := n.pair(p, l.owner, at)
			l.queue <- s
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address(at), Err: errTimeout}
		}
	}
}

var errTimeout = errors.New("i/o timeout")
