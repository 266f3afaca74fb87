package nvmftgt

import (
	"github.com/virtual-disk-array/vda/nvme"
)

// kill gives the connection up: from now on it submits and sends nothing.
// teardown follows on the reader.
func (k *conn) kill(why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.why == "" {
		k.why = why
	}
	k.closing.Store(true)
	if !k.shut {
		k.nc.Shutdown()
	}
	k.tx.cond.Broadcast()
}

// teardown runs when the reader has ended: it waits for what is at the
// devices, returns what the commands hold, and leaves the controller.
func (k *conn) teardown() {
	k.kill("ended")
	k.hello.Stop()
	k.rx.input.Cool()
	if k.ctrl != nil {
		k.ctrl.leave(k)
	}
	var long stall
	for k.q.inflight.Load() != 0 {
		long.wait(k.tgt, k.q.idle, k.waitsFor)
	}
	k.mu.Lock()
	if k.tx.blocked && !k.tx.draining { // the rest of a reply that this goroutine would have sent
		k.tx.sending = false
	}
	for k.tx.sending || k.tx.draining {
		k.tx.cond.Wait()
	}
	k.shut = true
	for _, c := range k.q.slots {
		if c.kept.Load() || c.state == free || c.state == dropped {
			continue
		}
		c.to(dropped)
		c.releaseLocked()
	}
	k.q.waiting = nil
	k.tx.out, k.tx.snd = outQueue{}, outQueue{}
	k.mu.Unlock()
	_ = k.nc.Close()
	k.rx.dropBuffer()
	t := k.tgt
	t.mu.Lock()
	t.exit(k)
	t.stats.completed.Add(k.q.completed)
	t.mu.Unlock()
	if k.sub != nil {
		k.sub.forget(k)
	}
	t.log.Debug("nvmf: connection ended", append(k.attrs(), "why", k.why)...)
	close(k.settled)
}

// closeConns gives up the connections that match and waits until they have
// settled.
func (t *Target) closeConns(match func(*conn) bool) {
	t.mu.Lock()
	var ks []*conn
	for k := range t.conns {
		if match(k) {
			ks = append(ks, k)
		}
	}
	t.mu.Unlock()
	settle(ks, "closed by the target")
}

// closeConns is the same for the subsystem's connections.
func (s *Subsystem) closeConns(match func(*conn) bool) {
	s.mu.Lock()
	var ks []*conn
	for k := range s.conns {
		if match(k) {
			ks = append(ks, k)
		}
	}
	s.mu.Unlock()
	settle(ks, "closed by the target")
}

func settle(ks []*conn, why string) {
	for _, k := range ks {
		k.kill(why)
	}
	for _, k := range ks {
		<-k.settled
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
func (k *conn) terminate(err error) {
	k.tgt.stats.rejected.Add(1)
	k.tgt.complain("nvmf: connection ended for a protocol error", append(k.attrs(), "err", err)...)
	pe, ok := err.(*protocolError)
	k.mu.Lock()
	quiet := k.tx.sending || k.closing.Load()
	if k.why == "" {
		k.why = err.Error()
	}
	k.closing.Store(true)
	k.mu.Unlock()
	if !ok || quiet {
		return
	}
	var b [nvme.TermReqMax]byte
	n := nvme.PutTermReq(b[:], nvme.PDUC2HTermReq, nvme.TermReq{Status: pe.status, Info: pe.info, Header: pe.header})
	k.nc.HangUp(b[:n])
}
