package nvmftgt

import (
	"github.com/google/uuid"

	"github.com/virtual-disk-array/vda/nvme"
)

// fabrics executes a Fabrics command that needs no data, or has it.
func (k *conn) fabrics(c *cmd) {
	b := &k.batch
	switch t := c.sqe.FabricsType(); {
	case t == nvme.FabricsConnect:
		if k.phase == phaseReady {
			c.finish(nvme.CommandSequenceError|nvme.DNR, b)
			return
		}
		s := k.connect(c)
		if s == nvme.Success {
			k.established()
			k.q.setFlow(c.sqe.Connect().Attributes&nvme.ConnectDisableFlow != 0)
		}
		c.finish(s, b)
	case k.phase != phaseReady:
		c.finish(nvme.CommandSequenceError|nvme.DNR, b)
	case t == nvme.FabricsPropertyGet && k.q.id == 0:
		c.finish(k.ctrl.propertyGet(c), b)
	case t == nvme.FabricsPropertySet && k.q.id == 0:
		c.finish(k.ctrl.propertySet(c), b)
	case t == nvme.FabricsDisconnect && k.q.id == 0:
		c.finish(nvme.InvalidQueueType|nvme.DNR, b)
	case t == nvme.FabricsDisconnect && c.sqe.CDW(10)&0xffff != 0: // RECFMT
		c.finish(nvme.ConnectIncompatible|nvme.DNR, b)
	case t == nvme.FabricsDisconnect:
		k.q.farewell = c
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
func (k *conn) connect(c *cmd) nvme.Status {
	v := c.sqe.Connect()
	var d nvme.ConnectData
	status := k.tryConnect(c, v, &d)
	if status != nvme.Success {
		k.q.id, k.q.size, k.host = 0, 0, ""
		k.tgt.complain("nvmf: connect refused", "peer", k.peer.String(), "host", d.HostNQN, "subsystem", d.SubNQN,
			"qid", v.QID, "sqsize", v.SQSize, "cntlid", d.CNTLID, "status", status.String(), "result", c.dw0)
		return status
	}
	c.dw0 = uint32(k.ctrl.id)
	return nvme.Success
}

func (k *conn) tryConnect(c *cmd, v nvme.Connect, d *nvme.ConnectData) nvme.Status {
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
	limit := uint32(k.opts.MaxQueueDepth)
	if v.QID == 0 {
		limit = k.opts.MaxAQDepth
	}
	switch {
	case v.SQSize == 0:
		return c.malformed(connectOffSQSize, false)
	case uint32(v.SQSize)+1 > limit:
		return c.absentNow(connectOffSQSize, false)
	}
	s, ok := k.tgt.Subsystem(d.SubNQN)
	switch {
	case ok:
	case k.tgt.isRetired(d.SubNQN):
		return c.malformed(nvme.ConnectOffSubNQN, true)
	default:
		return c.absentNow(nvme.ConnectOffSubNQN, true)
	}
	k.q.id, k.q.size = v.QID, uint32(v.SQSize)+1
	k.host = d.HostNQN
	if v.QID == 0 {
		return s.admitAdmin(k, c, v, *d)
	}
	return s.admitIO(k, c, v, *d)
}

// established gives a connected queue pair its room.
func (k *conn) established() {
	k.phase = phaseReady
	k.hello.Stop()
	k.tgt.welcome(k)
	k.q.growSlots(int(k.q.size))
	k.seen.Store(nanotime())
	k.rx.widen()
	if k.q.id == 0 {
		k.tgt.stats.admin.Add(1)
		k.tgt.log.Info("nvmf: controller created", k.attrs()...)
	} else {
		k.tgt.stats.io.Add(1)
	}
}

// via finds the listener over which k came; the discovery subsystem is on
// every portal. s.mu is held.
func (s *Subsystem) via(k *conn) *listener {
	if s.discovery {
		return &listener{sub: s, portal: k.portal, id: k.portal.id, ana: newANATable(0, ANAOptimized)}
	}
	for _, l := range s.listeners {
		if l.portal == k.portal {
			return l
		}
	}
	return nil
}

// admitAdmin makes a controller for an admin connection.
func (s *Subsystem) admitAdmin(k *conn, c *cmd, v nvme.Connect, d nvme.ConnectData) nvme.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.via(k)
	switch {
	case s.deleted || l == nil:
		return c.absentNow(nvme.ConnectOffSubNQN, true)
	case !s.admits(d.HostNQN):
		return nvme.ConnectInvalidHost
	case d.CNTLID != nvme.CNTLIDDynamic:
		return c.malformed(nvme.ConnectOffCNTLID, true)
	}
	id, ok := s.freeID()
	if !ok {
		return nvme.ConnectControllerBusy
	}
	ctrl := newController(s, l, id, k, d, v.KeepAlive)
	s.ctrls[id] = ctrl
	s.bind(k, ctrl, l)
	ctrl.start()
	return nvme.Success
}

// admitIO adds an I/O connection to its controller.
func (s *Subsystem) admitIO(k *conn, c *cmd, v nvme.Connect, d nvme.ConnectData) nvme.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.via(k)
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
	if status := ctrl.addQueue(k, v.QID); status != nvme.Success {
		return status
	}
	s.bind(k, ctrl, l)
	return nvme.Success
}

// bind makes k one of the subsystem's connections; s.mu is held, so that a
// host that is removed meanwhile is either refused or cut off.
func (s *Subsystem) bind(k *conn, ctrl *controller, l *listener) {
	k.sub, k.ctrl, k.lis = s, ctrl, l
	s.conns[k] = struct{}{}
}

// forget removes an ended connection.
func (s *Subsystem) forget(k *conn) {
	s.mu.Lock()
	delete(s.conns, k)
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
