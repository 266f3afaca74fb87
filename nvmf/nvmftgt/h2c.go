package nvmftgt

import (
	"fmt"

	"github.com/virtual-disk-array/vda/nvme"
)

// initialize answers ICReq.
func (conn *conn) initialize(in []byte) error {
	r, err := nvme.DecodeICReq(in)
	bad := func(at uint32, what string) error {
		return &protocolError{status: nvme.FatalUnsupportedPar, info: at, header: clip(in), what: "ICReq: " + what}
	}
	switch {
	case err != nil:
		return bad(8, err.Error())
	case r.HPDA > 31:
		return bad(10, fmt.Sprintf("HPDA %d", r.HPDA))
	}
	conn.hdgst = r.HeaderDigest && !conn.opts.NoHeaderDigest
	conn.ddgst = r.DataDigest && !conn.opts.NoDataDigest
	conn.tx.align = (int(r.HPDA) + 1) * 4
	conn.phase = phaseConnect
	conn.mu.Lock()
	nvme.PutICResp(conn.tx.out.Header(nvme.ICLen), nvme.ICResp{HeaderDigest: conn.hdgst, DataDigest: conn.ddgst,
		MaxH2CData: conn.opts.maxData})
	conn.tx.mark(&conn.batch)
	conn.mu.Unlock()
	return nil
}

// dataStart begins an H2CData PDU; in is what comes before its data.
func (rx *receiver) dataStart(h nvme.Header, in []byte) error {
	conn := rx.conn
	d, err := nvme.DecodeData(in)
	if err != nil {
		return headerError(in, h, err)
	}
	bad := func(s nvme.FatalStatus, info uint32, what string) error {
		return &protocolError{status: s, info: info, header: clip(in[:h.HLen]), what: fmt.Sprintf("H2CData of command %d: %s", d.CID, what)}
	}
	if d.Length != h.DataLen() {
		return bad(nvme.FatalInvalidHeader, 16, "its length does not fit the PDU's")
	}
	if int(d.TTag) >= len(conn.q.slots) {
		return bad(nvme.FatalInvalidHeader, 10, "unknown transfer tag")
	}
	c := conn.q.slots[d.TTag]
	if c.receiving.Load()&recvOut == 0 || c.sqe.CID() != d.CID {
		return bad(nvme.FatalInvalidHeader, 10, "its transfer tag is not in use")
	}
	if d.Offset != c.got || d.Length > c.n-c.got {
		return bad(nvme.FatalDataRange, 12, fmt.Sprintf("bytes %d+%d where %d of %d were due", d.Offset, d.Length, c.got, c.n))
	}
	last := h.Flags&nvme.FlagLast != 0
	if last != (d.Offset+d.Length == c.n) {
		return bad(nvme.FatalInvalidHeader, 1, "LAST is not on the last data")
	}
	if d.Length == 0 {
		return bad(nvme.FatalInvalidHeader, 16, "no data")
	}
	if c.buf == nil {
		if err := conn.q.takeReserved(c); err != nil {
			return err
		}
	}
	rx.data = dataPDU{c: c, left: int(d.Length), digest: h.Flags&nvme.FlagDDGST != 0, last: last}
	return nil
}

// dataEnd is called when an H2CData PDU is complete.
func (rx *receiver) dataEnd(c *cmd, last bool) error {
	if !last {
		return nil
	}
	c.to(taken)
	rx.conn.q.asked.Add(-1)
	rx.conn.dataReady(c)
	return nil
}
