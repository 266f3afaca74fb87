package nvmftgt

import (
	"time"

	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/nvme"
)

// fabrics executes a Fabrics command that needs no data, or has it.
func (conn *conn) fabrics(c *cmd) {
	b := &conn.batch
	switch t := c.sqe.FabricsType(); {
	case t == nvme.FabricsConnect:
		if conn.phase >= phaseAuth {
			c.finish(nvme.CommandSequenceError|nvme.DNR, b)
			return
		}
		s := conn.connect(c)
		if s == nvme.Success {
			conn.q.setFlow(c.sqe.Connect().Attributes&nvme.ConnectDisableFlow != 0)
			if conn.auth == nil {
				conn.established()
			} else {
				c.dw0 |= nvme.ConnectAuthRequired
				conn.challenge()
			}
		}
		c.finish(s, b)
	case t == nvme.FabricsAuthSend || t == nvme.FabricsAuthReceive:
		conn.authenticate(c)
	case conn.phase != phaseReady:
		c.finish(nvme.CommandSequenceError|nvme.DNR, b)
	case t == nvme.FabricsPropertyGet && conn.q.id == 0:
		c.finish(conn.ctrl.propertyGet(c), b)
	case t == nvme.FabricsPropertySet && conn.q.id == 0:
		c.finish(conn.ctrl.propertySet(c), b)
	case t == nvme.FabricsDisconnect && conn.q.id == 0:
		c.finish(nvme.InvalidQueueType|nvme.DNR, b)
	case t == nvme.FabricsDisconnect && c.sqe.CDW(10)&0xffff != 0: // RECFMT
		c.finish(nvme.ConnectIncompatible|nvme.DNR, b)
	case t == nvme.FabricsDisconnect:
		conn.q.farewell = c
	default:
		c.finish(nvme.InvalidOpcode|nvme.DNR, b)
	}
}

// A Connect is refused with Do Not Retry only when it would be refused at any
// time: Linux, since 6.10, then removes the controller for good, whatever its
// ctrl_loss_tmo. What is missing now may be there soon. A subsystem, a host's
// entry or a listener comes back after a restart, when the agent has put it
// back; a controller is gone because its association has ended a moment ago,
// and its id may be another host's by now; a limit may be raised again.

// malformed fails a Connect that no subsystem would take, and names the field.
func (c *cmd) malformed(offset uint16, inData bool) nvme.Status {
	return c.absentNow(offset, inData) | nvme.DNR
}

// absentNow fails a Connect that may succeed later, and names the field that
// names what is missing.
func (c *cmd) absentNow(offset uint16, inData bool) nvme.Status {
	c.dw0 = nvme.ConnectParam(offset, inData)
	return nvme.ConnectInvalidParam
}

// connectOffSQSize is where a Connect command has SQSIZE.
const connectOffSQSize = 44

// connect makes the connection a queue of a new or existing controller (base
// 2.0, section 6.3).
func (conn *conn) connect(c *cmd) nvme.Status {
	v := c.sqe.Connect()
	var d nvme.ConnectData
	status := conn.tryConnect(c, v, &d)
	if status != nvme.Success {
		conn.q.id, conn.q.size, conn.host = 0, 0, ""
		conn.tgt.complain("nvmf: connect refused", "peer", conn.peer.String(), "host", d.HostNQN, "subsystem", d.SubNQN,
			"qid", v.QID, "sqsize", v.SQSize, "cntlid", d.CNTLID, "status", status.String(), "result", c.dw0)
		return status
	}
	c.dw0 = uint32(conn.ctrl.id)
	return nvme.Success
}

func (conn *conn) tryConnect(c *cmd, v nvme.Connect, d *nvme.ConnectData) nvme.Status {
	if v.RecordFormat != 0 {
		return nvme.ConnectIncompatible | nvme.DNR
	}
	if c.n < nvme.ConnectDataLen {
		return nvme.DataSGLLengthInvalid | nvme.DNR
	}
	var err error
	*d, err = nvme.DecodeConnectData(c.iov[0])
	switch {
	case err == nil:
	case d.SubNQN == "":
		return c.malformed(nvme.ConnectOffSubNQN, true)
	case c.iov[0][nvme.ConnectOffHostNQN] != 0:
		return c.malformed(nvme.ConnectOffHostNQN, true)
	default: // no name at all: as in SPDK, such a host gets in where any may
	}
	limit := uint32(conn.opts.MaxQueueDepth)
	if v.QID == 0 {
		limit = conn.opts.MaxAQDepth
	}
	switch {
	case v.SQSize == 0:
		return c.malformed(connectOffSQSize, false)
	case uint32(v.SQSize)+1 > limit:
		return c.absentNow(connectOffSQSize, false)
	}
	s, ok := conn.tgt.Subsystem(d.SubNQN)
	switch {
	case ok:
	case conn.tgt.isRetired(d.SubNQN):
		return c.malformed(nvme.ConnectOffSubNQN, true)
	default:
		return c.absentNow(nvme.ConnectOffSubNQN, true)
	}
	conn.q.id, conn.q.size = v.QID, uint32(v.SQSize)+1
	conn.host = d.HostNQN
	if v.QID == 0 {
		return s.admitAdmin(conn, c, v, *d)
	}
	return s.admitIO(conn, c, v, *d)
}

// established gives a connected queue pair, which is authenticated where that
// was demanded, its room.
func (conn *conn) established() {
	conn.phase = phaseReady
	conn.hello.Stop()
	conn.tgt.welcome(conn)
	conn.q.growSlots(int(conn.q.size))
	conn.seen.Store(nanotime())
	conn.rx.widen()
	if conn.q.id == 0 {
		conn.tgt.stats.admin.Add(1)
		conn.tgt.log.Info("nvmf: controller created", conn.attrs()...)
	} else {
		conn.tgt.stats.io.Add(1)
	}
}

// via finds the listener over which conn came; the discovery subsystem is on
// every portal. s.mu is held.
func (s *Subsystem) via(conn *conn) *listener {
	if s.discovery {
		return &listener{sub: s, portal: conn.portal, id: conn.portal.id, ana: newANATable(0, ANAOptimized)}
	}
	for _, l := range s.listeners {
		if l.portal == conn.portal {
			return l
		}
	}
	return nil
}

// admitAdmin makes a controller for an admin connection, when its host's former
// associations have settled.
func (s *Subsystem) admitAdmin(conn *conn, c *cmd, v nvme.Connect, d nvme.ConnectData) nvme.Status {
	until := time.Now().Add(s.tgt.cfg.ReturnTime)
	var err error
	if conn.elsewhere, err = conn.placeKeys(s, d.HostNQN); err != nil {
		return nvme.ConnectControllerBusy // the host comes again
	}
	for {
		status, former := s.tryAdmin(conn, c, v, d)
		if former == nil {
			return status
		}
		// A host that has given this Connect up may have come by another since,
		// which stays.
		if !conn.await(former, until) || conn.ended() {
			return nvme.ConnectControllerBusy
		}
	}
}

// tryAdmin is admitAdmin; it does nothing and returns the connections that have
// to settle first, if there are such.
func (s *Subsystem) tryAdmin(conn *conn, c *cmd, v nvme.Connect, d nvme.ConnectData) (status nvme.Status, former []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.via(conn)
	switch {
	case s.deleted || l == nil:
		return c.absentNow(nvme.ConnectOffSubNQN, true), nil
	case !s.admits(d.HostNQN):
		return nvme.ConnectInvalidHost, nil
	case d.CNTLID != nvme.CNTLIDDynamic:
		return c.malformed(nvme.ConnectOffCNTLID, true), nil
	}
	// Until it has proven itself it could be anybody, and ends nothing that lives.
	keys := len(conn.elsewhere) > 0 || s.demands(d.HostNQN)
	if former = s.former(d.HostNQN, s.single && !keys); former != nil {
		return 0, former
	}
	id, ok := s.freeID()
	if !ok {
		s.evictUnproven()
		return nvme.ConnectControllerBusy, nil
	}
	ctrl := newController(s, l, id, conn, d, v.KeepAlive)
	ctrl.forwards.Store(s.forwards(d.HostNQN))
	s.ctrls[id] = ctrl
	s.bind(conn, ctrl, l)
	if keys {
		conn.demandAuth()
	}
	ctrl.start()
	return nvme.Success, nil
}

// admitIO adds an I/O connection to its controller.
func (s *Subsystem) admitIO(conn *conn, c *cmd, v nvme.Connect, d nvme.ConnectData) nvme.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.via(conn)
	ctrl := s.ctrls[d.CNTLID]
	switch {
	case s.discovery:
		return nvme.ConnectInvalidParam | nvme.DNR
	case s.deleted || l == nil:
		return c.absentNow(nvme.ConnectOffSubNQN, true)
	case !s.admits(d.HostNQN):
		return nvme.ConnectInvalidHost
	case ctrl == nil:
		return c.absentNow(nvme.ConnectOffCNTLID, true)
	case ctrl.host != d.HostNQN:
		return c.absentNow(nvme.ConnectOffHostNQN, true)
	case ctrl.hostID != uuid.UUID(d.HostID):
		return c.absentNow(nvme.ConnectOffHostID, true)
	case ctrl.lis != l:
		return c.absentNow(nvme.ConnectOffCNTLID, true)
	}
	keys := s.demands(d.HostNQN)
	if status := ctrl.addQueue(conn, v.QID, keys); status != nvme.Success {
		return status
	}
	s.bind(conn, ctrl, l)
	if keys {
		conn.demandAuth()
	}
	return nvme.Success
}

// bind makes conn one of the subsystem's connections; s.mu is held, so that a
// host that is removed meanwhile is either refused or cut off.
func (s *Subsystem) bind(conn *conn, ctrl *controller, l *listener) {
	conn.sub, conn.ctrl, conn.lis = s, ctrl, l
	s.conns[conn] = struct{}{}
}

// forget removes an ended connection.
func (s *Subsystem) forget(conn *conn) {
	s.mu.Lock()
	delete(s.conns, conn)
	s.mu.Unlock()
}

// freeID returns an unused controller id of the subsystem's range. It goes
// round, so that an id is not used again soon; s.mu is held.
func (s *Subsystem) freeID() (uint16, bool) {
	span := int(s.cfg.MaxCntlid) - int(s.cfg.MinCntlid) + 1
	for i := range span {
		id := s.cfg.MinCntlid + uint16((int(s.nextID)-int(s.cfg.MinCntlid)+i)%span)
		if s.ctrls[id] == nil {
			s.nextID = id + 1
			if s.nextID > s.cfg.MaxCntlid || s.nextID < s.cfg.MinCntlid {
				s.nextID = s.cfg.MinCntlid
			}
			return id, true
		}
	}
	return 0, false
}
