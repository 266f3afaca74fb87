package nvmftgt

import (
	"fmt"

	"github.com/virtual-disk-array/vda/bdev"
	"github.com/virtual-disk-array/vda/nvme"
)

// maxAdminData bounds what a host may send with an admin command, bytes.
const maxAdminData = 8192

// capsule takes a command. in is the whole PDU; its data stays valid until
// the pass goes on.
func (conn *conn) capsule(h nvme.Header, in []byte) error {
	c := conn.q.slot()
	if c == nil {
		return &protocolError{status: nvme.FatalSequence, header: clip(in[:h.HLen]),
			what: fmt.Sprintf("more than %d commands at once", conn.q.size)}
	}
	c.sqe = nvme.Command(in[nvme.HeaderLen : nvme.HeaderLen+nvme.CommandLen])
	var data []byte
	if n := h.DataLen(); n > 0 {
		data = in[h.PDO : uint32(h.PDO)+n]
		if h.Flags&nvme.FlagDDGST != 0 && nvme.Digest(in[uint32(h.PDO)+n:]) != nvme.UpdateDigest(0, data) {
			c.finish(nvme.TransientTransport, &conn.batch)
			return nil
		}
	}
	if p := c.sqe.PSDT(); (p == 0 || p == 3) && c.sqe.Opcode() != nvme.OpFabrics {
		c.finish(nvme.InvalidField|nvme.DNR, &conn.batch)
		return nil
	}
	if conn.q.id == 0 || conn.phase != phaseReady || c.sqe.Opcode() == nvme.OpFabrics {
		conn.adminCapsule(c, data)
		if conn.q.farewell != nil {
			return errDisconnect
		}
		return nil
	}
	conn.io(c, data)
	return nil
}

// source checks the SGL of a command that takes need bytes from the host.
// When they are in the capsule it returns them; otherwise the host is to be
// asked (base 2.0, section 4.1.2; transport 1.0, section 3.4.1).
func (c *cmd) source(need uint32, data []byte) ([]byte, nvme.Status) {
	sgl := c.sqe.SGL()
	switch sgl.ID {
	case nvme.SGLInCapsule:
		if sgl.Address > uint64(len(data)) {
			return nil, nvme.InvalidSGLOffset | nvme.DNR
		}
		data = data[sgl.Address:]
		if sgl.Length < need || uint64(sgl.Length) > uint64(len(data)) {
			return nil, nvme.DataSGLLengthInvalid | nvme.DNR
		}
		return data[:need], nvme.Success
	case nvme.SGLTransport:
		if sgl.Length < need {
			return nil, nvme.DataSGLLengthInvalid | nvme.DNR
		}
		return nil, nvme.Success
	}
	return nil, nvme.SGLTypeInvalid | nvme.DNR
}

// sink checks the SGL of a command that sends need bytes to the host.
func (c *cmd) sink(need uint32) nvme.Status {
	sgl := c.sqe.SGL()
	if sgl.ID != nvme.SGLTransport {
		return nvme.SGLTypeInvalid | nvme.DNR
	}
	if sgl.Length < need {
		return nvme.DataSGLLengthInvalid | nvme.DNR
	}
	return nvme.Success
}

// receive asks the host for c's n bytes; dataReady follows.
func (c *cmd) receive() {
	if !c.conn.q.reserve(int(c.n)) {
		c.park()
		return
	}
	c.reserved = bdev.BufferBytes(int(c.n))
	c.to(receiving)
	c.conn.sendR2T(c, &c.conn.batch)
}

// fromHost reports whether c's data comes from the host.
func (c *cmd) fromHost() bool {
	if op := c.sqe.Opcode(); op != nvme.OpFabrics {
		return op.Transfer() == nvme.HostToController
	}
	return uint8(c.sqe.FabricsType())&3 == nvme.HostToController
}

// tooEarly is the status that keeps a command from being executed in a phase of
// the connection, or Success.
func (conn *conn) tooEarly(c *cmd) nvme.Status {
	fabrics, t := c.sqe.Opcode() == nvme.OpFabrics, c.sqe.FabricsType()
	switch {
	case conn.phase == phaseReady:
	case conn.phase == phaseAuth && !(fabrics && (t == nvme.FabricsAuthSend || t == nvme.FabricsAuthReceive)):
		return nvme.AuthenticationRequired
	case conn.phase < phaseAuth && !(fabrics && t == nvme.FabricsConnect):
		return nvme.CommandSequenceError | nvme.DNR
	}
	return nvme.Success
}

// adminCapsule takes a command of the admin queue, or a Fabrics command.
func (conn *conn) adminCapsule(c *cmd, data []byte) {
	b := &conn.batch
	op := c.sqe.Opcode()
	if s := conn.tooEarly(c); s != nvme.Success {
		c.finish(s, b)
		return
	}
	if c.sqe.Fused() != 0 { // only of the NVM command set are there pairs
		c.finish(nvme.InvalidField|nvme.DNR, b)
		return
	}
	if conn.q.id == 0 && op != nvme.OpFabrics && !adminCommands[op].of(conn.sub) { // before it sends data
		c.finish(nvme.InvalidOpcode|nvme.DNR, b)
		return
	}
	need := uint32(0)
	if c.fromHost() {
		need = c.sqe.SGL().Length
	}
	if need == 0 {
		conn.admin(c)
		return
	}
	if need > maxAdminData {
		t := c.sqe.FabricsType()
		if op == nvme.OpFabrics && t != nvme.FabricsConnect && (t != nvme.FabricsAuthSend || !conn.authenticates()) { // no other takes data
			c.finish(nvme.InvalidOpcode|nvme.DNR, b)
			return
		}
		c.finish(nvme.DataSGLLengthInvalid|nvme.DNR, b)
		return
	}
	data, s := c.source(need, data)
	if s != nvme.Success {
		c.finish(s, b)
		return
	}
	c.n = need
	if data != nil {
		c.setData(data)
		conn.admin(c)
		return
	}
	if conn.phase < phaseAuth { // a Connect brings its data along
		c.finish(nvme.SGLTypeInvalid|nvme.DNR, b)
		return
	}
	c.receive()
}

// dataReady goes on with a command whose data has arrived by H2CData. What
// kind it is says its opcode, as for data in the capsule: Fabrics commands come
// on every queue.
func (conn *conn) dataReady(c *cmd) {
	switch {
	case conn.q.id != 0 && c.sqe.Opcode() != nvme.OpFabrics:
		conn.ioReady(c, &conn.batch)
	case c.aborted.Load():
		c.finish(nvme.AbortRequested, &conn.batch)
	case c.badData:
		c.finish(nvme.TransientTransport, &conn.batch)
	default:
		conn.admin(c)
	}
}
