package nvmftgt

import (
	"github.com/virtual-disk-array/vda/nvme"
)

// admin executes a command of the admin queue, or a Fabrics command, whose
// data is there. c.iov is set when there is data.
func (conn *conn) admin(c *cmd) {
	op := c.sqe.Opcode()
	if op == nvme.OpFabrics {
		conn.fabrics(c)
		return
	}
	b := &conn.batch
	ctrl := conn.ctrl
	if !ctrl.enabled() {
		c.finish(nvme.CommandSequenceError|nvme.DNR, b)
		return
	}
	switch op {
	case nvme.AdminIdentify:
		conn.identify(c)
	case nvme.AdminGetLogPage:
		conn.logPage(c)
	case nvme.AdminGetFeatures:
		ctrl.getFeatures(c)
	case nvme.AdminSetFeatures:
		c.finish(ctrl.setFeatures(c), b)
	case nvme.AdminAsyncEvent:
		ctrl.awaitEvent(c)
	case nvme.AdminKeepAlive:
		c.finish(nvme.Success, b)
	case nvme.AdminAbort:
		ctrl.abort(c)
	default:
		c.finish(nvme.InvalidOpcode|nvme.DNR, b)
	}
}

func (c *controller) enabled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.csts&nvme.CSTSReady != 0
}

// send answers c with data of an admin command.
func (c *cmd) send(p []byte) {
	if s := c.sink(uint32(len(p))); s != nvme.Success {
		c.finish(s, &c.conn.batch)
		return
	}
	c.release(nil)                                      // data that came with the command
	if c.buf = c.conn.q.keepBuf(len(p)); c.buf != nil { // until the host has taken it
		copy(c.buf, p)
		p = c.buf
	}
	c.n = uint32(len(p))
	c.setData(p)
	c.toHost = true
	c.finish(nvme.Success, &c.conn.batch)
}

// abort executes Abort (base 2.0, section 5.1): only a command that still
// waits, for a buffer or for data from the host, can be aborted. Bit 0 of DW0
// says that it was not. One whose data is due is answered when that is here,
// for the host goes on sending it; it is never executed.
func (ctrl *controller) abort(c *cmd) {
	v := c.sqe.CDW(10)
	sqid, cid := uint16(v), uint16(v>>16)
	c.dw0 = 1
	ctrl.mu.Lock()
	conn := ctrl.io[sqid]
	if sqid == 0 {
		conn = ctrl.admin
	}
	var event *cmd
	if conn == ctrl.admin {
		event = ctrl.events.remove(cid)
	}
	ctrl.mu.Unlock()
	b := &c.conn.batch
	switch {
	case event != nil:
		c.dw0 = 0
		event.finish(nvme.AbortRequested, b)
	case conn != nil:
		m, aborted := conn.q.abortable(cid)
		if aborted {
			c.dw0 = 0
		}
		if m != nil {
			m.finish(nvme.AbortRequested, b)
			conn.q.leaveInflight()
		}
	}
	c.finish(nvme.Success, b)
}
