package nvmftgt

import (
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/virtual-disk-array/vda/nvme"
	"github.com/virtual-disk-array/vda/nvmf/dhchap"
)

// Authentication. A host with keys has to prove on every queue that it knows
// them (base 2.0, section 8.13): Connect is answered with the demand for it, and
// until it is done the queue takes Authentication Send and Receive alone, holds
// no more than any guest (admission.go), is no queue of its controller, and ends
// no other association. What the messages say is package dhchap's.
//
// A host that fails gets the message that says so, and the connection ends a
// moment later; the status of the commands is success. Linux gives a controller
// up for good when its key is refused; so keys come with AddHost, in one step,
// and a host that is known but has no keys yet cannot be refused for that.

// authenticator is what a target's authentications share.
type authenticator struct {
	offer    atomic.Pointer[dhchap.Offer]
	sequence dhchap.Sequence
	turns    chan struct{} // of those that compute with a Diffie-Hellman group
}

func (a *authenticator) init() {
	o := dhchap.Defaults()
	a.offer.Store(&o)
	a.turns = make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1)) // the rest is for I/O
}

// SetAuthOffer says which hashes and groups are allowed from now on, in the
// order of preference.
func (t *Target) SetAuthOffer(o dhchap.Offer) { t.auth.offer.Store(&o) }

// AuthOffer is what SetAuthOffer has set; at first dhchap.Defaults.
func (t *Target) AuthOffer() dhchap.Offer { return *t.auth.offer.Load() }

// turn waits until conn may compute; false: it has ended meanwhile.
func (a *authenticator) turn(conn *conn) bool {
	tick := time.NewTicker(awaitTick)
	defer tick.Stop()
	for {
		select {
		case a.turns <- struct{}{}:
			return true
		case <-tick.C:
			if conn.ended() {
				return false
			}
		}
	}
}

// demandAuth has the host authenticate before anything else. sub is set.
func (conn *conn) demandAuth() {
	conn.auth = conn.newAuth()
	conn.unproven.Store(true)
}

func (conn *conn) newAuth() *dhchap.Controller {
	host, sub := conn.host, conn.sub
	return dhchap.NewController(dhchap.ControllerConfig{HostNQN: host, SubNQN: sub.cfg.NQN, Offer: conn.tgt.AuthOffer(),
		Keys: func() []dhchap.Keys { return append(sub.validKeys(host), conn.elsewhere...) }, Sequence: &conn.tgt.auth.sequence})
}

// challenge begins the time in which the host has to authenticate.
func (conn *conn) challenge() {
	conn.phase = phaseAuth
	conn.authTimer(conn.tgt.cfg.AuthTime, "not authenticated in time")
}

// authenticates reports whether the queue takes Authentication Send and Receive:
// those of a host without keys do not.
func (conn *conn) authenticates() bool {
	if conn.auth != nil || conn.sub == nil {
		return conn.auth != nil
	}
	conn.sub.mu.Lock()
	defer conn.sub.mu.Unlock()
	return conn.sub.demands(conn.host)
}

// authTimer ends the connection after d.
func (conn *conn) authTimer(d time.Duration, why string) {
	conn.hello.Stop()
	conn.hello = time.AfterFunc(d, func() { conn.unproved(why) })
}

// unproved ends a connection that is not authenticated, and with it its
// association, if it was once.
func (conn *conn) unproved(why string) {
	conn.kill(why)
	if !conn.unproven.Load() {
		conn.ctrl.admin.kill(why)
		conn.ctrl.killIO(why)
	}
}

// refusedGrace is how long a host may take to read why it was refused.
const refusedGrace = time.Second

// authenticate executes Authentication Send and Receive (base 2.0, sections 6.1
// and 6.2), on the reader.
func (conn *conn) authenticate(c *cmd) {
	b := &conn.batch
	v, send := c.sqe.Auth(), c.sqe.FabricsType() == nvme.FabricsAuthSend
	if !conn.authenticates() {
		c.finish(nvme.InvalidOpcode|nvme.DNR, b)
		return
	}
	if v.Protocol != nvme.AuthProtocol || v.Specific != nvme.AuthSpecific || v.Length != c.sqe.SGL().Length {
		c.finish(nvme.InvalidField|nvme.DNR, b)
		return
	}
	if conn.auth == nil { // the queue is ready, and the host does it again
		conn.auth = conn.newAuth()
		conn.authTimer(conn.tgt.cfg.AuthTime, "not authenticated again in time")
	}
	a := conn.auth
	if a.Heavy() {
		if !conn.tgt.auth.turn(conn) {
			c.finish(nvme.CommandSequenceError, b)
			return
		}
		defer func() { <-conn.tgt.auth.turns }()
	}
	var msg []byte
	if send {
		a.Receive(c.gathered())
	} else {
		var err error
		if msg, err = a.Answer(int(v.Length)); errors.Is(err, dhchap.ErrRoom) {
			c.finish(nvme.InvalidField|nvme.DNR, b)
			return
		}
	}
	switch a.State() {
	case dhchap.Completed:
		if s := conn.proven(); s != nvme.Success {
			c.finish(s, b)
			return
		}
	case dhchap.Refused:
		conn.refused(a.Err())
	}
	if send {
		c.finish(nvme.Success, b)
		return
	}
	c.send(msg)
}

// proven is called when the host has authenticated: the queue, if it was not
// one yet, becomes one of its controller.
func (conn *conn) proven() nvme.Status {
	conn.auth = nil
	conn.hello.Stop()
	conn.proved.Store(true)
	if !conn.unproven.Load() {
		return nvme.Success
	}
	s := nvme.Success
	if conn.q.id == 0 {
		s = conn.ctrl.succeedFormer()
	} else {
		s = conn.ctrl.addQueue(conn, conn.q.id, false)
	}
	if s != nvme.Success { // the host makes another association
		conn.authTimer(refusedGrace, "the association did not come about")
		return s
	}
	conn.unproven.Store(false)
	conn.established()
	return nvme.Success
}

// refused ends the connection, when the host has read why.
func (conn *conn) refused(err error) {
	conn.tgt.stats.unauthentic.Add(1)
	conn.tgt.complain("nvmf: authentication failed", append(conn.attrs(), "err", err)...)
	conn.authTimer(refusedGrace, err.Error())
}

// gathered copies the data that came with a command.
func (c *cmd) gathered() []byte {
	left := int(c.sqe.SGL().Length)
	out := make([]byte, 0, left)
	for _, p := range c.iov {
		p = p[:min(len(p), left-len(out))]
		out = append(out, p...)
	}
	return out
}

// evictUnproven gives up one of the connections that keep a controller id and
// have had their time to authenticate; s.mu is held.
func (s *Subsystem) evictUnproven() {
	for conn := range s.conns {
		if conn.q.id == 0 && conn.unproven.Load() && time.Since(conn.came) >= guestTime {
			go conn.kill("its controller id was needed")
			return
		}
	}
}
