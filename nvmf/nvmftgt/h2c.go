package nvmftgt

import (
	"fmt"

	"github.com/virtual-disk-array/vda/nvme"
)

// initialize answers ICReq.
func (k *conn) initialize(in []byte) error {
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
	k.hdgst = r.HeaderDigest && !k.opts.NoHeaderDigest
	k.ddgst = r.DataDigest && !k.opts.NoDataDigest
	k.tx.align = (int(r.HPDA) + 1) * 4
	k.phase = phaseConnect
	k.mu.Lock()
	nvme.PutICResp(k.tx.out.Header(nvme.ICLen), nvme.ICResp{HeaderDigest: k.hdgst, DataDigest: k.ddgst, MaxH2CData: k.opts.maxData})
	k.tx.mark(&k.batch)
	k.mu.Unlock()
	return nil
}

// dataStart begins an H2CData PDU; in is what comes before its data.
func (rx *receiver) dataStart(h nvme.Header, in []byte) error {
	k := rx.k
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
	if int(d.TTag) >= len(k.q.slots) {
		return bad(nvme.FatalInvalidHeader, 10, "unknown transfer tag")
	}
	c := k.q.slots[d.TTag]
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
		if err := k.q.takeReserved(c); err != nil {
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
	rx.k.q.asked.Add(-1)
	rx.k.dataReady(c)
	return nil
}
