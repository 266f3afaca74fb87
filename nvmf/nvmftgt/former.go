package nvmftgt

import (
	"slices"
	"time"

	"github.com/virtual-disk-array/vda/nvme"
)

// A host that comes back. What it had sent before its connections broke may
// still be at a device, and the host sends it again, and other data to the same
// blocks after that. So its Connect is answered when all of its former
// association has settled, as RemoveHost's caller is, or with Controller Busy
// after Config.ReturnTime: hosts try again.
//
// A host may have several associations with a subsystem that are all alive, by
// several paths or (Linux: nvme connect -D) by the same. A former one is told
// from a living one by its end: the connection has been given up, for whatever
// reason; its admin connection has; or the peer has closed it, which the socket
// knows when commands in front of the end are still unread. Where only one is
// wanted (SetSingleAssociation) every older one is a former one, also one whose
// end the network has swallowed.

// former returns the connections of a host's former associations; s.mu is held.
func (s *Subsystem) former(host string, single bool) (ks []*conn) {
	if s.discovery || host == "" {
		return nil
	}
	for k := range s.conns {
		if k.host == host && (single || k.over()) {
			ks = append(ks, k)
		}
	}
	return ks
}

// over reports that the association which conn belongs to, or conn alone, has
// ended.
func (conn *conn) over() bool {
	if conn.ended() || conn.ctrl.admin.ended() {
		return true
	}
	conn.ctrl.mu.Lock()
	defer conn.ctrl.mu.Unlock()
	return conn.ctrl.gone
}

// ended reports that the connection has been given up, or closed by its peer.
func (conn *conn) ended() bool {
	if conn.closing.Load() {
		return true
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	return conn.shut || conn.nc.Ended()
}

// awaitTick is how often one that waits looks whether it is still waited for.
const awaitTick = 20 * time.Millisecond

// await gives up connections and returns when they have settled; false when
// conn, on whose behalf that is, has ended, or time is up. It runs on conn's
// reader.
func (conn *conn) await(ks []*conn, until time.Time) bool {
	for _, k := range ks {
		k.kill("its host has connected again")
	}
	tick := time.NewTicker(awaitTick)
	defer tick.Stop()
	for _, k := range ks {
		for settled := false; !settled; {
			select {
			case <-k.settled:
				settled = true
			case <-tick.C:
				if conn.ended() {
					return false
				}
				if !time.Now().Before(until) {
					conn.tgt.complain("nvmf: a host comes back, and its former connection still waits for its commands", k.waitsFor()...)
					return false
				}
			}
		}
	}
	return true
}

// awaitFormer is called before the controller is enabled: the end of a former
// association may have come after the Connect.
func (c *controller) awaitFormer() nvme.Status {
	until := time.Now().Add(c.sub.tgt.cfg.ReturnTime)
	for {
		c.sub.mu.Lock()
		ks := c.sub.former(c.host, false)
		c.sub.mu.Unlock()
		ks = slices.DeleteFunc(ks, func(k *conn) bool { return k.ctrl == c })
		if len(ks) == 0 {
			return nvme.Success
		}
		if !c.admin.await(ks, until) {
			return nvme.CommandSequenceError
		}
	}
}

// succeedFormer is called when the controller's host has authenticated: what
// tryAdmin does for others it does now.
func (c *controller) succeedFormer() nvme.Status {
	until := time.Now().Add(c.sub.tgt.cfg.ReturnTime)
	for {
		c.sub.mu.Lock()
		ks := c.sub.former(c.host, c.sub.single)
		c.sub.mu.Unlock()
		ks = slices.DeleteFunc(ks, func(k *conn) bool { return k.ctrl == c })
		if len(ks) == 0 {
			return nvme.Success
		}
		if !c.admin.await(ks, until) || c.admin.ended() {
			return nvme.ConnectControllerBusy
		}
	}
}

// SetSingleAssociation says whether a host has one association with the
// subsystem at most, so that the one before ends when it connects again. What a
// host has now stays. Namespaces of such a subsystem say in Identify which epoch
// they are in, see nvme.NamespaceData.
func (s *Subsystem) SetSingleAssociation(single bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.single = single
}

// SingleAssociation is what SetSingleAssociation has set.
func (s *Subsystem) SingleAssociation() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.single
}
