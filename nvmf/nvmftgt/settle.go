package nvmftgt

import (
	"github.com/virtual-disk-array/vda/nvme"
)

// kill gives the connection up: from now on it submits and sends nothing.
// teardown follows on the reader.
func (conn *conn) kill(why string) {
	conn.because(why)
	conn.mu.Lock()
	defer conn.mu.Unlock()
	conn.closing.Store(true)
	if !conn.shut {
		conn.nc.Shutdown()
	}
	conn.tx.cond.Broadcast()
}

// because notes why the connection ends; the first reason stays.
func (conn *conn) because(why string) {
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if conn.why == "" {
		conn.why = why
	}
}

// teardown runs when the reader has ended: it waits for what is at the
// devices, returns what the commands hold, and leaves the controller.
func (conn *conn) teardown() {
	conn.kill("ended")
	conn.hello.Stop()
	conn.rx.input.Cool()
	if conn.ctrl != nil {
		conn.ctrl.leave(conn)
	}
	var long stall
	for conn.q.inflight.Load() != 0 {
		long.wait(conn.tgt, conn.q.idle, conn.waitsFor)
	}
	conn.mu.Lock()
	if conn.tx.blocked && !conn.tx.draining { // the rest of a reply that this goroutine would have sent
		conn.tx.sending = false
	}
	for conn.tx.sending || conn.tx.draining {
		conn.tx.cond.Wait()
	}
	conn.shut = true
	for _, c := range conn.q.slots {
		if c.kept.Load() || c.state == free || c.state == dropped {
			continue
		}
		c.to(dropped)
		c.releaseLocked()
	}
	conn.q.waiting = nil
	conn.tx.out, conn.tx.snd = outQueue{}, outQueue{}
	conn.mu.Unlock()
	_ = conn.nc.Close()
	conn.rx.dropBuffer()
	t := conn.tgt
	t.mu.Lock()
	t.exit(conn)
	t.stats.completed.Add(conn.q.completed)
	t.mu.Unlock()
	if conn.sub != nil {
		conn.sub.forget(conn)
	}
	t.log.Debug("nvmf: connection ended", append(conn.attrs(), "why", conn.why)...)
	close(conn.settled)
}

// closeConns gives up the connections that match and waits until they have
// settled.
func (t *Target) closeConns(match func(*conn) bool) {
	t.mu.Lock()
	var ks []*conn
	for conn := range t.conns {
		if match(conn) {
			ks = append(ks, conn)
		}
	}
	t.mu.Unlock()
	settle(ks, "closed by the target")
}

// closeConns is the same for the subsystem's connections.
func (s *Subsystem) closeConns(match func(*conn) bool) {
	s.mu.Lock()
	var ks []*conn
	for conn := range s.conns {
		if match(conn) {
			ks = append(ks, conn)
		}
	}
	s.mu.Unlock()
	settle(ks, "closed by the target")
}

// settle gives connections up and waits for their end. All have their reason before
// the first is given up: an admin queue that ends takes the I/O queues of its
// controller along, and they would say that instead.
func settle(ks []*conn, why string) {
	for _, conn := range ks {
		conn.because(why)
	}
	for _, conn := range ks {
		conn.kill(why)
	}
	for _, conn := range ks {
		<-conn.settled
	}
}

// protocolError is a fault of the peer that ends the connection.
type protocolError struct {
	status nvme.FatalStatus
	info   uint32
	header []byte
	what   string
}

func (e *protocolError) Error() string { return e.status.String() + ": " + e.what }

// terminate tells the peer why the connection ends.
func (conn *conn) terminate(err error) {
	conn.tgt.stats.rejected.Add(1)
	conn.tgt.complain("nvmf: connection ended for a protocol error", append(conn.attrs(), "err", err)...)
	pe, ok := err.(*protocolError)
	conn.because(err.Error())
	conn.mu.Lock()
	quiet := conn.tx.sending || conn.closing.Load()
	conn.closing.Store(true)
	conn.mu.Unlock()
	if !ok || quiet {
		return
	}
	var b [nvme.TermReqMax]byte
	n := nvme.PutTermReq(b[:], nvme.PDUC2HTermReq, nvme.TermReq{Status: pe.status, Info: pe.info, Header: pe.header})
	conn.nc.HangUp(b[:n])
}
